"""``seeds: {looks: [...], margin: ...}`` of a sweep: seeds that are added in looks while a comparison is open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.grid.clauses import listing, mapping
from ablations.grid.values import show
from qsd.registry import suggest

if TYPE_CHECKING:
    from qsd.config.yaml_nodes import Node

_KEYS = ("looks", "margin")
_EXAMPLE = "; for example  seeds: {looks: [3, 5, 7, 10], margin: 0.01}"
_FEWEST = 2
"""Seeds of the first look: one seed says nothing of the variance between seeds."""
_MOST = 1000


@dataclass(frozen=True)
class SeedLooks:
    """When comparisons are looked at.

    Attributes:
        counts: training seeds at each look, ascending; a cell with S seeds has the seeds 0 to S - 1.
        margin: half width of the range of differences that counts as none, in the primary scorer's unit; None: cells
            stop only where a difference is established.
    """

    counts: tuple[int, ...]
    margin: float | None

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the last look."""
        return tuple(range(self.counts[-1]))


def read_seed_looks(node: Node) -> SeedLooks:
    """Read ``seeds`` where it is a mapping.

    Raises:
        UserError: an unknown key, no looks, looks that do not grow, or a margin that is not above zero.
    """
    values = {}
    for name, key, value in mapping(node, "seeds", _EXAMPLE).items():
        if name not in _KEYS:
            raise key.error(f"unknown key '{name}' in seeds{suggest(name, _KEYS)}; known: {', '.join(_KEYS)}")
        values[name] = value
    if "looks" not in values:
        raise node.error(f"seeds has no 'looks'{_EXAMPLE}")
    return SeedLooks(_counts(values["looks"]), _margin(values["margin"]) if "margin" in values else None)


def _counts(node: Node) -> tuple[int, ...]:
    items = listing(node, "looks", of="numbers of seeds", example=_EXAMPLE)
    counts: list[int] = []
    for item in items:
        value = item.value
        if isinstance(value, bool) or not isinstance(value, int) or not _FEWEST <= value <= _MOST:
            raise item.error(f"a look is a number of seeds from {_FEWEST} to {_MOST}, not {show(item.plain())}")
        if counts and value <= counts[-1]:
            raise item.error(f"each look has more seeds than the one before it, but {value} follows {counts[-1]}")
        counts.append(value)
    if len(counts) < 2:
        raise node.error(
            "looks needs at least two numbers of seeds; a fixed number is a list, such as  seeds: [0, 1, 2]"
        )
    return tuple(counts)


def _margin(node: Node) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise node.error(f"margin is a difference above 0 in the unit of the primary scorer, not {show(node.plain())}")
    return float(value)
