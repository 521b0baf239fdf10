"""The state of each stage: from the project's own records first, then the scheduler, each where there is one.

An unanswered question is no answer: a stage whose job the scheduler is silent about is ``unknown``.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.files import read_json
from ablations.slurm.query import WAITING
from ablations.store.artefacts import Store, names_in
from ablations.store.attempts import ATTEMPT, PROGRESS, diverged, latest, outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.grid.keys import StageNode
    from ablations.slurm.launches import LatestJob
    from ablations.slurm.query import JobState
    from ablations.store.owner import Owner

DONE, RUNNING, QUEUED, UNKNOWN = "done", "running", "queued", "unknown"
DIVERGED, FAILED, INTERRUPTED, BLOCKED, NEW = "diverged", "failed", "interrupted", "blocked", "new"
STATES = (DONE, RUNNING, QUEUED, UNKNOWN, DIVERGED, FAILED, INTERRUPTED, BLOCKED, NEW)
_FATAL = ("FAILED", "OUT_OF_MEMORY")
"""How SLURM says that a job ended which would end so again."""


@dataclass(frozen=True)
class StageStates:
    """One inspect_stages at the stages of a plan.

    Attributes:
        states: key -> state. done: a valid artefact. running: an attempt works on it. queued: its job is alive and has
            not started. unknown: it has a job, and the scheduler does not answer. diverged: the latest attempt was a
            training that diverged. failed: the latest attempt failed otherwise. interrupted: it was stopped or ended
            without a record; the next one continues. blocked: waits for a failed or diverged stage. new: never tried.
        owners: key -> who works on it.
        jobs: key -> its latest SLURM job, as far as one is known.
        launches: key -> the launch that submitted that job.
        answers: SLURM job -> what the scheduler says; None if it did not answer.
    """

    states: Mapping[str, str]
    owners: Mapping[str, Owner]
    jobs: Mapping[str, str]
    launches: Mapping[str, str]
    answers: Mapping[str, JobState] | None

    def job_state(self, key: str) -> JobState | None:
        """What the scheduler says of a stage's latest job, if there is one and it answers."""
        return (self.answers or {}).get(self.jobs.get(key, ""))


def states(store: Store, nodes: Mapping[str, StageNode]) -> dict[str, str]:
    """Key -> state of every node, as in :class:`StageStates`; nodes must come inputs first."""
    return dict(inspect_stages(store, nodes).states)


def inspect_stages(store: Store, nodes: Mapping[str, StageNode], trust: bool = False) -> StageStates:
    """StageStates at every node; nodes must come inputs first.

    Args:
        store: where they live.
        nodes: stages by key.
        trust: take an artefact folder for done without reading its record. Folders get there whole, by renaming, so
            only later damage is overlooked; the run itself always checks.
    """
    kinds = {node.stage for node in nodes.values()}
    present = {stage: store.present(stage) for stage in kinds}
    tried = {stage: names_in(store.root / "attempts" / stage) for stage in kinds}
    claimed = names_in(store.claims.folder)
    open_ = {
        key: node
        for key, node in nodes.items()
        if key not in present[node.stage] or not (trust or store.is_done(node.stage, key))
    }
    owners = {key: owner for key in open_ if key in claimed and (owner := store.claims.owner(key)) is not None}
    tickets = _tickets(store, open_)
    answers = _ask(owners, tickets)
    found: dict[str, str] = {}
    for key, node in nodes.items():
        if key not in open_:
            found[key] = DONE
            continue
        state = _claimed(owners.get(key), answers)
        if state is None:
            owners.pop(key, None)
            folder = latest(store, node.stage, key) if key in tried[node.stage] else None
            state = _from_records(folder, tickets.get(key), answers)
        in_vain = any(found.get(up) in (DIVERGED, FAILED, BLOCKED) for up in node.inputs.values())
        blocked = state in (None, QUEUED) and in_vain
        found[key] = BLOCKED if blocked else state or NEW  # SLURM is about to drop a job that waits in vain
    jobs = {key: ticket.job for key, ticket in tickets.items()}
    jobs |= {key: owner.slurm_job for key, owner in owners.items() if owner.slurm_job}
    return StageStates(found, owners, jobs, {key: ticket.launch for key, ticket in tickets.items()}, answers)


def _tickets(store: Store, open_: Mapping[str, StageNode]) -> dict[str, LatestJob]:
    if not (store.root / "launches").is_dir():
        return {}
    from ablations.slurm import launches

    return {key: ticket for key, ticket in launches.latest_jobs(store).items() if key in open_}


def _ask(owners: Mapping[str, Owner], tickets: Mapping[str, LatestJob]) -> dict[str, JobState] | None:
    """One question for all jobs. Jobs of another cluster than the one that answers here stay unanswered."""
    wanted = {owner.slurm_job: owner.cluster for owner in owners.values() if owner.slurm_job}
    wanted |= {ticket.job: ticket.cluster for ticket in tickets.values()}
    if not wanted:
        return {}
    from ablations.slurm import query

    here = query.cluster() if query.available() and any(wanted.values()) else None
    return query.states(job for job, cluster in wanted.items() if not cluster or cluster == here)


def _claimed(owner: Owner | None, answers: Mapping[str, JobState] | None) -> str | None:
    """The state that a claim tells, or None without one, or if its owner is provably gone."""
    if owner is None or owner.is_dead(lambda job: (answers or {}).get(job)):
        return None
    seen_from_here = owner.host == socket.gethostname() or not owner.slurm_job
    return RUNNING if seen_from_here or owner.slurm_job in (answers or {}) else UNKNOWN


def _from_records(folder: Path | None, ticket: LatestJob | None, answers: Mapping[str, JobState] | None) -> str | None:
    """The state of a stage that nobody holds: by its latest attempt and its latest job; None if it has neither."""
    ending = outcome(folder) if folder else None
    job = (answers or {}).get(ticket.job) if ticket else None
    if ending is not None and ending["state"] == FAILED and folder and (ticket is None or _by(folder, ticket)):
        return _ended(ending)
    if ticket is not None and job is None:
        return UNKNOWN
    if job is not None and job.alive:
        return QUEUED if job.state in WAITING else RUNNING
    if ending is None and job is not None and job.state in _FATAL:
        return FAILED
    if folder is None:
        return None
    if ending is None:
        return INTERRUPTED
    return _ended(ending)


def _ended(ending: Mapping[str, Any]) -> str | None:
    """The state of a stage that is not done, by the record of its latest attempt."""
    if diverged(ending):
        return DIVERGED
    return None if ending["state"] == DONE else str(ending["state"])  # done: its artefact was removed or damaged since


def _by(folder: Path, ticket: LatestJob) -> bool:
    """True if an attempt was made by the ticket's job."""
    return (attempt_record(folder).get("slurm") or {}).get("job") == ticket.job


def attempt_record(folder: Path) -> dict[str, Any]:
    """What an attempt wrote when it began; empty if it did not get so far."""
    content = read_json(folder / ATTEMPT)
    return content if isinstance(content, dict) else {}


def progress(store: Store, node: StageNode) -> dict[str, Any] | None:
    """The latest report of a stage: {"done", "total", "unit", "seconds", "per_second"}, or None before the first."""
    folder = latest(store, node.stage, node.key)
    content = read_json(folder / PROGRESS) if folder else None
    return content if isinstance(content, dict) else None


def failure(store: Store, node: StageNode) -> tuple[str, Path] | None:
    """Reason and folder of a stage's latest attempt, if that failed or diverged."""
    folder = latest(store, node.stage, node.key)
    ending = outcome(folder) if folder else None
    if folder is None or ending is None or ending["state"] != FAILED:
        return None
    return str(ending["reason"]), folder


def seconds_left(report: Mapping[str, Any]) -> float | None:
    """Time left by the rate of this attempt, or None while it is not known."""
    rate = float(report["per_second"])
    return (report["total"] - report["done"]) / rate if rate > 0 else None
