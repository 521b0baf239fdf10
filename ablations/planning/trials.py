"""The trials of a sweep that is tuned: every cell with each of its settings and each tuning seed.

A trial is a cell like any other, with stages and keys. It differs from a cell of the report in the tuned fields, the
training seed, and what it is evaluated with: the prompts of ``tune.split`` and ``tune.judge`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ablations.grid.expand import BASE, TRIAL, Cell, Grid
from ablations.grid.keys import Keys
from ablations.grid.names import cell_name, short_names
from ablations.grid.tune import check_seeds
from ablations.planning.tuning_checks import (
    captions_to_tune_on,
    check_different,
    check_judge,
    check_number,
    entries_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ablations.grid.keys import StageTable
    from ablations.grid.samplers import Setting
    from ablations.grid.spec import Sweep
    from ablations.grid.tune import Tune
    from analysis.data.tuning import Tuning

_MEASURED = ("evaluation.splits", "evaluation.scorers", "evaluation.embedder", "evaluation.prompts_per_split")
"""What trials and cells of the report differ in, beside tuned fields and seeds."""


@dataclass(frozen=True)
class Trials:
    """All trials of a sweep, and the cells that the choices will make.

    Attributes:
        tune: what the sweep's file says.
        grid: the cells of the report as the experiment has them, without chosen values.
        settings: trained cell -> its settings, in their order.
        cells: trained cell -> per setting, a trial with each tuning seed.
        captions: of the prompts that trials are evaluated on.
        keys: makes the stages of the report's cells.
    """

    tune: Tune
    grid: Grid
    settings: Mapping[str, tuple[Setting, ...]]
    cells: Mapping[str, tuple[tuple[Cell, ...], ...]]
    captions: tuple[str, ...]
    keys: Keys

    @cached_property
    def all(self) -> tuple[Cell, ...]:
        """Every trial, those of a cell together."""
        return tuple(trial for settings in self.cells.values() for seeds in settings for trial in seeds)

    @cached_property
    def places(self) -> Mapping[str, tuple[str, int]]:
        """Name of a trial -> the trained cell that it belongs to, and the number of its setting, from 0."""
        return {
            seeds[0].name: (name, number)
            for name, settings in self.cells.items()
            for number, seeds in enumerate(settings)
        }

    def report(self, chosen: Mapping[str, Setting]) -> Grid:
        """The cells of the report, each with its chosen setting; the base model is never trained and stays."""
        return replace(self.grid, cells=tuple(self._with_setting(cell, chosen) for cell in self.grid.cells))

    @cached_property
    def forecast(self) -> Grid:
        """The cells of the report with the first setting of each, for their number and price."""
        return self.report({name: settings[0] for name, settings in self.settings.items()})

    @cached_property
    def undecided(self) -> Grid:
        """The cells of the report before the choice: trained ones have no stages, since their keys are unknown."""
        cells = (cell if cell.role == BASE else replace(cell, stages={}) for cell in self.grid.cells)
        return replace(self.grid, cells=tuple(cells))

    def _with_setting(self, cell: Cell, chosen: Mapping[str, Setting]) -> Cell:
        if cell.role == BASE:
            return cell
        values = {**cell.values, **chosen[cell.name]}
        return replace(cell, values=values, axes={**cell.axes, **chosen[cell.name]}, stages=self.keys.nodes(values))


@dataclass(frozen=True)
class TuningProgress:
    """How far the tuning of a plan is: its trials, and what is known of them."""

    trials: Trials
    record: Tuning


def plan_trials(sweep: Sweep, grid: Grid, table: StageTable) -> Trials:
    """The trials of a sweep with ``tune``.

    Args:
        sweep: a checked sweep.
        grid: its cells.
        table: the stages.

    Raises:
        UserError: the tuning does not fit the cells; the message begins with its place in the file.
    """
    tune = sweep.tune
    assert tune is not None
    check_seeds(tune, sweep.seeds)
    first: dict[str, Cell] = {}
    for cell in grid.cells:
        if cell.role != BASE:
            first.setdefault(cell.name, cell)
    check_number(tune, len(first))
    entries = entries_of(tune, first)
    for cell in first.values():
        check_judge(tune, cell, entries[cell.name].settings)
    captions = captions_to_tune_on(tune, list(first.values()))
    keys = _keys(tune, first.values(), table)
    short = short_names(dict.fromkeys(name for cell in first.values() for name in (*cell.axes, *tune.fields)))
    cells = {}
    for name, cell in first.items():
        cells[name] = tuple(
            tuple(_trial(tune, cell, setting, seed, short, keys) for seed in tune.seeds)
            for setting in entries[name].settings
        )
        check_different(cell, entries[name], cells[name], keys)
    return Trials(tune, grid, {name: entries[name].settings for name in first}, cells, captions, keys)


def _trial(tune: Tune, cell: Cell, setting: Setting, seed: int, short: Mapping[str, str], keys: Keys) -> Cell:
    offset = int(cell.values["seed"]) - int(cell.seed or 0)  # of a replicate
    measured: dict[str, Any] = {
        "evaluation.splits": [tune.split],
        "evaluation.scorers": [tune.judge],
        "evaluation.embedder": None,
    }
    if tune.prompts is not None:
        measured["evaluation.prompts_per_split"] = tune.prompts
    values = {**cell.values, **setting, **measured, "seed": seed + offset}
    name = f"{cell.name}/{cell_name(setting, short)}"
    return Cell(name, TRIAL, False, {**cell.axes, **setting}, seed, values, keys.nodes(values), {})


def _keys(tune: Tune, cells: Iterable[Cell], table: StageTable) -> Keys:
    varying = {"seed", "adapter", *_MEASURED, *tune.fields}
    varying.update(name for cell in cells for name in cell.axes)
    return Keys(table, varying)


def chosen_values(record: Tuning) -> dict[str, Mapping[str, Any]]:
    """Cell -> its chosen values; only cells that have some."""
    return {name: cell.best.values for name, cell in record.cells.items() if cell.best is not None}
