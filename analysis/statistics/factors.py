"""The structure of a sweep with several axes: what each does on average, and where two depend on each other.

A factor is an axis, or several axes that always change together (a ``zip``); an axis whose level another one decides,
as the loss may decide beta, is none, and neither is a setting that was tuned in each cell. With c[v, o] the scores of
the grid cell at level v of a factor and setting o of all others, b the level of the baseline, and the mean over those o
for which all terms exist,

    main effect of v             mean over o of  c[v, o] - c[b, o]
    interaction of v and w       mean over o of  c[v, w, o] - c[v, b', o] - c[b, w, o] + c[b, b', o]

Each is a difference by training seed and prompt, so its interval is that of ``analysis.statistics.marks``, moderated
over the effects of the same factors. Effects are exploratory: they carry p values without correction and no marks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.statistics.marks import estimates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.data.estimate import Estimate
    from analysis.data.pairing import Panel
    from analysis.data.sweep import SweepFolder

    Floats = NDArray[np.float64]
    Levels = tuple[str, ...]

ABSENT = ""
"""The level of an axis that a cell does not have, as one under ``when``."""


@dataclass(frozen=True)
class Factor:
    """Axes that change together.

    Attributes:
        axes: dotted settings.
        levels: each as the JSON of the first axis' value (``ABSENT`` where a cell has none), in the order of the sweep.
        baseline: the level of the baseline, or of the first grid cell where the baseline is no grid cell.
        kinds: for each level, the levels of other axes that it decides and that are no numbers, ``name=spo``; empty
            where there are none. A line over numbers must not join two of them.
    """

    axes: tuple[str, ...]
    levels: tuple[str, ...]
    baseline: str
    kinds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Last parts of the settings: ``rank``, or ``rank+alpha``."""
        return "+".join(axis.rpartition(".")[2] for axis in self.axes)

    def numbers(self) -> list[float] | None:
        """The levels as numbers, in the order of the sweep; None unless there are three numbers or more."""
        values = [json.loads(level) if level else None for level in self.levels]
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        return numbers if len(numbers) == len(values) >= 3 else None


@dataclass(frozen=True)
class FactorGrid:
    """The grid cells of a sweep by their levels: ``cells`` maps one level of each of ``factors`` to a cell."""

    factors: tuple[Factor, ...]
    cells: dict[Levels, str]


@dataclass(frozen=True)
class Effect:
    """A main effect (one factor) or an interaction (two).

    Attributes:
        factors, levels, baselines: of equal length, one or two.
        difference: in the scorer's unit.
        estimate: None with fewer than two seeds or prompts.
        settings: of the other factors, over which it is a mean.
    """

    factors: tuple[str, ...]
    levels: tuple[str, ...]
    baselines: tuple[str, ...]
    difference: float
    estimate: Estimate | None
    settings: int


def grid_of(sweep: SweepFolder) -> FactorGrid:
    """The factors of a sweep with two levels or more, and its grid cells; a diverged cell is not among them."""
    grid = [
        replicate for name in sweep.cell_names() for replicate in sweep.of_cell(name)[:1] if replicate.role == "grid"
    ]
    # The baseline comes first in tables; levels keep the order in which the sweep lists them.
    listed = {replicate.name: number for number, replicate in enumerate(reversed(sweep.replicates))}
    grid.sort(key=lambda replicate: -listed[replicate.name])
    chosen = sweep.tuning.fields if sweep.tuning else frozenset()
    axes = [axis for axis in dict.fromkeys(axis for cell in grid for axis in cell.axes) if axis not in chosen]
    level = {axis: [_level(replicate.axes, axis) for replicate in grid] for axis in axes}
    together: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for axis in axes:
        order = {value: number for number, value in enumerate(dict.fromkeys(level[axis]))}
        together[tuple(order[value] for value in level[axis])].append(axis)
    decided = {signature: group for signature, group in together.items() if _determined(signature, together)}
    together = {signature: group for signature, group in together.items() if signature not in decided}
    reference = next((number for number, replicate in enumerate(grid) if replicate.is_baseline), 0)
    factors = tuple(
        Factor(
            tuple(group),
            tuple(dict.fromkeys(level[group[0]])),
            level[group[0]][reference],
            _kinds(signature, level[group[0]], [(own, level[axes[0]], axes[0]) for own, axes in decided.items()]),
        )
        for signature, group in together.items()
        if len(set(level[group[0]])) > 1
    )
    diverged = {each.name for each in sweep.replicates if each.state == "diverged"}
    cells = {
        tuple(level[factor.axes[0]][number] for factor in factors): replicate.name
        for number, replicate in enumerate(grid)
        if replicate.name not in diverged
    }
    return FactorGrid(factors, cells)


def _determined(signature: tuple[int, ...], others: Iterable[tuple[int, ...]]) -> bool:
    """Whether some other axis alone says which level a cell has, as the loss does of a beta that belongs to it."""
    return any(other != signature and _decides(other, signature) for other in others)


def _decides(signature: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether the level of an axis says which level another one has."""
    return len(set(zip(signature, other, strict=True))) == len(set(signature))


def _kinds(
    signature: tuple[int, ...], levels: Sequence[str], decided: Sequence[tuple[tuple[int, ...], Sequence[str], str]]
) -> tuple[str, ...]:
    """``Factor.kinds`` for a factor with these levels of the grid's cells.

    Args:
        signature: of the factor.
        levels: of the grid's cells, by its first axis.
        decided: signature, levels and name of every axis that some other one decides.
    """
    named = [(own, name, axis) for own, name, axis in decided if _decides(signature, own) and not _are_numbers(name)]
    # Of two that are decided, the one that the other decides as well adds nothing.
    finest = [each for each in named if not any(_decides(o, each[0]) and o != each[0] for o, _, _ in named)]
    texts = {
        level: ", ".join(
            f"{axis.rpartition('.')[2]}={_plain(names[number])}" for _, names, axis in finest if names[number] != ABSENT
        )
        for number, level in enumerate(levels)
    }
    return tuple(texts.values()) if finest else ()


def _are_numbers(levels: Sequence[str]) -> bool:
    values = [json.loads(level) for level in levels if level != ABSENT]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _plain(level: str) -> str:
    value = json.loads(level)
    return value if isinstance(value, str) else level


def _level(axes: Mapping[str, Any], axis: str) -> str:
    return json.dumps(axes[axis], ensure_ascii=False) if axis in axes else ABSENT


def effects(grid: FactorGrid, panel: Panel) -> list[Effect]:
    """Main effects, then interactions, of a sweep with two factors or more; none with fewer.

    With a single factor, main effects would be the comparisons with the baseline, which the table holds.
    """
    if len(grid.factors) < 2:
        return []
    all_effects: list[Effect] = []
    for size in (1, 2):
        for chosen in combinations(range(len(grid.factors)), size):
            all_effects += _family(grid, panel, chosen)
    return all_effects


def _family(grid: FactorGrid, panel: Panel, chosen: tuple[int, ...]) -> list[Effect]:
    """All effects of one factor, or of two."""
    differences: list[Floats] = []
    family: list[Effect] = []
    factors = [grid.factors[number] for number in chosen]
    for levels in _other_levels(factors):
        terms = list(_terms(grid, panel, chosen, levels))
        seeds = _shared_seeds(panel, (cell for signed in terms for _, cell in signed))
        if not terms or not seeds:
            continue
        values = np.mean([_signed_sum(panel, signed, seeds) for signed in terms], axis=0)
        differences.append(values)
        names, baselines = (tuple(f.name for f in factors), tuple(f.baseline for f in factors))
        family.append(Effect(names, levels, baselines, float(values.mean()), None, len(terms)))
    enough = [number for number, values in enumerate(differences) if min(values.shape) > 1]
    for number, estimate in zip(enough, estimates([differences[number] for number in enough]), strict=True):
        family[number] = replace(family[number], estimate=estimate)
    return family


def _other_levels(factors: Sequence[Factor]) -> Iterable[Levels]:
    """Every choice of one level that is not the baseline's from each factor."""
    places: list[Levels] = [()]
    for factor in factors:
        places = [(*place, level) for place in places for level in factor.levels if level != factor.baseline]
    return places


def _terms(grid: FactorGrid, panel: Panel, chosen: tuple[int, ...], levels: Levels) -> Iterable[list[tuple[int, str]]]:
    """For each setting of the other factors with all its cells evaluated, (sign, cell) of the sum."""
    for place in grid.cells:
        if any(place[number] != level for number, level in zip(chosen, levels, strict=True)):
            continue
        signed = []
        for mask in range(2 ** len(chosen)):  # a set bit: that factor at the baseline's level
            changed = list(place)
            for bit, number in enumerate(chosen):
                if mask >> bit & 1:
                    changed[number] = grid.factors[number].baseline
            signed.append(((-1) ** mask.bit_count(), grid.cells.get(tuple(changed), "")))
        if all(cell in panel.cells for _, cell in signed):
            yield signed


def _shared_seeds(panel: Panel, cells: Iterable[str]) -> list[int]:
    seeds = [{seed for seed in panel.cells[cell].seeds if seed is not None} for cell in cells]
    return sorted(set.intersection(*seeds)) if seeds else []


def _signed_sum(panel: Panel, signed: Sequence[tuple[int, str]], seeds: Sequence[int]) -> Floats:
    """[seeds, prompts]."""
    total: Floats = np.zeros(())
    for sign, cell in signed:
        cube = panel.cells[cell]
        rows = [cube.seeds.index(seed) for seed in seeds]
        total = total + sign * cube.values[rows]
    means: Floats = np.nanmean(total, axis=2)
    return means
