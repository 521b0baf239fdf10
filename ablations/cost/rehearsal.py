"""``ablate dryrun``: run the rehearsal of a sweep here, measure it, and say what the whole sweep would take."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.cost.pair_counts import counted_pairs
from ablations.cost.workload import Counts, RecordedCounts, work_of
from ablations.formatting import format_bytes, format_duration
from ablations.planning.dry_plan import FOLDER, dry_plan, shape
from ablations.recovery.failures import failure_lines, failures
from ablations.running import local
from ablations.running.display import Board, Lines, on_terminal
from ablations.running.processes import count_of
from ablations.running.workers import PRELOAD
from ablations.store.artefacts import Store
from ablations.store.attempts import last_report, latest, outcome
from ablations.store.jobs import QSD, load_table
from ablations.store.liveness import in_use
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ablations.grid.keys import StageNode, StageTable
    from ablations.planning.plan import Plan


@dataclass(frozen=True)
class Measured:
    """One rehearsed stage.

    Attributes:
        node: the stage.
        seconds: from its attempt's start to its end.
        start: of these, before and after its work: loading, writing.
        amount: work that it did (``ablations.cost.workload``).
        unit: of that.
        paced: False if it reported too rarely to separate start from work; then all of it counts as work.
        rss, cuda: most memory, in bytes; None without CUDA.
    """

    node: StageNode
    seconds: float
    start: float
    amount: float
    unit: str
    paced: bool
    rss: int
    cuda: int | None

    def seconds_for(self, amount: float) -> float:
        """What a stage of the same shape with another amount of work would take."""
        return self.start + (self.seconds - self.start) * amount / self.amount


def rehearse(
    plan: Plan,
    store: Store,
    gpus: tuple[str, ...] = (),
    table: str = QSD,
    preload: Sequence[str] = PRELOAD,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the rehearsal of a plan afresh, one stage at a time, and measure it.

    Args:
        plan: the plan in full.
        store: its store; the rehearsal has one of its own inside.
        gpus: GPUs, of which so many are used as the largest stage has processes; without any, what this process sees.
        table: module with the stage table.
        preload: modules that attempts should find imported.
        quiet: print nothing while it runs.

    Returns:
        what was measured, per shape and in total, as plain values.

    Raises:
        UserError: another rehearsal is under way in this store.
    """
    stages = load_table(table)
    dry = dry_plan(plan, stages)
    inner = Store(store.root / FOLDER, stages.key_of)
    _clear(inner)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open(os.devnull, "w")) if quiet else sys.stdout  # noqa: PTH123
        display = stack.enter_context(Board()) if on_terminal() and not quiet else Lines(stream)
        most = max(count_of(node.stage, node.values, stages, None) for node in dry.nodes.values())
        result = local.run(dry, inner, display, 1, table, preload, gpus[:most], together=False)
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
    return _figures(plan, store, dry, inner, stages)


def _clear(inner: Store) -> None:
    """Forget the last rehearsal, so that every stage is executed."""
    alive = in_use(inner)
    if alive.keys or alive.launches:
        raise UserError(f"a rehearsal is under way in {inner.root}; wait for it, or end it with 'ablate cancel'")
    shutil.rmtree(inner.root, ignore_errors=True)


def _figures(plan: Plan, store: Store, dry: Plan, inner: Store, table: StageTable) -> dict[str, Any]:
    counts = Counts(counted_pairs(store, plan.nodes.values()))
    measured: dict[tuple[Any, ...], Measured] = {}
    for node in dry.nodes.values():
        one = _measure(inner, node, counts)
        if one is not None:
            measured.setdefault(shape(node.stage, node.values, table), one)
    full: dict[tuple[Any, ...], list[StageNode]] = {of_shape: [] for of_shape in measured}
    for node in plan.foreseen.values():
        full.get(shape(node.stage, node.values, table), []).append(node)
    rows = [_row(dry, of_shape, one, full[of_shape], counts) for of_shape, one in measured.items()]
    known = [row["full_seconds"] * row["full_stages"] for row in rows]
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "cells": len(dry.cells),
        "shapes": sorted(rows, key=lambda row: plan.order.index(row["stage"])),
        "full_stages": sum(row["full_stages"] for row in rows),
        "full_hours": sum(known) / 3600,
        "not_rehearsed": len(plan.foreseen) - sum(row["full_stages"] for row in rows),
        "failed": failures(dry, inner),
    } | _peaks(rows)


def _peaks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cuda = [row["max_cuda_bytes"] for row in rows if row["max_cuda_bytes"] is not None]
    return {
        "max_rss_bytes": max((row["max_rss_bytes"] for row in rows), default=0),
        "max_cuda_bytes": max(cuda, default=None),
    }


def _measure(inner: Store, node: StageNode, counts: Counts) -> Measured | None:
    folder = latest(inner, node.stage, node.key)
    ending = outcome(folder) if folder else None
    if folder is None or ending is None or ending["state"] != "done":
        return None
    report = last_report(folder)
    seconds, rate = float(ending["seconds"]), float(report["per_second"]) if report else 0.0
    working = min(seconds, report["total"] / rate) if report and rate > 0 else seconds
    recorded = RecordedCounts(inner, {**node.inputs, node.stage: node.key}, counts)
    work = work_of(node.stage, node.values, recorded)
    return Measured(
        node,
        seconds,
        seconds - working,
        work.amount,
        work.unit,
        rate > 0,
        int(ending["max_rss_bytes"]),
        ending.get("max_cuda_bytes"),
    )


def _row(
    dry: Plan, of_shape: tuple[Any, ...], measured: Measured, nodes: Sequence[StageNode], counts: Counts
) -> dict[str, Any]:
    """What was measured of a shape, and what the stages of this shape in the full plan would take."""
    each = [measured.seconds_for(work_of(node.stage, node.values, counts).amount) for node in nodes]
    return {
        "stage": measured.node.stage,
        "label": dry.label(measured.node),
        "shape": [str(part) for part in of_shape[1:]],
        "seconds": round(measured.seconds, 3),
        "start_seconds": round(measured.start, 3),
        "amount": measured.amount,
        "unit": measured.unit,
        "max_rss_bytes": measured.rss,
        "max_cuda_bytes": measured.cuda,
        "full_stages": len(nodes),
        "full_seconds": sum(each) / len(each) if each else 0.0,
        "at_most": not measured.paced,
    }


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """The figures for a person."""
    if figures["failed"]["groups"]:
        yield from failure_lines(figures["failed"])
        yield ""
    width = max((len(row["label"]) for row in figures["shapes"]), default=0)
    yield f"{'rehearsed':{width}}  {'time':>8} {'memory':>8} {'CUDA':>8}   in full: each x stages"
    for row in figures["shapes"]:
        cuda = "" if row["max_cuda_bytes"] is None else format_bytes(row["max_cuda_bytes"])
        most = "at most " if row["at_most"] else "about "
        yield (
            f"{row['label']:{width}}  {row['seconds']:6.1f} s {format_bytes(row['max_rss_bytes']):>8} {cuda:>8}   "
            f"{most}{format_duration(row['full_seconds'])} x {row['full_stages']:,}"
        )
    yield ""
    together = format_duration(3600 * figures["full_hours"])
    yield f"all {figures['full_stages']:,} stages one after the other: about {together}"
    if figures["not_rehearsed"]:
        yield f"{figures['not_rehearsed']:,} stages are of shapes whose rehearsal failed, and not counted"
    yield f"most memory: {format_bytes(figures['max_rss_bytes'])}" + (
        f", on the GPU {format_bytes(figures['max_cuda_bytes'])}" if figures["max_cuda_bytes"] is not None else ""
    )
