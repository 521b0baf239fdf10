"""Jobs that wait for a job whose end SLURM has lost, although the stage they wait for is done.

A controller that crashes forgets what happened since it last saved its state, up to five seconds and more under load. A
job that ended in that time is RUNNING again to the restarted controller (or PENDING, if it had also begun), until the
node registers, with SLURM's defaults half an hour later, or until the job's time limit, which cancels all that waits
for it. Artefacts know better: where all inputs of a stage are done, its job has nothing to wait for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ablations.slurm import query
from ablations.slurm.sbatch import RefusedError, scontrol
from ablations.store.launches import all_jobs
from ablations.store.scheduler import Phase

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store
    from ablations.store.scheduler import JobState

_DEPENDENCY = re.compile(r"after(ok|corr):(\d+)(?:_(\*|\d+))?\(unfulfilled\)")
"""``afterok:4(unfulfilled)``, ``afterok:6_1(unfulfilled)``, ``aftercorr:6_*(unfulfilled)``, as squeue writes it."""


def stale(
    store: Store, nodes: Mapping[str, StageNode], done: Container[str], jobs: Mapping[str, JobState], cluster: str
) -> dict[str, str]:
    """Key -> job of the stages whose jobs wait for nothing but jobs of stages that are done.

    Any job of a done stage looks so for a moment, until SLURM has seen it end. A job that also waits for a
    precompute or for a rehearsal is left alone: artefacts do not show whether those have ended.

    Args:
        store: where the launches are recorded.
        nodes: stages by key.
        done: keys of stages that have a valid artefact.
        jobs: key -> what the scheduler says about the job of a stage.
        cluster: name of the cluster that answered.
    """
    waiting = {key: job.job for key, job in jobs.items() if _may_be_stale(key, job, nodes, done)}
    if not waiting:
        return {}
    dependencies = query.dependencies(waiting.values()) or {}
    stages = _stages(store, cluster)
    stale_jobs: dict[str, str] = {}
    for key, job in waiting.items():
        needed = list(_jobs(dependencies.get(job, ""), job))
        inputs = set(nodes[key].inputs.values())
        if needed and all(stages.get(each) in inputs for each in needed):
            stale_jobs[key] = job
    return stale_jobs


def free(jobs: Mapping[str, str]) -> int:
    """Remove all dependencies of the given jobs (key -> job); returns how many jobs that were."""
    if not jobs:
        return 0
    try:
        scontrol([f"update jobid={job} dependency=" for job in jobs.values()])
    except RefusedError as error:  # most likely one has begun in the meantime; the others are free
        print(f"warning: not every job that waits in vain could be released: {error}", flush=True)
    return len(jobs)


def _may_be_stale(key: str, job: JobState, nodes: Mapping[str, StageNode], done: Container[str]) -> bool:
    """By what is known without asking the scheduler again."""
    inputs = nodes[key].inputs.values()
    return (
        job.phase is Phase.WAITING and job.reason == "Dependency" and bool(inputs) and all(up in done for up in inputs)
    )


def _jobs(dependency: str, job: str) -> Iterator[str]:
    """The jobs that a dependency in squeue's words names; an unknown form is returned as it is, and is no job."""
    _, _, own = job.partition("_")
    for part in filter(None, dependency.split(",")):
        match = _DEPENDENCY.fullmatch(part)
        if match is None:
            yield part
            continue
        kind, array, element = match.groups()
        if element == "*" and kind == "corr":  # aftercorr: each element waits for the one of its own number
            element = own
        yield f"{array}_{element}" if element else array


def _stages(store: Store, cluster: str) -> dict[str, str]:
    """Job -> key of the stage that it runs, of every launch on a cluster."""
    return {job.job: key for key, job in all_jobs(store) if key and job.cluster == cluster}
