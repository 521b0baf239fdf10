"""Submit the stages of a sweep that are still missing, with the settings of an earlier launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid.spec import find_sweep, read_sweep
from ablations.planning.needed import needed
from ablations.planning.plan import make_plan
from ablations.slurm.profile import read_profile
from ablations.slurm.submit import Submitted, submit
from ablations.store.artefacts import Store
from ablations.store.jobs import load_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ablations.planning.plan import Plan


def resubmit(runs: Path, arguments: Mapping[str, Any], profile: str, last_job: Callable[[str], None]) -> Submitted:
    """Submit the stages that are missing.

    Args:
        runs: the store.
        arguments: of the earlier launch (``Launch.arguments``).
        profile: path of its cluster profile.
        last_job: as of ``submit``.

    Raises:
        UserError: as ``submit``, or the sweep's files are damaged or gone.
    """
    plan, store = planned_again(runs, arguments)
    return submit(plan, store, read_profile(Path(profile)), arguments, last_job, arguments["table"])


def planned_again(runs: Path, arguments: Mapping[str, Any]) -> tuple[Plan, Store]:
    """The plan of a sweep as it was launched, with what is needed by now, and its store.

    Args:
        runs: the store.
        arguments: of the launch; without "seeds" the sweep's own, which may be looks.

    Raises:
        UserError: the sweep's files are damaged or gone.
    """
    table = load_table(arguments["table"])
    sweep = read_sweep(find_sweep(arguments["name"]))
    if arguments["seeds"] is not None:
        sweep = replace(sweep, seeds=tuple(arguments["seeds"]), looks=None)
    store = Store(runs, table.key_of)
    return needed(make_plan(sweep, table, arguments["experiment"]), store), store
