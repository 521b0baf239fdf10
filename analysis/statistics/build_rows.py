"""Build the rows of the result table: every cell on every split under every scorer, with its comparisons and marks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.data.pairing import panels
from analysis.data.rows import Row
from analysis.data.sweep import DIVERGED, FAILED, split_order
from analysis.data.training import Trained, trained
from analysis.data.variances import MeanSquares
from analysis.statistics.categories import with_categories
from analysis.statistics.differences import Pairs, align, compare, noise_floor
from analysis.statistics.look_rows import seeds_looked_at, with_base_model, with_baseline
from analysis.statistics.marks import BENJAMINI_HOCHBERG, HOLM, estimates, marks
from analysis.statistics.power import detectable, variances
from qsd.evaluation.embedding_measures import MEASURES

if TYPE_CHECKING:
    from analysis.data.estimate import Estimate
    from analysis.data.load import Results
    from analysis.data.pairing import Panel
    from analysis.data.rows import Comparison
    from analysis.data.sweep import Replicate, SweepFolder


def build_rows(results: Results) -> list[Row]:
    """All rows: held-out splits first, then the primary scorer, then other scorers, then measures on embeddings.

    Within a scorer the order is baseline, grid, controls, base.

    Raises:
        UserError: cells were not evaluated on the same prompts and images.
    """
    sweep = results.sweep
    trainings = {cell: trained(results.runs, sweep.of_cell(cell)) for cell in sweep.cell_names()}
    ordered = sorted(panels(results), key=lambda panel: _place(results, panel))
    return [row for panel in ordered for row in _panel_rows(results, panel, trainings)]


def _place(results: Results, panel: Panel) -> tuple[object, ...]:
    primary = results.sweep.primary
    split = (panel.split != primary.split, *split_order(panel.split))
    return (*split, panel.scorer != primary.scorer, panel.scorer in MEASURES, panel.scorer)


def _panel_rows(results: Results, panel: Panel, trainings: dict[str, Trained]) -> list[Row]:
    sweep = results.sweep
    floor = noise_floor([cube for cube in panel.cells.values() if cube.seeds != (None,)])
    rows = [
        _row(sweep, panel, cell, floor, trainings[cell])
        for cell in sweep.cell_names()
        if panel.scorer in sweep.of_cell(cell)[0].scorers and panel.split in sweep.of_cell(cell)[0].splits
    ]
    family_of_baseline = _family(results, panel, rows, {row.cell: sweep.baseline for row in rows})
    family_of_base = _family(results, panel, rows, {row.cell: sweep.of_cell(row.cell)[0].base for row in rows})
    compared = [
        replace(
            row,
            versus_baseline=family_of_baseline.comparisons.get(row.cell),
            versus_base=family_of_base.comparisons.get(row.cell),
            detectable=family_of_baseline.detectable,
        )
        for row in rows
    ]
    return with_categories(
        compared, panel, results.categories, {row.cell: _evaluations(results, row.cell) for row in rows}
    )


def _row(sweep: SweepFolder, panel: Panel, cell: str, floor: tuple[int, int], training: Trained) -> Row:
    """A cell without its comparisons."""
    replicates = sweep.of_cell(cell)
    cube = panel.cells.get(cell)
    present = cube.seeds if cube else ()
    diverged = tuple(r.seed for r in replicates if r.state == DIVERGED and r.seed is not None)
    failed = {r.seed: reason for r in replicates if (reason := _failure(r, panel))}
    first = replicates[0]
    stopping = sweep.looks.cells.get(cell) if sweep.looks else None
    return Row(
        cell=cell,
        role=first.role,
        is_baseline=first.is_baseline,
        axes=json.dumps(first.axes, sort_keys=True, ensure_ascii=False),
        split=panel.split,
        scorer=panel.scorer,
        primary=(panel.scorer, panel.split) == (sweep.primary.scorer, sweep.primary.split),
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
            _seed_name(r) for r in replicates if r.seed not in (*present, *diverged) and r.seed not in failed
        ),
        diverged_seeds=diverged,
        failed_seeds=tuple(("base" if seed is None else str(seed), why) for seed, why in failed.items()),
        planned_seeds=sum(replicate.seed is not None for replicate in replicates),
        noise_floor=floor,
        detectable=None,
        cell_ids=tuple(replicate.cell_id for replicate in replicates),
        git_commit=sweep.git_commit,
        data_digest=" ".join(sorted({key for r in replicates if (key := r.stages.get("data"))})),
        trained=training,
        look=stopping.look if stopping else None,
        stopped=stopping.reason if stopping and not stopping.is_open else "",
        margin=sweep.looks.margin if sweep.looks else None,
    )


def _failure(replicate: Replicate, panel: Panel) -> str | None:
    """Why a replicate takes no part in a panel, other than that it is not evaluated yet or diverged."""
    if replicate.state == FAILED:
        return replicate.reason or "failed"
    return panel.failed.get((replicate.name, replicate.seed))


def _seed_name(replicate: Replicate) -> str:
    return "base" if replicate.seed is None else str(replicate.seed)


@dataclass(frozen=True)
class _Family:
    """All comparisons with one reference, by cell; ``detectable`` as in :class:`analysis.data.rows.Row`."""

    comparisons: dict[str, Comparison]
    detectable: float | None = None


def _family(results: Results, panel: Panel, rows: list[Row], reference: dict[str, str]) -> _Family:
    """Every trained cell minus its ``reference`` (cell -> cell), with estimates, and marks where no seed is missing.

    Cells whose evaluations are the same count once. A diverged training is a result of its cell, so neither that cell
    nor, where it is the reference, any other is compared. Holm and Benjamini-Hochberg count the whole family, including
    what is not evaluated yet.
    """
    by_cell = {row.cell: row for row in rows}
    family = [
        row.cell
        for row in rows
        if row.role != "base" and row.cell != reference[row.cell] and reference[row.cell] in by_cell
        if not row.diverged and not by_cell[reference[row.cell]].diverged
    ]
    looks = results.sweep.looks
    by_look = looks if rows[0].primary else None
    pairs: dict[str, Pairs] = {}
    for cell in family:
        if cell in panel.cells and reference[cell] in panel.cells:
            pair = align(panel.cells[cell], panel.cells[reference[cell]])
            if pair is not None:
                pairs[cell] = pair.of_first(seeds_looked_at(by_look, cell, len(pair.seeds)))
    compared = dict(zip(pairs, compare(list(pairs.values())), strict=True))

    # Two cells with the same evaluations are one comparison: counting both would correct for a test that is not there.
    identity = {cell: _evaluations(results, cell) for cell in family}
    differences = {
        identity[cell]: pair.differences() for cell, pair in pairs.items() if min(pair.differences().shape) > 1
    }
    if not differences:
        return _Family(compared)
    estimate_of = dict(zip(differences, estimates(list(differences.values())), strict=True))
    if by_look is None:
        compared = _marked(rows, family, reference, identity, compared, estimate_of)
    elif set(reference.values()) == {results.sweep.baseline}:
        compared = with_baseline(by_look, compared)
    else:
        whole = {
            cell: differences[identity[cell]]
            for cell in compared
            if identity[cell] in differences and not by_cell[cell].failed_seeds
        }
        compared = with_base_model(by_look, compared, whole)
    seeds = looks.counts[-1] if looks else max(by_cell[cell].planned_seeds for cell in family)
    observed = [
        MeanSquares(each.seed_variance, each.prompt_variance, each.residual_variance, *differences[key].shape)
        for key, each in estimate_of.items()
    ]
    size = len(set(identity.values()))
    return _Family(compared, detectable(variances(observed), seeds, len(panel.prompts), size))


def _marked(
    rows: list[Row],
    family: list[str],
    reference: dict[str, str],
    identity: dict[str, tuple[str | None, ...]],
    compared: dict[str, Comparison],
    estimate_of: dict[tuple[str | None, ...], Estimate],
) -> dict[str, Comparison]:
    """``compared`` with estimates and marks; ``identity`` is the cell's key in ``estimate_of``."""
    by_cell = {row.cell: row for row in rows}
    complete = {identity[cell] for cell in family if by_cell[cell].complete and by_cell[reference[cell]].complete}
    marked_keys = [key for key in estimate_of if key in complete]
    adjustment = HOLM if rows[0].primary else BENJAMINI_HOCHBERG
    p_values = [estimate_of[key].p for key in marked_keys]
    mark_of = dict(zip(marked_keys, marks(p_values, adjustment, len(set(identity.values()))), strict=True))
    marked = dict(compared)
    for cell, comparison in compared.items():
        key = identity[cell]
        if key in estimate_of:
            marked[cell] = replace(comparison, estimate=estimate_of[key], mark=mark_of.get(key))
    return marked


def _evaluations(results: Results, cell: str) -> tuple[str | None, ...]:
    """The keys of a cell's evaluations, by seed: what is evaluated once is one comparison."""
    return tuple(replicate.stages.get("evaluate") for replicate in results.sweep.of_cell(cell))
