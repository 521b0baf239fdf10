"""The sbatch scripts that a launch would submit (``ablate run --dry-run``), by the code that submits them.

What is not known before a submission has a placeholder: ``LAUNCH`` for the launch's id, ``JOB1``, ``JOB2``, ... for the
ids of the arrays in their order, ``UNIQUE`` for the random end of a job's name. Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.running import snapshot
from ablations.slurm import query
from ablations.slurm.canary import Canary
from ablations.slurm.queue import Queue, dependency_of, job_name
from ablations.slurm.submit import choose, fill, last_arrays
from ablations.store.jobs import QSD
from ablations.store.launches import Array, Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ablations.planning.plan import Plan
    from ablations.slurm.arrays import ArrayDependencies
    from ablations.slurm.profile import Profile, Resources
    from ablations.store.artefacts import Store
    from ablations.store.jobs import Job

LAUNCH, JOB, UNIQUE = "LAUNCH", "JOB", "UNIQUE"


@dataclass(frozen=True)
class Script:
    """One call of sbatch.

    Attributes:
        job: the placeholder of its id.
        stage: the kind of stages that it runs.
        elements: how many jobs it makes.
        text: the script.
        updates: commands for scontrol that follow, while the array is held.
    """

    job: str
    stage: str
    elements: int
    text: str
    updates: tuple[str, ...]


class ScriptQueue(Queue):
    """A queue that keeps the scripts instead of submitting them; ``scripts`` is shared by the queues of a launch."""

    def __init__(self, scripts: list[Script], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scripts = scripts

    def _path(self, job: Job) -> str:
        return str(job.path)

    def _put(
        self,
        function: Callable[[str], None],
        paths: Sequence[str],
        stage: str,
        resources: Resources,
        needs: ArrayDependencies | str | None,
        keys: Sequence[str],
    ) -> Array:
        name, job = job_name(stage, self._launch.sweep, UNIQUE), f"{JOB}{len(self.scripts) + 1}"
        dependency, updates = dependency_of(needs)
        text = self._sbatch.script(len(paths), name, resources, dependency, updates)
        commands = (*needs.updates(job), f"release {job}") if not isinstance(needs, str | None) and updates else ()
        self.scripts.append(Script(job, stage, len(paths), text, commands))
        return Array(job, len(paths) == 1, stage, str(resources), keys, name)


@dataclass(frozen=True)
class Scripts:
    """What a launch would submit; ``notes`` are lines about what is not known or left out."""

    scripts: tuple[Script, ...]
    notes: tuple[str, ...]


def scripts(plan: Plan, store: Store, profile: Profile, table: str = QSD, canary: bool = False) -> Scripts:
    """The scripts that ``submit`` would give to sbatch now, in this order; also where there is no SLURM.

    Raises:
        UserError: as ``submit``, where the plan or the profile is the reason.
    """
    cluster = query.cluster()
    rehearsal = Canary(plan, store, table) if canary else None
    chosen = choose(plan, store, profile, table, rehearsal, None, cluster)
    notes = [chosen.diverged] if chosen.diverged else []
    if cluster is None:
        notes.append("no SLURM answers here: jobs in the queue and the limits of the site are not known")
    if not chosen.now:
        return Scripts((), (*notes, "nothing to submit"))
    code = snapshot.planned(snapshot.CODE, store)
    collected: list[Script] = []

    def queue_of(where: Store) -> ScriptQueue:
        launch = _launch(plan, where, profile, cluster or "", code.id)
        return ScriptQueue(collected, launch, where, profile, code.path, table, chosen.largest)

    queue = queue_of(store)
    jobs = fill(chosen, queue, queue_of(rehearsal.store) if rehearsal else None)
    queue.submit_last(print, Path(LAUNCH), last_arrays(plan, jobs))
    later = len(chosen.todo) - len(chosen.now)
    if later:
        notes.append(f"{later:,} stages are beyond the limit of the queue; the last job submits them")
    return Scripts(tuple(collected), (*notes, *(f"warning: {warning}" for warning in code.warnings)))


def _launch(plan: Plan, store: Store, profile: Profile, cluster: str, code: str) -> Launch:
    folder = store.root / "launches" / LAUNCH
    about = (plan.sweep.name, plan.experiment, dict[str, Any](), str(profile.path), cluster, code)
    return Launch(LAUNCH, *about, host="", user="", time="", folder=folder)


def lines(result: Scripts) -> Iterator[str]:
    """The scripts as text, each after a comment with its placeholder; what follows for scontrol as comments."""
    for script in result.scripts:
        jobs = "1 job" if script.elements == 1 else f"an array of {script.elements:,} jobs"
        yield f"# ---- {script.job}: {script.stage}, {jobs}"
        yield script.text.rstrip("\n")
        for command in script.updates:
            yield f"# then: scontrol {command}"
        yield ""
    for note in result.notes:
        yield f"# note: {note}"
