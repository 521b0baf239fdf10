"""``ablate cancel``: end what runs or waits for a sweep, on this machine and on the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from ablations.running import precompute
from ablations.store.launchers import launchers_of
from ablations.store.states import QUEUED, RUNNING, UNKNOWN, inspect_stages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from ablations.store.states import StageStates


def cancel(plan: Plan, store: Store, cells: Collection[Cell] | None = None) -> Iterator[str]:
    """End the stages of a sweep that are alive, or those that only ``cells`` need; yields what was done, a line each.

    A stage that other cells need too goes on. Processes of this machine get SIGTERM and keep their last checkpoint;
    jobs are cancelled by ``scancel``.
    """
    precompute_jobs = precompute.on_record(store, plan.nodes)
    stages = inspect_stages(store, {**plan.nodes, **precompute_jobs}, trust=True)
    # First, or they would start the next stage. One that still imports the libraries holds no stage yet.
    launchers = launchers_of(store, plan.name) if cells is None else []
    for owner in launchers:
        if owner.is_here():
            yield f"SIGTERM to the launcher, process {owner.pid} on this machine"
            _terminate(owner.pid)
        else:
            yield f"the launcher is not reached from here, it is {owner}: run the same command there"
    alive = [
        node
        for key, node in (*precompute_jobs.items(), *plan.nodes.items())
        if stages.states[key] in (RUNNING, QUEUED, UNKNOWN)
    ]
    chosen = None if cells is None else {cell.label for cell in cells}
    jobs = [] if cells is not None else _last_jobs(plan, store)
    yield from (f"scancel {job}: the last job of a launch, which would submit what is left" for job in jobs)
    for node in alive:
        label = precompute.label(node) if node.key in precompute_jobs else plan.label(node)
        served = node.meaning["members"] if node.key in precompute_jobs else [node.key]
        users = {cell.label for key in served for cell in plan.users.get(key, ())}
        if chosen is not None and not users <= chosen:
            if users & chosen:
                yield f"kept: {label}: other cells need it"
            continue
        job = stages.jobs.get(node.key)
        if job is not None:
            jobs.append(job)
            yield f"scancel {job}: {label} ({stages.states[node.key]})"
        else:
            yield f"{_end(node, stages)}: {label}"
    if jobs:
        from ablations.slurm import query
        from ablations.slurm.sbatch import scancel

        scancel(*jobs)
        if query.states(jobs) is None:
            yield "the scheduler does not answer; the jobs may still run: run the same command again"
    if not alive and not jobs and not launchers:
        yield "nothing of this sweep is running or queued"


def _last_jobs(plan: Plan, store: Store) -> list[str]:
    """The jobs that end the launches of a sweep, as far as they are alive."""
    if not (store.root / "launches").is_dir():
        return []
    from ablations.slurm import query
    from ablations.store.launches import launches

    cluster_name = query.cluster()
    jobs = [
        array.job
        for launch in launches(store)
        if (launch.sweep, launch.experiment) == (plan.sweep.name, plan.experiment) and launch.cluster == cluster_name
        for array in launch.arrays()
        if not array.keys
    ]
    answers = query.states(jobs)
    return [job for job in jobs if answers is None or answers[job].alive]


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _end(node: StageNode, stages: StageStates) -> str:
    """Ask the process that works on a stage to end; what was done."""
    owner = stages.owners.get(node.key)
    if owner is None or not owner.is_here() or owner.is_dead():
        return f"not reached from here, it is {owner}" if owner else "no process to ask"
    _terminate(owner.pid)
    return f"SIGTERM to {owner}"
