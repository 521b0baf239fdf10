"""The state of each stage: by the project's own records first, then by the scheduler, where there is one.

A stage whose job the scheduler says nothing about is ``unknown``: no answer is not taken for an end.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.store.attempts import diverged, last_report, latest, origin, outcome
from ablations.store.liveness import survey
from ablations.store.scheduler import Phase
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store
    from ablations.store.liveness import Survey
    from ablations.store.owner import Owner
    from ablations.store.scheduler import Answers, JobState

DONE, RUNNING, QUEUED, UNKNOWN = "done", "running", "queued", "unknown"
DIVERGED, FAILED, INTERRUPTED, BLOCKED, NEW = "diverged", "failed", "interrupted", "blocked", "new"
STATES = (DONE, RUNNING, QUEUED, UNKNOWN, DIVERGED, FAILED, INTERRUPTED, BLOCKED, NEW)


@dataclass(frozen=True)
class StageStates:
    """The states of the stages of a plan at one moment.

    Attributes:
        states: key -> state. done: a valid artefact. running: an attempt works on it. queued: its job is alive and has
            not started. unknown: it has a job, and the scheduler does not answer. diverged: the latest attempt was a
            training that diverged. failed: the latest attempt failed otherwise. interrupted: it was stopped or ended
            without a record; the next one continues. blocked: waits for a failed or diverged stage. new: never tried.
        owners: key -> who works on it.
        jobs: key -> the id of its latest job, as far as one is known.
        launches: key -> the launch that submitted the latest job.
        job_states: key -> what the scheduler says about the latest job, as far as it answered.
        answers: the scheduler's answers.
    """

    states: Mapping[str, str]
    owners: Mapping[str, Owner]
    jobs: Mapping[str, str]
    launches: Mapping[str, str]
    job_states: Mapping[str, JobState]
    answers: Answers

    def job_state(self, key: str) -> JobState | None:
        """What the scheduler says about the latest job of a stage, if there is one and it answers."""
        return self.job_states.get(key)


def states(store: Store, nodes: Mapping[str, StageNode]) -> dict[str, str]:
    """Key -> state of every node, as in :class:`StageStates`; nodes must come inputs first."""
    return dict(inspect_stages(store, nodes).states)


def inspect_stages(store: Store, nodes: Mapping[str, StageNode], trust: bool = False) -> StageStates:
    """The states of all nodes, with at most one question to the scheduler; nodes must come inputs first.

    Args:
        store: where their results are.
        nodes: stages by key.
        trust: take an artefact folder for done without reading its record. Folders get there complete, by renaming, so
            only later damage is overlooked; the run itself always checks.
    """
    kinds = {node.stage for node in nodes.values()}
    present = {stage: store.present(stage) for stage in kinds}
    tried = {stage: names_in(store.root / "attempts" / stage) for stage in kinds}
    left = {
        key: node
        for key, node in nodes.items()
        if key not in present[node.stage] or not (trust or store.is_done(node.stage, key))
    }
    seen = survey(store, left.keys())
    owners = {key: owner for key in left if (owner := seen.holder(key)) is not None}
    states: dict[str, str] = {}
    for key, node in nodes.items():
        if key not in left:
            states[key] = DONE
            continue
        if key in owners:
            state: str | None = _of_owner(owners[key], seen.answers)
        else:
            folder = latest(store, node.stage, key) if key in tried[node.stage] else None
            state = _from_records(folder, key, seen)
        in_vain = any(states.get(upstream) in (DIVERGED, FAILED, BLOCKED) for upstream in node.inputs.values())
        # One that runs, failed or was interrupted keeps its own state, which says more.
        blocked = state in (None, QUEUED) and in_vain
        states[key] = BLOCKED if blocked else state or NEW  # the scheduler is about to drop a job that waits in vain
    submitted = {key: job for key in left if (job := seen.latest_job(key)) is not None}
    jobs = {key: (job.job, job.cluster) for key, job in submitted.items()}
    jobs |= {key: (owner.slurm_job, owner.cluster) for key, owner in owners.items() if owner.slurm_job}
    job_states = {key: answer for key, job in jobs.items() if (answer := seen.answers.state(*job)) is not None}
    return StageStates(
        states,
        owners,
        {key: job for key, (job, _) in jobs.items()},
        {key: job.launch for key, job in submitted.items()},
        job_states,
        seen.answers,
    )


def _of_owner(owner: Owner, answers: Answers) -> str:
    """The state of a stage that an owner works on: unknown for one on another machine whose job is not answered for."""
    if owner.host == socket.gethostname() or not owner.slurm_job:
        return RUNNING
    return RUNNING if answers.state(owner.slurm_job, owner.cluster) is not None else UNKNOWN


def _from_records(folder: Path | None, key: str, seen: Survey) -> str | None:
    """The state of a stage that no process holds: by its latest attempt and its latest job; None if it has neither."""
    ending = outcome(folder) if folder else None
    submitted, job = seen.latest_job(key), seen.job_state(key)
    # A failure counts only if no job was submitted after it: a newer job is another try.
    of_latest_job = folder is not None and (submitted is None or _made_by(folder, submitted.job))
    if ending is not None and ending["state"] == FAILED and of_latest_job:
        return _ended(ending)
    if submitted is not None and job is None:
        return UNKNOWN
    if job is not None and job.alive:
        return QUEUED if job.phase is Phase.WAITING else RUNNING
    # The job ended without a record of its own: killed for its memory, or it never began to run our code.
    if ending is None and job is not None and job.would_fail_again:
        return FAILED
    if folder is None:
        return None
    return INTERRUPTED if ending is None else _ended(ending)


def _ended(ending: Mapping[str, Any]) -> str | None:
    """The state of a stage that is not done, by the record of its latest attempt."""
    if diverged(ending):
        return DIVERGED
    return None if ending["state"] == DONE else str(ending["state"])  # done: its artefact was removed or damaged since


def _made_by(folder: Path, job: str) -> bool:
    """True if an attempt was made by a job."""
    return (origin(folder).get("slurm") or {}).get("job") == job


def progress(store: Store, node: StageNode) -> dict[str, Any] | None:
    """The latest report of a stage, as ``attempts.last_report`` has it; None before the first."""
    folder = latest(store, node.stage, node.key)
    return last_report(folder) if folder else None


def failure(store: Store, node: StageNode) -> tuple[str, Path] | None:
    """Reason and folder of a stage's latest attempt, if that failed or diverged."""
    folder = latest(store, node.stage, node.key)
    ending = outcome(folder) if folder else None
    if folder is None or ending is None or ending["state"] != FAILED:
        return None
    return str(ending["reason"]), folder


def seconds_left(report: Mapping[str, Any]) -> float | None:
    """Seconds left at the rate of this attempt, or None while the rate is not known."""
    rate = float(report["per_second"])
    return (report["total"] - report["done"]) / rate if rate > 0 else None
