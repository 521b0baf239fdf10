"""How far a sweep is: counts, where each cell stands, what runs where, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ablations.running import precompute
from ablations.running.display import describe
from ablations.store.attempts import LOG, latest
from ablations.store.divergence import notice
from ablations.store.states import (
    BLOCKED,
    DIVERGED,
    DONE,
    FAILED,
    INTERRUPTED,
    NEW,
    QUEUED,
    RUNNING,
    STATES,
    UNKNOWN,
    attempt_record,
    failure,
    inspect_stages,
    progress,
    seconds_left,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from ablations.store.states import StageStates

_MOST_CELLS = 60
_MOST_FAILURES = 10
_TELLING = (DIVERGED, FAILED, RUNNING, UNKNOWN, QUEUED, INTERRUPTED, BLOCKED, NEW, DONE)
"""A cell's state is the first of these that one of its stages has."""
_URGENT = (RUNNING, FAILED, DIVERGED, UNKNOWN, INTERRUPTED, QUEUED, BLOCKED, NEW, DONE)
"""The order of cells where not all can be shown."""


def status(plan: Plan, store: Store) -> dict[str, Any]:
    """The sweep's state as plain values: counts by state, an entry per cell and seed, and stages of note.

    Of note is what runs or waits in a queue, what diverged, and what failed. Artefacts are recognised by their folders
    alone (``states.look``), so that large sweeps are quick to show.
    """
    helpers = precompute.on_record(store, plan.nodes)
    seen = inspect_stages(store, {**plan.nodes, **helpers}, trust=True)
    active = {
        key: _activity(precompute.label(node) if key in helpers else plan.label(node), store, node, seen)
        for key, node in (*helpers.items(), *plan.nodes.items())
        if seen.states[key] in (RUNNING, QUEUED, UNKNOWN)
    }
    ended: dict[str, list[dict[str, Any]]] = {DIVERGED: [], FAILED: []}
    for key, node in plan.nodes.items():
        if seen.states[key] in ended:
            ended[seen.states[key]].append(_ended(plan, store, node, seen))
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "scheduler": _scheduler(seen),
        "states": dict(Counter(seen.states[key] for key in plan.nodes)),
        "cells": [_cell(cell, seen.states, active) for cell in plan.cells],
        "running": [entry for entry in active.values() if entry["state"] == RUNNING],
        "queued": [entry for entry in active.values() if entry["state"] in (QUEUED, UNKNOWN)],
        "diverged": ended[DIVERGED],
        "failures": ended[FAILED],
        "stale": sorted(plan.label(plan.nodes[key]) for key in _stale(plan, store, seen)),
    }


def _stale(plan: Plan, store: Store, seen: StageStates) -> Mapping[str, str]:
    """The queued stages whose jobs wait for nothing but jobs of done stages (``ablations.slurm.stale``)."""
    jobs = {key: job for key in plan.nodes if seen.states[key] == QUEUED and (job := seen.job_state(key)) is not None}
    if not jobs:
        return {}
    from ablations.slurm import query
    from ablations.slurm.stale import stale

    done = {key for key in plan.nodes if seen.states[key] == DONE}
    return stale(store, plan.nodes, done, jobs, query.cluster() or "")


def _scheduler(seen: StageStates) -> str:
    """``not asked``, ``answered`` or ``silent``."""
    if seen.answers.silent:
        return "silent"
    return "answered" if seen.answers.states else "not asked"


def _word(seen: StageStates, key: str) -> str:
    job = seen.job_state(key)
    return f"SLURM job {job.job}: {job.state} {job.reason}".rstrip() if job else "no record"


def _ended(plan: Plan, store: Store, node: StageNode, seen: StageStates) -> dict[str, Any]:
    """A stage that failed or diverged, and why."""
    failed = failure(store, node)
    reason, log = (failed[0], str(failed[1] / LOG)) if failed else (_word(seen, node.key), None)
    return {"label": plan.label(node), "stage": node.stage, "key": node.key, "reason": reason, "log": log}


def _activity(label: str, store: Store, node: StageNode, seen: StageStates) -> dict[str, Any]:
    """What is known of a stage in work or in the queue. Keys that do not apply are null."""
    owner, job = seen.owners.get(node.key), seen.job_state(node.key)
    running = seen.states[node.key] == RUNNING
    report = progress(store, node) if running else None
    folder = latest(store, node.stage, node.key) if running else None
    environment = attempt_record(folder).get("environment") or {} if folder else {}
    return {
        "label": label,
        "stage": node.stage,
        "key": node.key,
        "state": seen.states[node.key],
        "progress": report,
        "seconds_left": seconds_left(report) if report else None,
        "host": owner.host if owner else job.node or None if job and running else None,
        "pid": owner.pid if owner else None,
        "slurm_job": seen.jobs.get(node.key),
        "gpu": environment.get("CUDA_VISIBLE_DEVICES"),
        "reason": job.reason or None if job and not running else None,
    }


def _cell(cell: Cell, found: Mapping[str, str], active: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    states_of_cell = {found[node.key] for node in cell.stages.values()}
    state = next(state for state in _TELLING if state in states_of_cell)
    current = next((node for node in cell.stages.values() if found[node.key] == state != DONE), None)
    work = active.get(current.key, {}) if current else {}
    return {
        "name": cell.name,
        "seed": cell.seed,
        "cell_id": cell.cell_id,
        "state": state,
        "stage": current.stage if current else None,
        "done": sum(found[node.key] == DONE for node in cell.stages.values()),
        "stages": len(cell.stages),
        **{name: work.get(name) for name in ("progress", "seconds_left", "host", "slurm_job", "gpu")},
    }


def alive(found: Mapping[str, Any]) -> bool:
    """True while something runs, waits in a queue, or can not be told."""
    return bool(found["running"] or found["queued"])


def status_lines(found: Mapping[str, Any], most: int = _MOST_CELLS, urgent_first: bool = False) -> Iterator[str]:
    """The state for a person: counts, then up to ``most`` cells, then what failed."""
    counts = ", ".join(f"{found['states'][state]:,} {state}" for state in STATES if state in found["states"])
    total = sum(found["states"].values())
    yield f"{found['sweep']}@{found['experiment']}: {total:,} stages: {counts}"
    if found["scheduler"] == "silent":
        yield "the scheduler does not answer: what it may hold is shown as unknown"
    cells = sorted(found["cells"], key=_urgency) if urgent_first else found["cells"]
    width = max(len(cell["name"]) for cell in cells[:most])
    for cell in cells[:most]:
        seed = "" if cell["seed"] is None else f"seed {cell['seed']}"
        yield f"  {cell['name']:{width}}  {seed:9} {cell['done']}/{cell['stages']} {cell['state']}{_where(cell)}"
    if len(cells) > most:
        yield f"  ... and {len(cells) - most:,} more{'' if urgent_first else ' (--json lists all)'}"
    for entry in (*found["running"], *found["queued"]):
        if entry["stage"] == precompute.AHEAD:
            yield f"  {entry['label']}: {entry['state']}{_where(entry).removeprefix(': ' + precompute.AHEAD)}"
    for entry in found["diverged"][:_MOST_FAILURES]:
        yield f"diverged: {entry['label']}: {entry['reason']}"
    if found["diverged"]:
        yield notice(found["sweep"], [entry["label"] for entry in found["diverged"]])
    if found["stale"]:
        yield (
            f"{len(found['stale']):,} queued stages wait for jobs whose stages are done; if that lasts, SLURM has lost "
            f"the end of those jobs: 'ablate resume {found['sweep']}' frees them"
        )
    for entry in found["failures"][:_MOST_FAILURES]:
        log = f"\n    log: {entry['log']}" if entry["log"] else ""
        yield f"failed: {entry['label']}: {entry['reason']}{log}"
    if found["failures"]:
        more = len(found["failures"]) - _MOST_FAILURES
        yield f"{f'... and {more:,} more failed; ' if more > 0 else ''}'ablate failures {found['sweep']}' groups them"


def _urgency(cell: Mapping[str, Any]) -> int:
    return _URGENT.index(cell["state"])


def _where(cell: Mapping[str, Any]) -> str:
    """What a cell does now and where: ``: train 30/60 steps, 2 per second, 15 s left, on node7, job 12_3, GPU 0``."""
    if cell["stage"] is None:
        return ""
    parts = [f"{cell['stage']} {describe(cell['progress'])}" if cell["progress"] else cell["stage"]]
    if cell["host"]:
        parts.append(f"on {cell['host']}")
    if cell["slurm_job"]:
        parts.append(f"job {cell['slurm_job']}")
    if cell["gpu"]:
        parts.append(f"GPU {cell['gpu']}")
    return f": {', '.join(parts)}"
