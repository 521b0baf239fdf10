"""How much a site takes at once: elements of one array, and jobs of one user in the queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.slurm import query
from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.slurm.profile import Profile


_MAX_ARRAY, _MAX_JOBS = 1001, 10_000
"""SLURM's own defaults."""


@dataclass(frozen=True)
class Limits:
    """What may be submitted now.

    Attributes:
        array: elements of one array.
        room: jobs, counting every element of an array.
    """

    array: int
    room: int


def limits(profile: Profile) -> Limits:
    """The limits of the profile, or those of the controller where the profile leaves them open.

    Raises:
        UserError: the controller does not answer.
    """
    config = query.config()
    queued = query.queued()
    if config is None or queued is None:
        raise UserError(query.CONTROLLER_UNREACHABLE)
    tasks = re.search(r"max_array_tasks=(\d+)", config.get("SchedulerParameters", ""))
    site = min(_number(config, "MaxArraySize", _MAX_ARRAY), int(tasks[1]) if tasks else 2**31)
    most = profile.max_submit or _number(config, "MaxJobCount", _MAX_JOBS)
    return Limits(array=max(1, min(site, profile.max_array_size or site)), room=max(0, most - queued))


def limits_of(profile: Profile) -> Limits:
    """The limits of the profile, with SLURM's defaults where it leaves them open; nothing is asked."""
    return Limits(array=profile.max_array_size or _MAX_ARRAY, room=profile.max_submit or _MAX_JOBS)


def _number(config: dict[str, str], name: str, default: int) -> int:
    value = config.get(name, "").split()
    return int(value[0]) if value and value[0].isdecimal() else default
