"""Which stages have a job in the queue, and what a killed launcher left half submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.slurm import query
from ablations.slurm.launches import latest_jobs, launches
from ablations.slurm.sbatch import scancel
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.keys import StageNode
    from ablations.slurm.query import JobState
    from ablations.store.artefacts import Store

CONTROLLER_UNREACHABLE = "the SLURM controller does not answer (try 'squeue'); nothing was submitted"


def queued_jobs(store: Store, left: Mapping[str, StageNode], here: str) -> dict[str, JobState]:
    """Key -> job and its state, of every stage in ``left`` that runs or waits in the queue and can still come to run.

    A job that waits for a stage which is neither done nor in the queue does not count: SLURM is about to drop it.

    Args:
        store: where the launches are recorded.
        left: the stages that are not done by key, inputs before their users.
        here: the name of this cluster; jobs of another one are not seen from here.

    Raises:
        UserError: the controller does not answer.
    """
    held = {key: ticket.job for key, ticket in latest_jobs(store).items() if key in left and ticket.cluster == here}
    states = query.states(held.values())
    if states is None:
        raise UserError(CONTROLLER_UNREACHABLE)
    found: dict[str, JobState] = {}
    for key, node in left.items():
        state = states[held[key]] if key in held else None
        if state is None or not state.alive:
            continue
        doomed = any(up in left and up not in found for up in node.inputs.values())
        if state.state in query.ACTIVE or not doomed:
            found[key] = state
    return found


def cancel_incomplete(store: Store, here: str) -> None:
    """Cancel what a launcher left that was killed between submitting an array and setting it free."""
    for launch in launches(store):
        if launch.cluster != here:
            continue
        for number, array in launch.records():
            if not array.complete:
                scancel(*([array.job] if array.job else ["--me", f"--name={array.name}"]))
                launch.forget(number)
