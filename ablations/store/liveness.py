"""Who works on stages, and which jobs wait for them: the one place that joins claims, launches and the scheduler.

Three questions are answered from one :func:`survey`: who works on a stage (:meth:`Survey.holder`), which stages have a
job that can still come to run (:func:`queued_jobs`), and what of a store must not be deleted (:func:`in_use`). Nothing
here is judged by age, and no answer of the scheduler is never taken for an end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.json_shapes import fields, mapping, read_shaped, text
from ablations.store.launchers import needed
from ablations.store.launches import all_jobs, launches
from ablations.store.scheduler import Phase, ask
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store
    from ablations.store.launches import LatestJob
    from ablations.store.owner import Owner
    from ablations.store.scheduler import Answers, JobState


@dataclass(frozen=True)
class Survey:
    """Claims and jobs of some stages, with the scheduler's answers to one question about all of them.

    Attributes:
        owners: key -> the owner that a claim names, alive or not.
        jobs: key -> the jobs submitted for the stage, the latest last; a launch's last job, which is for no stage, is
            under the empty key.
        answers: what the scheduler says about these jobs, and about those that the owners are part of.
    """

    owners: Mapping[str, Owner]
    jobs: Mapping[str, list[LatestJob]]
    answers: Answers

    def holder(self, key: str) -> Owner | None:
        """Who works on a stage now, as far as can be proven; None if no process does."""
        owner = self.owners.get(key)
        if owner is None or owner.is_dead(lambda job: self.answers.state(job, owner.cluster)):
            return None
        return owner

    def latest_job(self, key: str) -> LatestJob | None:
        """The job that was last submitted for a stage."""
        return self.jobs[key][-1] if key in self.jobs else None

    def job_state(self, key: str) -> JobState | None:
        """What the scheduler says about the latest job of a stage; None without a job or an answer."""
        job = self.latest_job(key)
        return self.answers.state(job.job, job.cluster) if job else None

    def may_be_alive(self, job: LatestJob) -> bool:
        """False only if the scheduler says that a job has ended."""
        return self.answers.may_be_alive(job.job, job.cluster)


def survey(store: Store, keys: Collection[str] | None = None, cluster: str | None = None) -> Survey:
    """Read claims and launches, and ask the scheduler once.

    Args:
        store: the store.
        keys: the stages to look at, of which the latest job counts; None looks at all stages and all jobs ever
            submitted.
        cluster: look at jobs of this cluster alone; None looks at all.
    """
    claimed = names_in(store.claims.folder)
    chosen = claimed if keys is None else claimed.intersection(keys)
    owners = {key: owner for key in sorted(chosen) if (owner := store.claims.owner(key)) is not None}
    jobs: dict[str, list[LatestJob]] = defaultdict(list)
    for key, job in all_jobs(store):
        if keys is None:
            jobs[key].append(job)
        elif key in keys:
            jobs[key] = [job]  # the latest so far; earlier jobs of a stage have ended, or were cancelled
    if cluster is not None:
        jobs = {key: [job for job in submitted if job.cluster == cluster] for key, submitted in jobs.items()}
    questions = [(owner.slurm_job, owner.cluster) for owner in owners.values() if owner.slurm_job]
    questions += [(job.job, job.cluster) for submitted in jobs.values() for job in submitted]
    return Survey(owners, {key: submitted for key, submitted in jobs.items() if submitted}, ask(questions))


def queued_jobs(store: Store, left: Mapping[str, StageNode], cluster: str) -> dict[str, JobState] | None:
    """Key -> the job of every stage in ``left`` that runs or waits in the queue and can still come to run.

    A job that waits for a stage which is neither done nor in the queue does not count: the scheduler is about to drop
    it.

    Args:
        store: where the launches are recorded.
        left: the stages that are not done by key, inputs before their users.
        cluster: the name of this cluster; jobs of another one are not seen from here.

    Returns:
        None if the scheduler does not answer.
    """
    seen = survey(store, left.keys(), cluster)
    if seen.answers.silent:
        return None
    queued: dict[str, JobState] = {}
    for key, node in left.items():
        state = seen.job_state(key)
        if state is None or not state.alive:
            continue
        in_vain = any(upstream in left and upstream not in queued for upstream in node.inputs.values())
        if state.phase is Phase.ACTIVE or not in_vain:  # a job that has begun waits for nothing any more
            queued[key] = state
    return queued


@dataclass(frozen=True)
class InUse:
    """What of a store is in use; what cannot be proven unused counts as used.

    Attributes:
        keys: stages that a process works on, that have a job, or that a launcher needs which may be alive.
        inputs: artefacts that these stages read.
        launches: ids of launches of which a job may be alive, or which are being submitted.
        silent: True if the scheduler was asked and did not answer.
    """

    keys: frozenset[str]
    inputs: frozenset[str]
    launches: frozenset[str]
    silent: bool


def in_use(store: Store) -> InUse:
    """Look at all claims and launches of a store, with one question to the scheduler."""
    seen = survey(store)
    alive = {key: [job for job in submitted if seen.may_be_alive(job)] for key, submitted in seen.jobs.items()}
    # A process and a job count equally: either may still read its inputs and write its results.
    keys = {key for key in seen.owners if seen.holder(key) is not None}
    keys.update(key for key, jobs in alive.items() if key and jobs)
    keys.update(needed(store))
    living = {job.launch for jobs in alive.values() for job in jobs}
    # A launch that is being submitted has arrays without an id, which the scheduler cannot be asked about.
    living.update(launch.id for launch in launches(store) if any(not array.complete for _, array in launch.records()))
    return InUse(frozenset(keys), frozenset(_inputs(store, keys)), frozenset(living), seen.answers.silent)


def _inputs(store: Store, keys: set[str]) -> set[str]:
    """The inputs of some stages, by their job files."""
    inputs: set[str] = set()
    for stage in names_in(store.root / "jobs"):
        for name in names_in(store.root / "jobs" / stage):
            if name.partition(".")[0] in keys:  # ``<key>.json`` or ``<key>.<snapshot>.json``
                content = read_shaped(store.root / "jobs" / stage / name, fields(inputs=mapping(text)))
                if content is not None:
                    inputs.update(content["inputs"].values())
    return inputs
