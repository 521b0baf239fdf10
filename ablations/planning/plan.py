"""A plan: the unique stages of all cells and which cells need them."""

from __future__ import annotations

import gc
from collections import ChainMap, Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ablations.grid.expand import BASE, Cell, Grid, expand, fields_of, points
from ablations.grid.places import with_sweep_place
from ablations.grid.primary import resolve
from ablations.grid.settings import changing, variant
from ablations.planning.look_lines import looks_as_json
from ablations.planning.trials import plan_trials
from ablations.planning.tuning_start import not_begun
from ablations.planning.tuning_summary import tuning_summary
from ablations.planning.unused_fields import check_used
from qsd.config.check import schema_fields
from qsd.config.digest import HUB, hub_note, may_change
from qsd.config.extends import chain
from qsd.config.field_places import with_place
from qsd.config.fields import Kind
from qsd.config.find import find_experiment
from qsd.config.load import load_flat, override
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ablations.grid.keys import StageNode, StageTable
    from ablations.grid.spec import Sweep
    from ablations.planning.look_progress import Progress
    from ablations.planning.trials import TuningProgress
    from qsd.config.load import Flat


@dataclass(frozen=True)
class Plan:
    """A sweep, ready to run.

    Attributes:
        sweep: the sweep as its file states it.
        experiment: name of the experiment that is held fixed, with ``settings`` in it.
        grid: its cells.
        order: names of all stage kinds, inputs before their users.
        primary: {"scorer", "split", "stated"}: the comparisons that decide (``ablations.grid.primary``).
        settings: those of the command line that change results; they are part of the name of the sweep's folder.
        files: of the experiment: its own, then what it extends.
        looks: how far the looks are, if ``grid`` has only the seeds that are needed (``ablations.planning.looks``).
        tuning: the trials and how far they are, if cells are tuned (``ablations.planning.tuning``); the trained cells
            of ``grid`` have no stages until all have their settings.
    """

    sweep: Sweep
    experiment: str
    grid: Grid
    order: tuple[str, ...]
    primary: Mapping[str, Any]
    looks: Progress | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    tuning: TuningProgress | None = None

    @property
    def whole(self) -> Plan:
        """The plan with every seed, also those that are not needed; itself without looks."""
        return replace(self, grid=self.looks.grid, looks=None) if self.looks else self

    @property
    def foreseen(self) -> Mapping[str, StageNode]:
        """Every unique stage by key, before the settings are chosen also those of :attr:`forecast`."""
        return {**self.nodes, **self.forecast.nodes} if self.is_undecided else self.nodes

    @property
    def name(self) -> str:
        """``sweep@experiment``, the name of its folder."""
        return f"{self.sweep.name}@{self.experiment}"

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of the report, the base model last."""
        return self.grid.cells

    @property
    def trials(self) -> tuple[Cell, ...]:
        """The trials by which cells are tuned; none without tuning."""
        return self.tuning.trials.all if self.tuning else ()

    @property
    def all_cells(self) -> tuple[Cell, ...]:
        """The trials, then the cells of the report."""
        return (*self.trials, *self.cells)

    @property
    def is_undecided(self) -> bool:
        """Whether the settings of the report's cells, and so their stages, are not known yet."""
        return self.tuning is not None and not self.tuning.record.is_decided

    @property
    def forecast(self) -> Plan:
        """The plan of the report alone; before its settings are chosen, with the first setting of every cell."""
        if self.tuning is None:
            return self
        return replace(self, grid=self.tuning.trials.forecast if self.is_undecided else self.grid, tuning=None)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know before a run: merged cells, nothing to compare, and names that may change content."""
        alone = len({cell.name for cell in self.trained}) == 1
        only = ("the baseline is the only cell, so it is compared with the base model alone",) if alone else ()
        return (*self.grid.notices, *only, *self._moving_names())

    def _moving_names(self) -> list[str]:
        """A note for every hub name in a key that stands for other content once the hub's files change."""
        locations = [name for name, info in schema_fields().items() if info.kind is Kind.LOCATION]
        named = {
            (name, node.meaning[name]) for node in self.nodes.values() for name in locations if name in node.meaning
        }
        hub = sorted((name, str(place)[len(HUB) :]) for name, place in named if str(place).startswith(HUB))
        return [hub_note(name, place) for name, place in hub if may_change(place)]

    @cached_property
    def nodes(self) -> Mapping[str, StageNode]:
        """Every unique stage by key, inputs before their users."""
        nodes: dict[str, StageNode] = {}
        for cell in self.all_cells:
            for node in cell.stages.values():
                nodes.setdefault(node.key, node)
        return nodes

    @cached_property
    def users(self) -> Mapping[str, list[Cell]]:
        """The cells that need each stage."""
        users: dict[str, list[Cell]] = {key: [] for key in self.nodes}
        for cell in self.all_cells:
            for node in cell.stages.values():
                users[node.key].append(cell)
        return users

    @cached_property
    def trained(self) -> Sequence[Cell]:
        """The cells of the report that have an adapter; the base model if there are no others."""
        return [cell for cell in self.cells if cell.role != BASE] or self.cells

    @cached_property
    def alone(self) -> Counter[str]:
        """How many cells would have to run each stage, by key, if every cell ran on its own.

        A cell on its own also needs the base model's images and scores, because it is compared with the base model.
        """
        return Counter({key: cells for (_, key), cells in self._needs.items()})

    @property
    def naive(self) -> Counter[str]:
        """Stages per kind if every cell ran on its own."""
        kinds: Counter[str] = Counter()
        for (stage, _), cells in self._needs.items():
            kinds[stage] += cells
        return kinds

    @cached_property
    def _needs(self) -> Counter[tuple[str, str]]:
        """(kind, key) of each stage -> trained cells that need it."""
        trained = (*self.trials, *self.trained)
        needs = Counter((stage, node.key) for cell in trained for stage, node in cell.stages.items())
        needs.update(
            (stage, node.key)
            for cell in trained
            if cell.stages
            for stage, node in cell.base.items()
            if stage not in cell.stages or cell.stages[stage].key != node.key
        )
        return needs

    @property
    def unique(self) -> Counter[str]:
        """Number of distinct stages per kind."""
        return Counter(node.stage for node in self.nodes.values())

    def label(self, node: StageNode) -> str:
        """A stage's name for people: its kind and its cell, or the number of cells that share it."""
        users = self.users[node.key]
        names = list(dict.fromkeys(cell.name for cell in users))
        if len(users) == 1:
            return f"{node.stage} {users[0].label}"
        if len(names) == 1:
            return f"{node.stage} {names[0]} (all seeds)"
        return f"{node.stage} (shared by {len(users)} cells)"


def make_plan(sweep: Sweep, table: StageTable, experiment: str | None = None) -> Plan:
    """Expand a sweep over its experiment.

    Args:
        sweep: a checked sweep.
        table: the stages.
        experiment: name or path that replaces the sweep's own experiment.

    Raises:
        UserError: the experiment is missing or damaged, or a path in it does not exist.
    """
    path: Path = find_experiment(experiment or sweep.experiment)
    own = load_flat(path)
    stated = override(own, sweep.overrides)
    flat, settings = override(stated, sweep.settings), changing(sweep.settings, stated)
    # A large plan has a million small objects without cycles; searching for cycles takes a fifth of the time.
    gc.disable()
    try:
        primary = resolve(sweep.primary, [ChainMap(fields_of(point), flat) for point in points(sweep)])
        name, grid = variant(path.stem, settings), _expanded(sweep, flat, table, path)
        files = tuple(file for file, _ in reversed(chain(path)))
        plan = Plan(sweep, name, grid, tuple(table.STAGES), primary, settings=settings, files=files)
        if sweep.tune is None:
            check_used(sweep, own, flat, grid.cells, table)
            return plan
        trials = plan_trials(sweep, grid, table)
        check_used(sweep, own, flat, (*grid.cells, *trials.all), table)
        return replace(plan, grid=trials.undecided, tuning=not_begun(sweep, trials))
    finally:
        gc.freeze()
        gc.enable()


def _expanded(sweep: Sweep, flat: Flat, table: StageTable, experiment: Path) -> Grid:
    """:func:`expand`, whose errors name file and line: of the sweep for what it sets, else of the experiment."""
    try:
        return expand(sweep, flat, table)
    except UserError as error:
        elsewhere = {*sweep.fixed, *sweep.varies, *(name for control in sweep.controls for name in control)}
        placed = with_sweep_place(error, sweep)
        raise (placed if placed is not error else with_place(error, experiment, elsewhere)) from None


def summary(plan: Plan, states: Mapping[str, str]) -> dict[str, Any]:
    """The plan in numbers, by kind and in total; ``states`` is key -> state (``ablations.store.states``)."""
    naive, unique = plan.naive, plan.unique
    counts: dict[str, Counter[str]] = {stage: Counter() for stage in plan.order}
    shared: Counter[str] = Counter()
    for key, node in plan.nodes.items():
        counts[node.stage][states[key]] += 1
        shared[node.stage] = max(shared[node.stage], plan.alone[key])
    kinds = {
        stage: {
            "unique": unique[stage],
            "naive": naive[stage],
            "shared_by_up_to": shared[stage],
            "states": dict(counts[stage]),
        }
        for stage in plan.order
        if naive[stage]
    }
    total = sum((counts[stage] for stage in plan.order), Counter[str]())
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "question": plan.sweep.question,
        "primary": dict(plan.primary),
        "looks": looks_as_json(plan.looks) if plan.looks else None,
        "tuning": tuning_summary(plan.tuning) if plan.tuning else None,
        "cells": len({cell.name for cell in plan.cells}),
        "runs": len(plan.cells),
        "trials": len(plan.trials),
        "unique": sum(unique.values()),
        "naive": sum(naive.values()),
        "states": dict(total),
        "stages": kinds,
        "notices": list(plan.notices),
    }
