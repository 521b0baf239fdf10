"""The status of a sweep: counts of states, the state of each cell, what runs where, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ablations.grid.settings import typed
from ablations.planning.look_lines import looks_as_json
from ablations.planning.needed import progress_lines
from ablations.planning.tuning_summary import tuning_summary
from ablations.running import precompute
from ablations.running.display import describe
from ablations.store.attempts import LOG, latest, origin
from ablations.store.divergence import notice
from ablations.store.launchers import needed
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
    """The sweep's state as plain values: counts by state, an entry per cell and seed, and lists of some stages.

    Listed are stages that run or wait in a queue, that diverged, and that failed. Artefacts are recognised only by
    their folders (``trust``), without reading their records, so that large sweeps are shown quickly.
    """
    helpers = precompute.on_record(store, plan.nodes)
    stage_states = inspect_stages(store, {**plan.nodes, **helpers}, trust=True)
    active = {
        key: _activity(precompute.label(node) if key in helpers else plan.label(node), store, node, stage_states)
        for key, node in (*helpers.items(), *plan.nodes.items())
        if stage_states.states[key] in (RUNNING, QUEUED, UNKNOWN)
    }
    ended: dict[str, list[dict[str, Any]]] = {DIVERGED: [], FAILED: []}
    for key, node in plan.nodes.items():
        if stage_states.states[key] in ended:
            ended[stage_states.states[key]].append(_ended(plan, store, node, stage_states))
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "typed": typed(plan.sweep),
        "scheduler": _scheduler(stage_states),
        "states": dict(Counter(stage_states.states[key] for key in plan.nodes)),
        "looks": looks_as_json(plan.looks) if plan.looks else None,
        "tuning": tuning_summary(plan.tuning) if plan.tuning else None,
        "progress_lines": progress_lines(plan),
        "cells": [_cell(cell, stage_states.states, active) for cell in _shown(plan)],
        "launcher": not plan.nodes.keys().isdisjoint(needed(store)),
        "running": [entry for entry in active.values() if entry["state"] == RUNNING],
        "queued": [entry for entry in active.values() if entry["state"] in (QUEUED, UNKNOWN)],
        "diverged": ended[DIVERGED],
        "failures": ended[FAILED],
        "stale": sorted(plan.label(plan.nodes[key]) for key in _stale(plan, store, stage_states)),
    }


def _shown(plan: Plan) -> list[Cell]:
    """The trials until they have chosen the settings, then the cells of the report; those whose stages are known."""
    return [cell for cell in (plan.all_cells if plan.is_undecided else plan.cells) if cell.stages]


def _stale(plan: Plan, store: Store, stage_states: StageStates) -> Mapping[str, str]:
    """The queued stages whose jobs wait only for jobs of done stages (``ablations.slurm.stale``)."""
    jobs = {
        key: job
        for key in plan.nodes
        if stage_states.states[key] == QUEUED and (job := stage_states.job_state(key)) is not None
    }
    if not jobs:
        return {}
    from ablations.slurm import query
    from ablations.slurm.stale import stale

    done = {key for key in plan.nodes if stage_states.states[key] == DONE}
    return stale(store, plan.nodes, done, jobs, query.cluster() or "")


def _scheduler(stage_states: StageStates) -> str:
    """Whether the scheduler was asked and replied: ``not asked``, ``answered`` or ``silent``."""
    if stage_states.answers.silent:
        return "silent"
    return "answered" if stage_states.answers.states else "not asked"


def _word(stage_states: StageStates, key: str) -> str:
    job = stage_states.job_state(key)
    return f"SLURM job {job.job}: {job.state} {job.reason}".rstrip() if job else "no record"


def _ended(plan: Plan, store: Store, node: StageNode, stage_states: StageStates) -> dict[str, Any]:
    """The entry of a stage that failed or diverged, with the reason and the log."""
    failed = failure(store, node)
    reason, log = (failed[0], str(failed[1] / LOG)) if failed else (_word(stage_states, node.key), None)
    return {"label": plan.label(node), "stage": node.stage, "key": node.key, "reason": reason, "log": log}


def _activity(label: str, store: Store, node: StageNode, stage_states: StageStates) -> dict[str, Any]:
    """The entry of a stage that runs or is queued. Keys that do not apply are null."""
    owner, job = stage_states.owners.get(node.key), stage_states.job_state(node.key)
    owner = owner if owner and owner.is_known else None
    running = stage_states.states[node.key] == RUNNING
    report = progress(store, node) if running else None
    folder = latest(store, node.stage, node.key) if running else None
    environment = origin(folder).get("environment") or {} if folder else {}
    return {
        "label": label,
        "stage": node.stage,
        "key": node.key,
        "state": stage_states.states[node.key],
        "progress": report,
        "seconds_left": seconds_left(report) if report else None,
        "host": owner.host if owner else job.node or None if job and running else None,
        "pid": owner.pid if owner else None,
        "slurm_job": stage_states.jobs.get(node.key),
        "gpu": environment.get("CUDA_VISIBLE_DEVICES"),
        "reason": job.reason or None if job and not running else None,
    }


def _cell(cell: Cell, states: Mapping[str, str], active: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    states_of_cell = {states[node.key] for node in cell.stages.values()}
    state = next(state for state in _TELLING if state in states_of_cell)
    current = next((node for node in cell.stages.values() if states[node.key] == state != DONE), None)
    work = active.get(current.key, {}) if current else {}
    return {
        "name": cell.name,
        "seed": cell.seed,
        "cell_id": cell.cell_id,
        "state": state,
        "stage": current.stage if current else None,
        "done": sum(states[node.key] == DONE for node in cell.stages.values()),
        "stages": len(cell.stages),
        **{name: work.get(name) for name in ("progress", "seconds_left", "host", "slurm_job", "gpu")},
    }


def alive(report: Mapping[str, Any]) -> bool:
    """True while a stage runs, is queued, or has an unknown state, or a launcher is about to start one."""
    return bool(report["running"] or report["queued"] or report["launcher"])


def status_lines(report: Mapping[str, Any], most: int = _MOST_CELLS, urgent_first: bool = False) -> Iterator[str]:
    """The status as text: counts, then up to ``most`` cells, then failures."""
    counts = ", ".join(f"{report['states'][state]:,} {state}" for state in STATES if state in report["states"])
    total = sum(report["states"].values())
    yield f"{report['sweep']}@{report['experiment']}: {total:,} stages: {counts}"
    yield from report["progress_lines"]
    if report["launcher"] and not report["running"]:
        yield "a launcher is at work and no stage runs at this moment; it may still be importing the libraries"
    if report["scheduler"] == "silent":
        yield "the scheduler does not answer: stages that may have a job are shown as unknown"
    cells = sorted(report["cells"], key=_urgency) if urgent_first else report["cells"]
    width = max(len(cell["name"]) for cell in cells[:most])
    for cell in cells[:most]:
        seed = "" if cell["seed"] is None else f"seed {cell['seed']}"
        yield f"  {cell['name']:{width}}  {seed:9} {cell['done']}/{cell['stages']} {cell['state']}{_where(cell)}"
    if len(cells) > most:
        yield f"  ... and {len(cells) - most:,} more{'' if urgent_first else ' (--json lists all)'}"
    for entry in (*report["running"], *report["queued"]):
        if entry["stage"] == precompute.PRECOMPUTE:
            yield f"  {entry['label']}: {entry['state']}{_where(entry).removeprefix(': ' + precompute.PRECOMPUTE)}"
    for entry in report["diverged"][:_MOST_FAILURES]:
        yield f"diverged: {entry['label']}: {entry['reason']}"
    if report["diverged"]:
        yield notice(report["typed"], [entry["label"] for entry in report["diverged"]])
    if report["stale"]:
        yield (
            f"{len(report['stale']):,} queued stages wait for jobs whose stages are done; if this persists, SLURM has "
            f"lost the end of those jobs: 'ablate resume {report['typed']}' releases them"
        )
    for entry in report["failures"][:_MOST_FAILURES]:
        log = f"\n    log: {entry['log']}" if entry["log"] else ""
        yield f"failed: {entry['label']}: {entry['reason']}{log}"
    if report["failures"]:
        more = len(report["failures"]) - _MOST_FAILURES
        yield f"{f'... and {more:,} more failed; ' if more > 0 else ''}'ablate failures {report['typed']}' groups them"


def _urgency(cell: Mapping[str, Any]) -> int:
    return _URGENT.index(cell["state"])


def _where(cell: Mapping[str, Any]) -> str:
    """The current stage of a cell, its progress and where it runs.

    For example ``: train 30/60 steps, 2 per second, 15 s left, on node7, job 12_3, GPU 0``; empty without a stage.
    """
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
