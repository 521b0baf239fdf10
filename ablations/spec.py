"""A sweep: the YAML that says which question is asked and what varies. Every mistake names its line and column."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.values import axis_value, axis_values, show
from qsd.config.check import convert, schema_fields
from qsd.config.load import flatten
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SWEEPS = Path("sweeps")
EXPERIMENTS = Path("experiments")
MOST_CELLS = 100_000
_REQUIRED = ("question", "experiment", "axes", "baseline", "seeds")
_KEYS = (*_REQUIRED, "controls", "overrides")
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
        baseline: dotted name -> value for every axis: the cell that others are compared with.
        seeds: training seeds; every cell runs once with each.
        overrides: dotted name -> value, put over the experiment for all cells.
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


def find_sweep(name: str) -> Path:
    """The file of a sweep given by name (``sweeps/<name>.yaml``) or by path.

    Raises:
        UserError: there is no such sweep.
    """
    return _find(name, SWEEPS, "sweep")


def find_experiment(name: str) -> Path:
    """The file of an experiment given by name (``experiments/<name>.yaml``) or by path; raises like find_sweep."""
    return _find(name, EXPERIMENTS, "experiment")


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: what is wrong and where: ``path:line:column: ...``.
    """
    root = load(path)
    if not _NAME.fullmatch(path.stem):
        raise UserError(f"{path}: a sweep's file name may have letters, digits, '_', '-' and '.' only")
    for name, key, _ in root.items():
        if name not in _KEYS:
            raise key.error(f"unknown key '{name}'{suggest(name, _KEYS)}; known: {', '.join(_KEYS)}")
    for name in _REQUIRED:
        if name not in root.value:
            raise root.error(f"'{name}' is missing")
    parts: dict[str, Node] = {name: node for name, _, node in root.items()}
    axes = _axes(parts["axes"])
    seeds = _seeds(parts["seeds"])
    cells = math.prod(len(values) for values in axes.values()) * len(seeds)
    if cells > MOST_CELLS:
        raise parts["axes"].error(f"{cells:,} cells; at most {MOST_CELLS:,} are planned")
    return Sweep(
        name=path.stem,
        shown=str(path),
        question=_text(parts["question"], "question"),
        experiment=_experiment(parts["experiment"]),
        axes=axes,
        controls=_controls(parts["controls"]) if "controls" in parts else (),
        baseline=_baseline(parts["baseline"], axes),
        seeds=seeds,
        overrides=_overrides(parts["overrides"], axes) if "overrides" in parts else {},
    )


def _find(name: str, folder: Path, kind: str) -> Path:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        path = folder / f"{name}.yaml"
    if path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    raise UserError(
        f"unknown {kind} {name!r}: there is no {path}{suggest(name, known)}; known: {', '.join(known) or 'none'}"
    )


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        raise node.error(f"{what} must be text, not {show(node.plain())}")
    return node.value.strip()


def _experiment(node: Node) -> str:
    name = _text(node, "experiment")
    try:
        find_experiment(name)
    except UserError as error:
        raise node.error(str(error)) from None
    return name


def _mapping(node: Node, what: str) -> Node:
    if not isinstance(node.value, dict):
        raise node.error(f"{what} must be a mapping of dotted names, not {show(node.plain())}")
    if not node.value:
        raise node.error(f"{what} is empty")
    return node


def _axes(node: Node) -> dict[str, tuple[Any, ...]]:
    return {name: axis_values(name, key, value) for name, key, value in _mapping(node, "axes").items()}


def _controls(node: Node) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(node.value, list):
        raise node.error(f"controls must be a list of mappings, not {show(node.plain())}")
    return tuple(
        {name: axis_value(name, key, value) for name, key, value in _mapping(control, "a control").items()}
        for control in node.value
    )


def _baseline(node: Node, axes: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, key, value in _mapping(node, "baseline").items():
        if name not in axes:
            raise key.error(f"the baseline names '{name}', which is no axis of this sweep{suggest(name, axes)}")
        chosen[name] = _one_of(axes[name], axis_value(name, key, value), value, name)
    for name, values in axes.items():
        if name not in chosen and len(values) > 1:
            raise node.error(f"the baseline leaves '{name}' open; give one of {_listed(values)}")
    return {name: chosen.get(name, values[0]) for name, values in axes.items()}


def _one_of(values: tuple[Any, ...], value: Any, node: Node, name: str) -> Any:
    if value not in values:
        raise node.error(f"the baseline is no cell: {show(value)} is no value of axis '{name}' ({_listed(values)})")
    return value


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(show(value) for value in values)


def _seeds(node: Node) -> tuple[int, ...]:
    if not isinstance(node.value, list):
        raise node.error(f"seeds must be a list of whole numbers, not {show(node.plain())}")
    if not node.value:
        raise node.error("seeds is empty; give at least one, such as [0]")
    seeds: list[int] = []
    for item in node.value:
        if isinstance(item.value, bool) or not isinstance(item.value, int) or not 0 <= item.value < 2**31:
            raise item.error(f"a seed must be a whole number from 0 to 2147483647, not {show(item.plain())}")
        if item.value in seeds:
            raise item.error(f"seed {item.value} is given twice")
        seeds.append(item.value)
    return tuple(seeds)


def _overrides(node: Node, axes: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    leaves = flatten(_mapping(node, "overrides"))
    refusals: dict[str, Callable[[], str]] = {
        "seed": lambda: "the seed is given by 'seeds'",
        "adapter": lambda: "the base model is always a cell; 'adapter' is not set",
    }
    for name, leaf in leaves.items():
        if name in refusals:
            raise leaf.error(refusals[name]())
        if name in axes:
            raise leaf.error(f"'{name}' is an axis of this sweep; an override would have no effect")
    return {name: convert(schema_fields()[name], leaf.plain()) for name, leaf in leaves.items()}
