"""Submit what is left of a sweep to SLURM, and exit: no process of this project stays on the login node."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid.settings import typed
from ablations.running import finalize, snapshot
from ablations.running.precompute import groups
from ablations.running.processes import count_of
from ablations.slurm import finish_file, query
from ablations.slurm.canary import Canary
from ablations.slurm.limits import limits, limits_of
from ablations.slurm.queue import Queue, cancel_incomplete
from ablations.slurm.stale import free, stale
from ablations.slurm.submit_lock import submit_lock
from ablations.store import divergence
from ablations.store.jobs import QSD, load_table
from ablations.store.launches import begin
from ablations.store.liveness import queued_jobs
from qsd.errors import UserError
from qsd.printable import is_printable, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from ablations.grid.keys import StageNode, StageTable
    from ablations.planning.plan import Plan
    from ablations.running.precompute import PrecomputeGroup
    from ablations.slurm.profile import Profile
    from ablations.store.artefacts import Store
    from ablations.store.launches import Launch
    from ablations.store.scheduler import JobState

_PROGRAMS = ("squeue", "sbatch", "srun", "scontrol", "scancel")


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submission.

    Attributes:
        launch: its record; None if there was nothing to submit.
        arrays: calls of sbatch, without the last job and the canary.
        jobs: stages submitted.
        rehearsed: stages of the canary submitted.
        queued: stages that have a job from an earlier launch.
        freed: how many of these jobs waited for the end of a job whose stage is done (``ablations.slurm.stale``).
        later: stages beyond the site's limit; the last job of the launch submits them.
        precomputes: processes submitted, which do the common work of stages beforehand.
        diverged: a line about trainings that diverged and were therefore left out; empty without any.
    """

    launch: Launch | None
    arrays: int = 0
    jobs: int = 0
    rehearsed: int = 0
    queued: int = 0
    freed: int = 0
    later: int = 0
    precomputes: int = 0
    diverged: str = ""

    def __str__(self) -> str:
        lines = [self.diverged] if self.diverged else []
        if self.launch is not None:
            lines.append(f"submitted {self.jobs:,} stages in {self.arrays:,} arrays ({self.launch.folder})")
        if self.precomputes:
            lines.append(
                f"{self.precomputes:,} precompute jobs run first; the stages that share their work wait for them"
            )
        if self.rehearsed:
            lines.append(
                f"{self.rehearsed:,} stages of a rehearsal go first (runs/dryrun); training waits for its shape"
            )
        if self.queued:
            lines.append(f"{self.queued:,} stages were in the queue already")
        if self.freed:
            lines.append(
                f"{self.freed:,} of these waited for jobs that SLURM has not seen end, although their stages are done; "
                "they are released"
            )
        if self.later:
            lines.append(f"{self.later:,} stages are beyond the limit of the queue; the last job submits them")
        if self.launch is None and not self.queued:
            rest = ", diverged or waits for one that did" if self.diverged else ""
            lines.append(f"nothing to submit: every stage is done{rest}")
        return "\n".join(lines)


def submit(
    plan: Plan,
    store: Store,
    profile: Profile,
    arguments: Mapping[str, Any],
    last_job: Callable[[str], None],
    table: str = QSD,
    canary: bool = False,
    only: Container[str] | None = None,
) -> Submitted:
    """Submit every stage that is neither done nor in the queue, nor diverged, nor waits for one that diverged.

    Args:
        plan: what to run.
        store: where results are kept; on a disk that nodes see.
        profile: the site.
        arguments: what selects the same sweep again: {"name", "experiment", "seeds", "settings"} of the command line.
        last_job: what the last job of the launch calls with the path of its file: ``finish_job.run``. It submits
            again where the queue had no room, so this module cannot import it.
        table: module with the stage table.
        canary: rehearse each shape first; training waits for it.
        only: keys of the stages to submit, if not all; one whose inputs are not coming is left out. A training that
            diverged and is named here is submitted again.

    Raises:
        UserError: no SLURM on this machine, or it refused; what was submitted stays, and the same call continues.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise UserError(f"no SLURM on this machine ({missing[0]} is not found); use a login node, or --cluster local")
    place = store.root.resolve()
    if "%" in str(place):
        raise UserError(f"{place}: SLURM replaces '%' in the paths of its logs; choose a folder without it (--runs)")
    if not is_printable(f"{place}{Path.cwd()}"):  # a line break in it would begin another line of sbatch's script
        raise UserError(f"{printable(str(place))}: sbatch takes no such characters; choose another folder (--runs)")
    cluster = query.cluster()
    if cluster is None:
        raise UserError(query.CONTROLLER_UNREACHABLE)
    with submit_lock(store):
        try:
            return _submit(plan, store, profile, arguments, last_job, table, canary, only, cluster)
        except OSError as error:
            raise UserError(
                f"{error.filename or store.root}: {error.strerror}; what was submitted before stays in the queue, "
                "and the same command continues once that is fixed"
            ) from None


def _submit(
    plan: Plan,
    store: Store,
    profile: Profile,
    arguments: Mapping[str, Any],
    last_job: Callable[[str], None],
    table: str,
    canary: bool,
    only: Container[str] | None,
    cluster: str,
) -> Submitted:
    """As :func:`submit`, while no other launcher submits; ``cluster`` is the name of this cluster."""
    # First, so that an array which a killed launcher left held does not count as queued.
    cancel_incomplete(store, cluster)
    rehearsal = Canary(plan, store, table) if canary else None
    if rehearsal:
        cancel_incomplete(rehearsal.store, cluster)
    chosen = choose(plan, store, profile, table, rehearsal, only, cluster)
    freed = free(stale(store, chosen.left, plan.nodes.keys() - chosen.left.keys(), chosen.states, cluster))
    queued = len(chosen.queued)
    if not chosen.now:
        return Submitted(None, queued=queued, freed=freed, diverged=chosen.diverged)
    # Nothing was written so far: all that a user can have got wrong was checked above.
    code = snapshot.take(snapshot.CODE, store)
    for warning in code.warnings:
        print(f"warning: {warning}")
    about = ({**arguments, "table": table}, str(profile.path), cluster, code.id)
    launch = begin(store, plan.sweep.name, plan.experiment, *about)
    folder = finalize.write_cells(plan, store, finalize.commit_of(Path.cwd()))
    queue = Queue(launch, store, profile, code.path, table, chosen.largest)
    dry = None
    if rehearsal:
        dry_launch = begin(rehearsal.store, plan.sweep.name, plan.experiment, *about)
        dry = Queue(dry_launch, rehearsal.store, profile, code.path, table, chosen.largest)
    jobs = fill(chosen, queue, dry)
    later = len(chosen.todo) - len(chosen.now)
    queue.submit_last(last_job, finish_file.write(launch, plan, store, folder, later), last_arrays(plan, jobs))
    precomputes = sum(len(group.processes) for group in chosen.precomputes)
    rehearsed = len(chosen.rehearsed)
    return Submitted(
        launch, queue.arrays, len(chosen.now), rehearsed, queued, freed, later, precomputes, chosen.diverged
    )


@dataclass(frozen=True)
class Submission:
    """What a submission has to do, before anything is written or submitted.

    Attributes:
        left: stages that are not done, by key.
        states: key -> job of those that have one in the queue.
        todo: stages to submit.
        now: those of them that the queue has room for.
        precomputes: common work that is done before them.
        largest: elements of one array.
        diverged: a line about trainings that are left out since they diverged; empty without any.
        rehearsal: the canary, if there is one.
        rehearsed: its stages to submit.
        rehearsed_queued: key -> job of its stages that are in the queue already.
    """

    left: Mapping[str, StageNode]
    states: Mapping[str, JobState]
    todo: Mapping[str, StageNode]
    now: Mapping[str, StageNode]
    precomputes: Sequence[PrecomputeGroup]
    largest: int
    diverged: str
    rehearsal: Canary | None
    rehearsed: Mapping[str, StageNode]
    rehearsed_queued: Mapping[str, str]

    @property
    def queued(self) -> dict[str, str]:
        """Key -> id of the job of each stage that is in the queue."""
        return _jobs(self.states)


def choose(
    plan: Plan,
    store: Store,
    profile: Profile,
    table: str,
    rehearsal: Canary | None,
    only: Container[str] | None,
    cluster: str | None,
) -> Submission:
    """The stages to submit; arguments as of :func:`submit`.

    Without a ``cluster`` nothing is asked of SLURM: no stage counts as queued, and the limits are those of the profile.

    Raises:
        UserError: the controller does not answer, the queue is full, or a stage cannot run in its processes.
    """
    left, states = _left_and_queued(plan, store, cluster)
    # What a user names (``ablate retry``) is tried again, also where it diverged.
    diverged = {} if only is not None else divergence.diverged_stages(store, left)
    todo = _todo(left, {*states, *diverged}, states, only)
    labels = [plan.label(left[key]) for key in diverged if key not in states]
    about_diverged = divergence.notice(typed(plan.sweep), labels) if labels else ""
    if not todo:
        return Submission(left, states, {}, {}, [], 1, about_diverged, rehearsal, {}, {})
    dry_left, dry_states = _left_and_queued(rehearsal.plan, rehearsal.store, cluster) if rehearsal else ({}, {})
    dry_todo = _todo(dry_left, dry_states, dry_states)
    for node in (*todo.values(), *dry_todo.values()):  # before anything is written or submitted
        count_of(node.stage, node.values, load_table(table), profile.resources(node.stage).gpus)
    bounds = limits(profile) if cluster is not None else limits_of(profile)
    room = bounds.room - len(dry_todo) - 1  # one job for the last one, which writes the tables
    now, precomputes = fitting(todo, load_table(table), room, bounds.array)
    if not now:
        raise UserError(
            f"the queue has room for {bounds.room} more of your jobs, which is not enough (see max_submit in "
            f"{profile.path}); run the same command again when some have ended"
        )
    return Submission(
        left, states, todo, now, precomputes, bounds.array, about_diverged, rehearsal, dry_todo, _jobs(dry_states)
    )


def fill(chosen: Submission, queue: Queue, dry: Queue | None) -> dict[str, str]:
    """Put the chosen stages into the queue, a rehearsal first; key -> job of the stages and of those queued before."""
    holds: Mapping[str, Sequence[str]] = {}
    if chosen.rehearsal and dry:
        holds = chosen.rehearsal.holds(chosen.now, dry.submit(chosen.rehearsed, chosen.rehearsed_queued, {}))
    return queue.submit(chosen.now, chosen.queued, holds, chosen.precomputes)


def fitting(
    todo: Mapping[str, StageNode], table: StageTable, room: int, largest: int
) -> tuple[dict[str, StageNode], list[PrecomputeGroup]]:
    """As many stages, in their order, as the queue has room for, and the precomputes before them.

    Precomputes are left out where they would leave no room for stages.
    """
    now = dict(list(todo.items())[: max(0, room)])
    while now:
        precomputes = groups(now, table, largest)
        # Fewer stages may also need fewer precomputes, so the groups are formed again for each try.
        over = len(now) + sum(len(group.processes) for group in precomputes) - room
        if over <= 0:
            return now, precomputes
        if over >= len(now):  # the stages themselves matter more than the work that they could share
            return now, []
        now = dict(list(now.items())[:-over])
    return now, []


def _left_and_queued(plan: Plan, store: Store, cluster: str | None) -> tuple[dict[str, StageNode], dict[str, JobState]]:
    """The stages that are not done, and key -> job of those that have one in the queue."""
    present = {stage: store.present(stage) for stage in plan.order}  # one listing instead of a look per stage
    left = {
        key: node
        for key, node in plan.nodes.items()
        if key not in present[node.stage] or not store.is_done(node.stage, key)
    }
    jobs = {} if cluster is None else queued_jobs(store, left, cluster)
    if jobs is None:
        raise UserError(query.CONTROLLER_UNREACHABLE)
    return left, jobs


def _todo(
    left: Mapping[str, StageNode],
    kept_out: Container[str],
    queued: Container[str],
    only: Container[str] | None = None,
) -> dict[str, StageNode]:
    """The stages to submit: of those that are not done, the ones that are not ``kept_out`` and whose inputs come."""
    todo: dict[str, StageNode] = {}
    for key, node in left.items():
        # Inputs stand before their users in ``left``, so ``todo`` is known for them by now.
        coming = all(up not in left or up in queued or up in todo for up in node.inputs.values())
        if key not in kept_out and coming and (only is None or key in only):
            todo[key] = node
    return todo


def _jobs(states: Mapping[str, JobState]) -> dict[str, str]:
    return {key: state.job for key, state in states.items()}


def last_arrays(plan: Plan, jobs: Mapping[str, str]) -> list[str]:
    """The arrays of the jobs that no other job waits for."""
    needed = {up for key in jobs for up in plan.nodes[key].inputs.values()}
    return list(dict.fromkeys(job.partition("_")[0] for key, job in jobs.items() if key not in needed))
