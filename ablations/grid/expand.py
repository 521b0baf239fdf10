"""Cells: the grid of the axes, the controls beside it and the base model, each with every seed.

Cells that mean the same are merged: a cell is its stages' keys, so a metric that a random selection ignores does not
make two cells of one. Notices say what was merged.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.grid.combinations import combinations, existing, matches, product
from ablations.grid.keys import Keys, StageNode, StageTable
from ablations.grid.names import cell_name, short_names
from ablations.grid.values import REPLICATE, REPLICATE_SEEDS
from qsd.config.digest import hash_of
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ablations.grid.spec import Sweep
    from qsd.config.load import Flat

BASE, TRIAL = "base", "trial"
"""Roles of cells outside the grid: the untouched base model, and a trial (``ablations.planning.trials``)."""


@dataclass(frozen=True)
class Cell:
    """One cell with one seed.

    Attributes:
        name: unique among the sweep's cells, without the seed.
        role: ``grid``, ``control``, ``base`` (the untouched base model) or ``trial``.
        is_baseline: True for the cell that others are compared with.
        axes: what the sweep sets in this cell, without what its stages ignore.
        seed: training seed; None for the base model, which is not trained.
        values: its flat configuration.
        stages: stage name -> node, inputs before their users; none of a cell whose settings are still being tuned.
        base: the stages of the base model that it is compared with; the base model's are its own; none of a trial.
    """

    name: str
    role: str
    is_baseline: bool
    axes: Mapping[str, Any]
    seed: int | None
    values: Flat
    stages: Mapping[str, StageNode]
    base: Mapping[str, StageNode]

    @property
    def cell_id(self) -> str:
        """Twelve hex digits made of all stage keys; empty as long as these are unknown."""
        if not self.stages:
            return ""
        return hash_of({stage: node.key for stage, node in self.stages.items()})[:12]

    @property
    def label(self) -> str:
        """Name and seed."""
        return self.name if self.seed is None else f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """All cells of a sweep, and notices about merged ones."""

    cells: tuple[Cell, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Point:
    """A cell before merging."""

    role: str
    is_baseline: bool
    axes: Mapping[str, Any]
    shown: Mapping[str, Any]


def points(sweep: Sweep) -> Iterator[_Point]:
    """Every combination that is not excluded, the last axis fastest; then what is included; then the controls."""
    varies = {name for name, values in sweep.varies.items() if len(values) > 1} or set(sweep.varies)
    for axes in combinations(sweep.groups, sweep.when):
        if not any(matches(axes, entry) for entry in sweep.exclude):
            shown = {name: value for name, value in axes.items() if name in varies}
            yield _Point("grid", axes == sweep.baseline, axes, shown or axes)
    for entry in sweep.include:
        for values in product(entry):
            added = _over_baseline(sweep, values)
            shown = {name: value for name, value in added.items() if name in varies or name in values}
            yield _Point("grid", added == sweep.baseline, added, shown)
    for control in sweep.controls:
        changed = {name: value for name, value in control.items() if sweep.baseline.get(name, _ABSENT) != value}
        yield _Point("control", False, {**_over_baseline(sweep, control), **control}, changed or control)


def fields_of(point: _Point) -> dict[str, Any]:
    """What a cell sets of the experiment: its axes without the replicate, which only changes the training seed."""
    return {name: value for name, value in point.axes.items() if name != REPLICATE}


def training_seed(point: _Point, seed: int) -> int:
    """The seed that a cell trains with as its seed number ``seed``.

    Raises:
        UserError: it would be the seed of another replicate.
    """
    if REPLICATE in point.axes and seed >= REPLICATE_SEEDS:
        raise UserError(f"seed {seed}: with '{REPLICATE}', seeds must be below {REPLICATE_SEEDS}; give smaller ones")
    return seed + REPLICATE_SEEDS * int(point.axes.get(REPLICATE, 0))


_ABSENT = object()


def _over_baseline(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline with some values replaced, without the axes that then do not exist."""
    return existing({**sweep.baseline, **values}, sweep.when)


def expand(sweep: Sweep, experiment: Flat, table: StageTable) -> Grid:
    """All cells of ``sweep`` over the flat values of its experiment (overrides included).

    Raises:
        UserError: what a stage refuses, such as more processes than can share its work.
    """
    grid_points = list(points(sweep))
    varying = {name for point in grid_points for name in point.axes} | {"seed", "adapter"}
    settings = (experiment, *(point.axes for point in grid_points))
    of_lists = {name for values in settings for name in _names_of_lists(values)}
    keys = Keys(table, varying, plain=varying - of_lists)
    groups: dict[tuple[str, ...], list[_Point]] = {}
    cells: dict[tuple[str, ...], list[tuple[int, Flat, dict[str, StageNode]]]] = {}
    bases: dict[tuple[str, ...], tuple[Flat, dict[str, StageNode]]] = {}
    compared: dict[tuple[str, ...], dict[str, StageNode]] = {}
    for point in grid_points:
        runs = []
        for seed in sweep.seeds:
            values = {**experiment, **fields_of(point), "seed": training_seed(point, seed), "adapter": "trained"}
            runs.append((seed, values, keys.nodes(values)))
        identity = tuple(node.key for _, _, nodes in runs for node in nodes.values())
        groups.setdefault(identity, []).append(point)
        cells.setdefault(identity, runs)
        values = {**experiment, **fields_of(point), "seed": sweep.seeds[0], "adapter": "none"}
        nodes = keys.nodes(values)
        bases.setdefault(tuple(node.key for node in nodes.values()), (values, nodes))
        compared.setdefault(identity, nodes)

    set_here = sorted(varying - {"seed", "adapter"})
    fields_set = [name for name in set_here if name != REPLICATE]
    short = short_names(set_here)
    merged = [_merge(group, experiment) for group in groups.values()]
    names = _unique([cell_name(point.shown, short) for point in merged], [cell_name(p.axes, short) for p in merged])
    made = [
        Cell(name, point.role, point.is_baseline, point.axes, seed, values, nodes, compared[identity])
        for name, point, (identity, runs) in zip(names, merged, cells.items(), strict=True)
        for seed, values, nodes in runs
    ]
    _check_processes(made, table)
    notices = [
        _notice(name, group, short) for name, group in zip(names, groups.values(), strict=True) if len(group) > 1
    ]
    return Grid((*made, *_base_cells(list(bases.values()), fields_set, short)), tuple(notices))


def _check_processes(cells: Iterable[Cell], table: StageTable) -> None:
    """Refuse stages whose number of processes is given and too large.

    What follows from the GPUs of a cluster's profile is refused when the cluster is known.

    Raises:
        UserError: as the stage's ``processes``.
    """
    checks = {name: spec.processes for name, spec in table.STAGES.items() if spec.processes is not None}
    nodes = {node.key: node for cell in cells for node in cell.stages.values() if node.stage in checks}
    for node in nodes.values():
        checks[node.stage](node.values, None)


def _names_of_lists(values: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in values.items() if isinstance(value, list))


def _merge(group: list[_Point], experiment: Flat) -> _Point:
    """One cell for points that mean the same; what differs between them is what their stages ignore."""
    first = group[0]
    if len(group) == 1:
        return first
    same = {
        name: value
        for name, value in first.axes.items()
        if all(point.axes.get(name, experiment.get(name)) == value for point in group)
    }
    if not same:
        same = dict(first.axes)
    wanted = {name for point in group for name in point.shown}
    shown = {name: value for name, value in same.items() if name in wanted}
    role = "grid" if any(point.role == "grid" for point in group) else "control"
    return _Point(role, any(point.is_baseline for point in group), same, shown or same)


def _unique(names: list[str], full: list[str]) -> list[str]:
    """Short names where they are unique, full ones where not; numbered if even these are shared."""
    taken: dict[str, int] = {}
    for name in names:
        taken[name] = taken.get(name, 0) + 1
    result: list[str] = []
    used: set[str] = set()
    for name, long in zip(names, full, strict=True):
        wanted = name if taken[name] == 1 and name != BASE else long
        unique = next(
            n for n in itertools.chain([wanted], (f"{wanted}#{i}" for i in itertools.count(2))) if n not in used
        )
        used.add(unique)
        result.append(unique)
    return result


def _notice(name: str, group: list[_Point], short: Mapping[str, str]) -> str:
    written = [cell_name(point.axes, short) for point in group]
    listed = "; ".join(dict.fromkeys(written))
    if len(set(written)) == 1:
        return f"{name}: listed {len(group)} times, runs once"
    return f"{name}: {len(group)} cells mean the same and run once ({listed})"


def _base_cells(
    bases: list[tuple[Flat, dict[str, StageNode]]], set_here: list[str], short: Mapping[str, str]
) -> Iterator[Cell]:
    """The untouched base model; once for each way in which the sweep changes its images or scores."""
    first = bases[0][0]
    differs = [name for name in set_here if any(values[name] != first[name] for values, _ in bases)]
    for values, nodes in bases:
        axes = {name: values[name] for name in differs}
        name = f"{BASE},{cell_name(axes, short)}" if axes else BASE
        yield Cell(name, BASE, False, axes, None, values, nodes, nodes)
