"""``ablate cancel``: end what runs or waits for a sweep, on this machine and on the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ablations.running import precompute
from ablations.store.states import QUEUED, RUNNING, UNKNOWN, inspect_stages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from ablations.store.owner import Owner
    from ablations.store.states import StageStates

_FORK_SERVER = "ablations.running.fork_server"
"""Stands in the command line of the process that a local run forks its attempts from (``running.workers``)."""


def cancel(plan: Plan, store: Store, cells: Collection[Cell] | None = None) -> Iterator[str]:
    """End the stages of a sweep that are alive, or those that only ``cells`` need; yields what was done, a line each.

    A stage that other cells need too goes on. Processes of this machine get SIGTERM and keep their last checkpoint;
    jobs are cancelled by ``scancel``.
    """
    precompute_jobs = precompute.on_record(store, plan.nodes)
    stages = inspect_stages(store, {**plan.nodes, **precompute_jobs}, trust=True)
    if cells is None:  # first, or they would start the next stage
        for pid in sorted({launcher for owner in stages.owners.values() if (launcher := _launcher(owner, plan))}):
            yield f"SIGTERM to the launcher, process {pid} on this machine"
            _terminate(pid)
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
    if not alive and not jobs:
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


def _launcher(owner: Owner, plan: Plan) -> int | None:
    """The local run of this sweep that started an attempt; None if there is none, or it runs another sweep."""
    if owner.host != socket.gethostname() or owner.is_dead():
        return None
    try:
        server = psutil.Process(owner.pid).parent()
        if server is None or not any(_FORK_SERVER in word for word in server.cmdline()):
            return None
        launcher = server.parent()
        words = launcher.cmdline() if launcher is not None else []
    except psutil.Error:  # ended meanwhile, or another user's
        return None
    names_a_sweep = {*words, *(Path(word).stem for word in words)}
    return launcher.pid if launcher is not None and plan.sweep.name in names_a_sweep else None


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _end(node: StageNode, stages: StageStates) -> str:
    """Ask the process that works on a stage to end; what was done."""
    owner = stages.owners.get(node.key)
    if owner is None or owner.host != socket.gethostname() or owner.is_dead():
        return f"not reached from here, it is {owner}" if owner else "no process to ask"
    _terminate(owner.pid)
    return f"SIGTERM to {owner}"
