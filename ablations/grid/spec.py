"""A sweep: the YAML that says which question is asked and what varies. Every mistake names its line and column."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid import clauses
from ablations.grid.combinations import Group, TooManyError, combinations
from ablations.grid.primary import Primary, read_primary
from ablations.grid.seed_list import read_seed_list
from ablations.grid.seed_looks import SeedLooks, read_seed_looks
from ablations.grid.stated_variances import read_variances
from ablations.grid.tune import Tune, read_tune
from ablations.grid.values import REPLICATE, REPLICATE_SEEDS, axis_field, axis_value, show
from qsd.config.check import convert, schema_fields
from qsd.config.find import find_experiment, find_file
from qsd.config.load import flatten
from qsd.config.unclear import Unclear
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError
from qsd.printable import printable
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from ablations.grid.combinations import Choice, Point, When
    from analysis.data.variances import Variances

SWEEPS = Path("sweeps")
MOST_CELLS = 100_000
_REQUIRED = ("question", "experiment", "axes", "baseline", "seeds")
_EXAMPLES = {
    "question": "question: Does the metric matter?",
    "experiment": "experiment: emoji",
    "axes": "axes: {quality.metric: [product, difference]}",
    "baseline": "baseline: {quality.metric: product}",
    "seeds": "seeds: [0, 1, 2]",
}
_KEYS = (*_REQUIRED, "zip", "when", "exclude", "include", "controls", "overrides", "primary", "variances", "tune")
_NO_OVERRIDES = {
    "seed": "the seed is given by 'seeds'",
    "adapter": "the base model is always a cell; 'adapter' is not set",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says, checked.

    Attributes:
        name: the file's name without suffix.
        shown: the path as messages show it.
        question: what the sweep is to answer.
        experiment: name of the experiment (``experiments/<name>.yaml``) or a path to one.
        axes: dotted name -> the values it takes, in the order of the file.
        controls: cells beside the grid: values put over the baseline's.
        baseline: dotted name -> value for every axis that exists there: the cell that others are compared with.
        seeds: training seeds; every cell runs once with each, with ``looks`` only as far as they are needed.
        overrides: dotted name -> value, put over the experiment for all cells.
        settings: the same, of the command line; put over the overrides (``ablations.grid.settings``).
        zips: groups of axes that vary together.
        when: axis -> what must hold for it to exist; elsewhere it keeps the experiment's value.
        exclude: combinations that are left out.
        include: combinations added to the grid; what one does not name is the baseline's.
        primary: the scorer and split whose comparisons decide.
        variances: of differences between cells, to plan with; None where the file states none.
        looks: when comparisons are looked at, if seeds are added only to cells that need them.
        tune: how the settings of the cells are chosen before they are trained for the report; None: they are not.
    """

    name: str
    shown: str
    question: str
    experiment: str
    axes: Mapping[str, tuple[Any, ...]]
    controls: tuple[Mapping[str, Any], ...]
    baseline: Mapping[str, Any]
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]
    zips: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    when: When = field(default_factory=dict)
    exclude: tuple[Choice, ...] = ()
    include: tuple[Choice, ...] = ()
    primary: Primary = field(default_factory=Primary)
    variances: Variances | None = None
    looks: SeedLooks | None = None
    tune: Tune | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed(self) -> dict[str, Any]:
        """What is put over the experiment for all cells, by the file and by the command line."""
        return {**self.overrides, **self.settings}

    @property
    def groups(self) -> list[Group]:
        """What varies, as the product takes it: the axes one by one, then the zip groups."""
        return _groups(self.axes, self.zips)

    @property
    def varies(self) -> dict[str, tuple[Any, ...]]:
        """Every axis, also those of zip groups, with its values."""
        return {name: values for group in self.groups for name, values in group.values.items()}


def find_sweep(name: str) -> Path:
    """The file of a sweep given by name (``sweeps/<name>.yaml``) or by path.

    Raises:
        UserError: there is no such sweep.
    """
    return find_file(name, SWEEPS, "sweep")


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: what is wrong and where: ``path:line:column: ...``.
    """
    root = load(path)
    if not _NAME.fullmatch(path.stem):
        raise UserError(f"{path}: a sweep's file name may contain only letters, digits, '_', '-' and '.'")
    for name, key, _ in root.items():
        if name not in _KEYS:
            raise key.error(f"unknown key '{name}'{suggest(name, _KEYS)}; known: {', '.join(_KEYS)}")
    for name in _REQUIRED:
        if name not in root.value and not (name == "axes" and "zip" in root.value):
            raise root.error(f"'{name}' is missing; for example  {_EXAMPLES[name]}")
    parts: dict[str, Node] = {name: node for name, _, node in root.items()}
    axes = clauses.read_axes(parts["axes"]) if "axes" in parts else {}
    zips = clauses.read_zip(parts["zip"], axes) if "zip" in parts else ()
    groups = _groups(axes, zips)
    when = clauses.read_when(parts["when"], groups) if "when" in parts else {}
    looks = read_seed_looks(parts["seeds"]) if isinstance(parts["seeds"].value, dict) else None
    seeds = looks.seeds if looks else read_seed_list(parts["seeds"])
    most = MOST_CELLS // len(seeds)
    points = _points(groups, when, len(seeds), parts.get("axes") or parts["zip"])
    if "when" in parts:
        clauses.check_existence(parts["when"], points)
    baseline = clauses.read_baseline(parts["baseline"], groups, when)
    _check_replicates(parts["seeds"], seeds, groups)
    controls = _controls(parts["controls"]) if "controls" in parts else ()
    overrides = _overrides(parts["overrides"], groups) if "overrides" in parts else {}
    return Sweep(
        name=path.stem,
        shown=str(path),
        question=printable(" ".join(_text(parts["question"], "question").split())),
        experiment=_experiment(parts["experiment"]),
        axes=axes,
        controls=controls,
        baseline=baseline,
        seeds=seeds,
        overrides=overrides,
        zips=zips,
        when=when,
        exclude=clauses.read_exclude(parts["exclude"], groups, points, baseline) if "exclude" in parts else (),
        include=clauses.read_include(parts["include"], groups, when, baseline, most) if "include" in parts else (),
        primary=read_primary(parts["primary"]) if "primary" in parts else Primary(),
        variances=read_variances(parts["variances"]) if "variances" in parts else None,
        looks=looks,
        tune=_tune(parts["tune"], groups, controls, overrides, seeds) if "tune" in parts else None,
    )


def _tune(
    node: Node,
    groups: list[Group],
    controls: tuple[Mapping[str, Any], ...],
    overrides: Mapping[str, Any],
    seeds: tuple[int, ...],
) -> Tune:
    set_elsewhere = {
        **dict.fromkeys(overrides, "is set in 'overrides'"),
        **{name: "is set by a control" for control in controls for name in control},
        **{name: "is an axis of this sweep" for group in groups for name in group.values},
    }
    return read_tune(node, set_elsewhere, seeds, any(REPLICATE in group.values for group in groups))


def _groups(axes: Mapping[str, tuple[Any, ...]], zips: tuple[Mapping[str, tuple[Any, ...]], ...]) -> list[Group]:
    return [*(Group({name: values}) for name, values in axes.items()), *map(Group, zips)]


def _points(groups: list[Group], when: When, seeds: int, node: Node) -> list[Point]:
    try:
        return combinations(groups, when, MOST_CELLS // seeds)
    except TooManyError as error:
        raise node.error(f"at least {error.least * seeds:,} cells; at most {MOST_CELLS:,} are planned") from None


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        wrong = node.value.in_quotes if isinstance(node.value, Unclear) else show(node.plain())
        raise node.error(f"{what} must be text, not {wrong}")
    return node.value.strip()


def _experiment(node: Node) -> str:
    name = _text(node, "experiment")
    try:
        find_experiment(name)
    except UserError as error:
        raise node.error(str(error)) from None
    return name


def _controls(node: Node) -> tuple[Mapping[str, Any], ...]:
    example = "; for example  controls: [{selection.strategy: random}]"
    controls = []
    for control in clauses.listing(node, "controls", example=example):
        values: dict[str, Any] = {}
        for name, key, value in clauses.mapping(control, "a control", example).items():
            takes_list = typing.get_origin(axis_field(name, key).type) is list
            if isinstance(value.value, list) and not takes_list:
                raise value.error(
                    f"a control is one cell, with one value of '{name}', not {show(value.plain())}; "
                    "write a control for each value"
                )
            values[name] = axis_value(name, key, value)
        controls.append(values)
    return tuple(controls)


def _check_replicates(node: Node, seeds: tuple[int, ...], groups: list[Group]) -> None:
    """Replicates take the seeds from 10,000 on, so that no two of them share one."""
    if not any(REPLICATE in group.values for group in groups):
        return
    for number, seed in enumerate(seeds):
        if seed >= REPLICATE_SEEDS:
            place = node.value[number] if isinstance(node.value, list) else node
            raise place.error(f"with the axis '{REPLICATE}' a seed must be below {REPLICATE_SEEDS}, not {seed}")


def no_override(name: str, axes: Container[str]) -> str | None:
    """Why a field cannot be set for all cells of a sweep with these axes; None if it can."""
    if name in axes:
        return f"'{name}' is an axis of this sweep; an override would have no effect"
    return _NO_OVERRIDES.get(name)


def _overrides(node: Node, groups: list[Group]) -> dict[str, Any]:
    leaves = flatten(clauses.mapping(node, "overrides"))
    axes = {name for group in groups for name in group.values}
    for name, leaf in leaves.items():
        reason = no_override(name, axes)
        if reason:
            raise leaf.error(reason)
    return {name: convert(schema_fields()[name], leaf.plain()) for name, leaf in leaves.items()}
