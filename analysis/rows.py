"""Rows of the result table: one per cell, split and scorer, with the origin of every number."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.sweep import DIVERGED, FAILED
from analysis.trained import Trained, trained

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from analysis.load import Results
    from analysis.pairing import Panel
    from analysis.statistics import Pairs
    from analysis.sweep import Replicate


@dataclass(frozen=True)
class Row:
    """One cell on one split under one scorer.

    Attributes:
        primary: this scorer and split decide; the others are exploratory.
        conflicts: why the scorer is no independent judge of this cell; empty where it is one.
        mean: score, mean over seeds, prompts and images; None when no replicate is evaluated, or one diverged.
        versus_baseline: None for the baseline itself and the base model, and where nothing can be compared.
        versus_base: None for the base model, and where nothing can be compared.
        prompts: behind the numbers; images_left_out: had no finite score in some cell, so they count in none;
            left_out_by: those cells, and how many images each.
        seeds: training seeds in ``mean``; missing_seeds: planned and not evaluated yet ("base" for the base model).
        diverged_seeds: whose training diverged; failed_seeds: seed and reason of those that failed otherwise.
        planned_seeds: how many training seeds the sweep asks for.
        noise_floor: (x, y): of all y pairs of training seeds of one recipe, x differ over prompts alone; equal in all
            rows of a scorer and split.
        detectable: the true difference to the baseline that would be marked with a chance of 80 %, by the variances of
            these comparisons, with all planned seeds (``analysis.power``); equal in all rows of a scorer and split;
            None without an estimate.
        cell_ids: of all planned replicates.
        data_digest: key of the data stage; several are joined by spaces.
        trained: what the cell was trained on.
    """

    cell: str
    role: str
    is_baseline: bool
    axes: str
    split: str
    scorer: str
    primary: bool
    revision: str
    unit: str
    conflicts: tuple[str, ...]
    mean: float | None
    versus_baseline: Comparison | None
    versus_base: Comparison | None
    prompts: int
    images_per_prompt: int
    images_left_out: int
    left_out_by: tuple[str, ...]
    seeds: tuple[int, ...]
    missing_seeds: tuple[str, ...]
    diverged_seeds: tuple[int, ...]
    failed_seeds: tuple[tuple[str, str], ...]
    planned_seeds: int
    noise_floor: tuple[int, int]
    detectable: float | None
    cell_ids: tuple[str, ...]
    git_commit: str
    data_digest: str
    trained: Trained

    @property
    def complete(self) -> bool:
        """Every planned replicate is in ``mean``."""
        return not (self.missing_seeds or self.diverged_seeds or self.failed_seeds)

    @property
    def diverged(self) -> bool:
        """A training of this cell diverged: that is its result, and no mean over the others stands for it."""
        return bool(self.diverged_seeds)


def build_rows(results: Results) -> list[Row]:
    """All rows, held-out splits first, within a split the primary scorer first, then baseline, grid, controls, base.

    Raises:
        UserError: cells were not evaluated on the same prompts and images.
    """
    from analysis.pairing import panels

    sweep = results.sweep
    facts = {cell: trained(results.runs, sweep.of_cell(cell)) for cell in sweep.cell_names()}
    ordered = sorted(panels(results), key=lambda panel: _order(results, panel))
    return [row for panel in ordered for row in _panel_rows(results, panel, facts)]


def _order(results: Results, panel: Panel) -> tuple[object, ...]:
    from analysis.sweep import split_order

    primary = results.sweep.primary
    split = (panel.split != primary.split, *split_order(panel.split))
    return (*split, panel.scorer != primary.scorer, panel.scorer)


def _panel_rows(results: Results, panel: Panel, facts: dict[str, Trained]) -> list[Row]:
    from analysis.statistics import noise_floor

    sweep = results.sweep
    primary = (panel.scorer, panel.split) == (sweep.primary.scorer, sweep.primary.split)
    rows: list[Row] = []
    floor = noise_floor([cube for cube in panel.cells.values() if cube.seeds != (None,)])
    for cell in sweep.cell_names():
        replicates = sweep.of_cell(cell)
        if panel.scorer not in replicates[0].scorers or panel.split not in replicates[0].splits:
            continue
        cube = panel.cells.get(cell)
        present = cube.seeds if cube else ()
        diverged = tuple(r.seed for r in replicates if r.state == DIVERGED and r.seed is not None)
        failed = {r.seed: reason for r in replicates if (reason := _failure(r, panel))}
        first = replicates[0]
        rows.append(
            Row(
                cell=cell,
                role=first.role,
                is_baseline=first.is_baseline,
                axes=json.dumps(first.axes, sort_keys=True, ensure_ascii=False),
                split=panel.split,
                scorer=panel.scorer,
                primary=primary,
                revision=panel.revision,
                unit=panel.unit,
                conflicts=tuple(dict.fromkeys(why for r in replicates for why in r.conflicts.get(panel.scorer, ()))),
                mean=cube.mean() if cube and not diverged else None,
                versus_baseline=None,
                versus_base=None,
                prompts=len(panel.prompts) if cube else 0,
                images_per_prompt=cube.values.shape[2] if cube else 0,
                images_left_out=panel.images_left_out,
                left_out_by=tuple(f"{label}: {count}" for label, count in panel.left_out.items()),
                seeds=tuple(seed for seed in present if seed is not None),
                missing_seeds=tuple(
                    _seed(r) for r in replicates if r.seed not in (*present, *diverged) and r.seed not in failed
                ),
                diverged_seeds=diverged,
                failed_seeds=tuple(("base" if seed is None else str(seed), why) for seed, why in failed.items()),
                planned_seeds=sum(replicate.seed is not None for replicate in replicates),
                noise_floor=floor,
                detectable=None,
                cell_ids=tuple(replicate.cell_id for replicate in replicates),
                git_commit=sweep.git_commit,
                data_digest=" ".join(sorted({key for r in replicates if (key := r.stages.get("data"))})),
                trained=facts[cell],
            )
        )
    against_baseline = _family(results, panel, rows, {row.cell: sweep.baseline for row in rows})
    against_base = _family(results, panel, rows, {row.cell: sweep.of_cell(row.cell)[0].base for row in rows})
    return [
        replace(
            row,
            versus_baseline=against_baseline.comparisons.get(row.cell),
            versus_base=against_base.comparisons.get(row.cell),
            detectable=against_baseline.detectable,
        )
        for row in rows
    ]


def _failure(replicate: Replicate, panel: Panel) -> str | None:
    """Why a replicate takes no part in a panel, other than that it is not there yet or diverged."""
    if replicate.state == FAILED:
        return replicate.reason or "failed"
    return panel.failed.get((replicate.name, replicate.seed))


def _seed(replicate: Replicate) -> str:
    return "base" if replicate.seed is None else str(replicate.seed)


@dataclass(frozen=True)
class _Family:
    """All comparisons with one reference, by cell; ``detectable`` as in :class:`Row`."""

    comparisons: dict[str, Comparison]
    detectable: float | None = None


def _family(results: Results, panel: Panel, rows: list[Row], reference: dict[str, str]) -> _Family:
    """Every trained cell minus its ``reference`` (cell -> cell), with estimates, and marks where all seeds are there.

    Cells whose evaluations are the same count once. A diverged training is a result of its cell, so neither that cell
    nor, where it is the reference, any other is compared. Holm and Benjamini-Hochberg count the whole family, also what
    is not there yet.
    """
    from analysis.marks import BENJAMINI_HOCHBERG, HOLM, estimates, marks
    from analysis.power import detectable, variances
    from analysis.statistics import align, compare

    by_cell = {row.cell: row for row in rows}
    family = [
        row.cell
        for row in rows
        if row.role != "base" and row.cell != reference[row.cell] and reference[row.cell] in by_cell
        if not row.diverged and not by_cell[reference[row.cell]].diverged
    ]
    pairs: dict[str, Pairs] = {}
    for cell in family:
        if cell in panel.cells and reference[cell] in panel.cells:
            pair = align(panel.cells[cell], panel.cells[reference[cell]])
            if pair is not None:
                pairs[cell] = pair
    compared = dict(zip(pairs, compare(list(pairs.values())), strict=True))

    identity = {cell: _evaluations(results, cell) for cell in family}
    differences = {
        identity[cell]: pair.differences() for cell, pair in pairs.items() if min(pair.differences().shape) > 1
    }
    if not differences:
        return _Family(compared)
    found = dict(zip(differences, estimates(list(differences.values())), strict=True))
    whole = {identity[cell] for cell in family if by_cell[cell].complete and by_cell[reference[cell]].complete}
    in_order = [each for each in found if each in whole]
    size = len(set(identity.values()))
    adjustment = HOLM if rows[0].primary else BENJAMINI_HOCHBERG
    given = dict(zip(in_order, marks([found[each].p for each in in_order], adjustment, size), strict=True))
    for cell, comparison in compared.items():
        if identity[cell] in found:
            key = identity[cell]
            compared[cell] = replace(comparison, estimate=found[key], mark=given.get(key))
    seeds = max(by_cell[cell].planned_seeds for cell in family)
    return _Family(compared, detectable(variances(list(differences.values())), seeds, len(panel.prompts), size))


def _evaluations(results: Results, cell: str) -> tuple[str | None, ...]:
    """The keys of a cell's evaluations, by seed: what is evaluated once is one comparison."""
    return tuple(replicate.stages.get("evaluate") for replicate in results.sweep.of_cell(cell))
