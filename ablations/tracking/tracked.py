"""One W&B run, whatever it shows: its place in W&B, and what decides whether W&B has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.tracking.times import Times

NONE_SENT = -1
"""The last step of a run of which no row was sent."""


@dataclass(frozen=True)
class TrackedRun(ABC):
    """What W&B lists of a run.

    Attributes:
        run_id: the same for the same sweep, experiment, cell and seed in every attempt.
        group: ``sweep@experiment``.
        job_type: ``grid``, ``control`` or ``base`` for cells, ``report`` for the report of the sweep.
        config: nested, so that no key has a dot.
        times: when and how long it was computed.
        state: digests of everything that is shown but the times: equal states have equal content.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    times: Times
    state: dict[str, Any]

    @abstractmethod
    def log(self, handle: Any, after: int, had: Mapping[str, Any]) -> int:
        """Send the content to an open run of wandb.

        Args:
            handle: the ``wandb.Run``.
            after: the last step whose row W&B has, ``NONE_SENT`` without one.
            had: ``state`` of what W&B has; empty if it has nothing.

        Returns:
            The last step whose row W&B then has.
        """
