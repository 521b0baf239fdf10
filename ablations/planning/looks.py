"""Seeds that stop: which seeds of a sweep are needed, when cells get further seeds only while their answer is open.

A sweep with ``seeds: {looks: [3, 5, 7, 10], margin: 0.01}`` has the cells, stages and keys of ``seeds: [0, ..., 9]``.
What differs is which of them are *needed*:

- At the first look every cell and the baseline have 3 seeds. When all of these are evaluated, each comparison with the
  baseline on the primary scorer and split is decided (``analysis.statistics.looks``): the difference is established,
  or it is within the margin, or it stays open. Cells that are open need the seeds of the next look, and so does the
  baseline while some cell is open; the others have stopped. At the last look all stop.
- **A plan is limited to the needed seeds** (:func:`limited`). It is then a plan like any other, so running, submitting,
  status, retry, gc and tables need to know nothing of looks. What runs the stages makes the plan again
  (``ablations.planning.needed``) when they have ended, and continues if there are more: ``ablate run`` in its loop
  (``ablations.commands.launch``), on a cluster the last job of a launch (``ablations.slurm.finish_job``), or ``ablate
  resume``.
- **Decisions are a pure function of finished artefacts**: the looks are replayed from the first one whenever a plan is
  made, each from the scores of exactly the seeds that it is about. So it does not matter which process decides, when,
  or how often a launcher was killed, and seeds that another sweep has trained are taken as they are. What was decided
  is written down in ``cells.json``, for tables and for readers.
- **A look is taken when it is complete.** A seed that failed or is unfinished holds it: a decision without it would
  depend on which seeds happened to be there. The other cells wait, since the family's seed variance is one number;
  ``ablate failures`` and ``ablate retry`` are the remedy. A *diverged* training is a result: its cell stops at the
  look, without a comparison, and so do all open cells if the baseline diverged; cells that had stopped lose their
  comparison then, as in tables. The same holds for a seed to whose images the primary scorer gave too few numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablations.grid.expand import BASE, Grid
from ablations.planning.look_progress import Progress
from ablations.store.divergence import diverged_stages
from analysis.data.looks import BASELINE_DIVERGED, DIVERGED, NO_SCORES, OPEN, CellLook, Looks
from qsd.config.digest import hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

    Floats = NDArray[np.float64]

_EVALUATE = "evaluate"


def limited(plan: Plan, store: Store) -> Plan:
    """The plan of the seeds that are needed, by what is finished in ``store``; the plan itself if it has no looks.

    Looks begin when the cells have stages: those of a sweep that is tuned have none before their settings are chosen.

    Raises:
        UserError: scores of a finished look are damaged or cannot be compared.
    """
    if plan.sweep.looks is None or plan.looks is not None or plan.is_undecided:
        return plan
    progress = Progress(plan.grid, _replayed(plan, store), _baseline(plan))
    seen: Counter[str] = Counter()
    cells = []
    for cell in plan.cells:
        seen[cell.name] += 1
        if cell.role == BASE or seen[cell.name] <= progress.needed(cell.name):
            cells.append(cell)
    return replace(plan, grid=Grid(tuple(cells), plan.grid.notices), looks=progress)


def _baseline(plan: Plan) -> str:
    return next(cell.name for cell in plan.cells if cell.is_baseline)


def _replayed(plan: Plan, store: Store) -> Looks:
    """Take every look that is complete, in order."""
    assert plan.sweep.looks is not None
    counts, margin = plan.sweep.looks.counts, plan.sweep.looks.margin
    baseline, seeds_of = _baseline(plan), _seeds_of(plan)
    names = [name for name in seeds_of if name != baseline]
    cells = {name: CellLook() for name in names}
    family = len({tuple(cell.stages[_EVALUATE].key for cell in seeds_of[name]) for name in names})
    taken = 0
    while taken < len(counts) and any(cell.is_open for cell in cells.values()):
        used = _used(seeds_of, cells, baseline, counts[taken])
        states = _states(store, used)
        if states is None:
            break
        cells |= _decisions(plan, store, used, cells, states, baseline, taken + 1, family)
        taken += 1
    under_way = any(cell.is_open for cell in cells.values())
    baseline_seeds = counts[taken] if under_way else max((cell.seeds for cell in cells.values()), default=counts[0])
    needed = baseline_seeds + sum(counts[taken] if cell.is_open else cell.seeds for cell in cells.values())
    return Looks(
        counts, margin, family, cells, taken, baseline_seeds, needed, len(seeds_of) * counts[-1], _digest(plan)
    )


def _seeds_of(plan: Plan) -> dict[str, list[Cell]]:
    """Trained cell -> it with each of its seeds, in their order."""
    seeds_of: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        if cell.role != BASE:
            seeds_of.setdefault(cell.name, []).append(cell)
    return seeds_of


def _used(
    seeds_of: Mapping[str, Sequence[Cell]], cells: Mapping[str, CellLook], baseline: str, count: int
) -> dict[str, Sequence[Cell]]:
    """Cell -> it with the seeds that a look of ``count`` seeds is about: a stopped cell with those of its own look."""
    numbers = {name: count if cell.is_open else cell.seeds for name, cell in cells.items()} | {baseline: count}
    return {name: seeds_of[name][:number] for name, number in numbers.items()}


def _states(store: Store, used: Mapping[str, Sequence[Cell]]) -> dict[str, bool] | None:
    """Cell -> whether one of its trainings diverged; None if a seed is neither evaluated nor diverged."""
    diverged: dict[str, bool] = {}
    for name, seeds in used.items():
        diverged[name] = False
        for cell in seeds:
            if store.is_done(_EVALUATE, cell.stages[_EVALUATE].key):
                continue
            left = {node.key: node for node in cell.stages.values() if not store.is_done(node.stage, node.key)}
            if not diverged_stages(store, left):
                return None
            diverged[name] = True
    return diverged


def _decisions(
    plan: Plan,
    store: Store,
    used: Mapping[str, Sequence[Cell]],
    cells: Mapping[str, CellLook],
    diverged: Mapping[str, bool],
    baseline: str,
    look: int,
    family: int,
) -> dict[str, CellLook]:
    """The open cells after a complete look, and the cells whose comparison a diverged baseline has ended."""
    from analysis.statistics.look_scores import Asked, look_differences
    from analysis.statistics.looks import levels, take_look

    assert plan.sweep.looks is not None
    counts = plan.sweep.looks.counts
    open_cells = [name for name, cell in cells.items() if cell.is_open]
    stopped = CellLook(look, counts[look - 1], OPEN, levels(counts, family)[look - 1])
    if diverged[baseline]:
        void = {name: _without_comparison(cell) for name, cell in cells.items() if cell.estimate and not cell.is_open}
        return void | {name: replace(stopped, reason=BASELINE_DIVERGED) for name in open_cells}
    evaluations = {
        name: {int(cell.seed or 0): cell.stages[_EVALUATE].key for cell in seeds}
        for name, seeds in used.items()
        if not diverged[name]
    }
    asked = Asked(store.root, baseline, str(plan.primary["scorer"]), str(plan.primary["split"]))
    differences = look_differences(asked, evaluations)
    compared = [name for name in open_cells if name in differences]
    decided = take_look(differences, compared, counts, look, family, plan.sweep.looks.margin)
    for name in open_cells:
        if name not in decided:
            decided[name] = replace(stopped, reason=DIVERGED if diverged[name] else NO_SCORES)
    return decided


def _without_comparison(cell: CellLook) -> CellLook:
    """A cell that had stopped, after a later training of the baseline diverged: tables compare nothing with it."""
    return replace(cell, reason=BASELINE_DIVERGED, difference=None, estimate=None)


def _digest(plan: Plan) -> str:
    assert plan.sweep.looks is not None
    about: list[Any] = [plan.sweep.looks.counts, plan.sweep.looks.margin]
    return hash_of([*about, sorted([cell.cell_id, cell.seed, cell.role, cell.is_baseline] for cell in plan.cells)])
