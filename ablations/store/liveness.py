"""What of a store is alive: stages that somebody works on or that wait in a queue, and what these read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.files import read_json
from ablations.slurm import query
from ablations.slurm.launches import launches
from ablations.store.artefacts import names_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.slurm.launches import Launch
    from ablations.slurm.query import JobState
    from ablations.store.artefacts import Store


@dataclass(frozen=True)
class InUse:
    """What is alive, as far as nobody can prove the contrary.

    Attributes:
        keys: stages with a live claim or job.
        inputs: artefacts that these read.
        launches: ids of submissions with a live job.
        silent: True if the scheduler was asked and did not answer.
    """

    keys: frozenset[str]
    inputs: frozenset[str]
    launches: frozenset[str]
    silent: bool


def in_use(store: Store) -> InUse:
    """Look at all claims and submissions of a store, with one question to the scheduler."""
    owners = {key: owner for key in names_in(store.claims.folder) if (owner := store.claims.owner(key)) is not None}
    known = launches(store)
    jobs = {owner.slurm_job for owner in owners.values() if owner.slurm_job}
    jobs |= {job for launch in known for job in _jobs(launch)}
    answers = query.states(jobs) if jobs else {}
    here = query.cluster() if jobs and answers is not None else None

    def alive(launch: Launch, job: str) -> bool:
        foreign = bool(launch.cluster) and launch.cluster != here
        return answers is None or foreign or answers[job].alive

    keys = {key for key, owner in owners.items() if not owner.is_dead(lambda job: _answer(answers, job))}
    living: set[str] = set()
    for launch in known:
        if any(not array.complete for _, array in launch.records()) or any(alive(launch, job) for job in _jobs(launch)):
            living.add(launch.id)
        for array in launch.arrays():
            keys.update(key for index, key in enumerate(array.keys) if alive(launch, array.element(index)))
    return InUse(frozenset(keys), frozenset(_inputs(store, keys)), frozenset(living), answers is None)


def _answer(answers: Mapping[str, JobState] | None, job: str) -> JobState | None:
    return None if answers is None else answers.get(job)


def _jobs(launch: Launch) -> list[str]:
    """Every job of a launch, the one that writes its tables included."""
    return [
        array.element(index) if array.keys else array.job
        for array in launch.arrays()
        for index in range(len(array.keys) or 1)
    ]


def _inputs(store: Store, keys: set[str]) -> set[str]:
    """The inputs of some stages, by their job files."""
    found: set[str] = set()
    for stage in names_in(store.root / "jobs"):
        for name in names_in(store.root / "jobs" / stage):
            if name.partition(".")[0] in keys:
                content = read_json(store.root / "jobs" / stage / name)
                if isinstance(content, dict):
                    found.update(content.get("inputs", {}).values())
    return found
