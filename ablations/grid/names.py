"""Names that people read: a cell is called by what sets it apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.grid.values import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VAGUE = ("name", "model", "path")


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Dotted name -> shortest clear name: ``quality.metric`` -> ``metric``, ``loss.name`` -> ``loss``.

    Where two fields would share a short name, both keep their dotted names.
    """
    full = list(fields)
    short = {name: _short(name) for name in full}
    counts: dict[str, int] = {}
    for name in short.values():
        counts[name] = counts.get(name, 0) + 1
    return {name: short[name] if counts[short[name]] == 1 else name for name in full}


def _short(name: str) -> str:
    section, _, last = name.rpartition(".")
    return section if section and last in _VAGUE else last


def cell_name(values: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """``metric=product,fraction=5.33``: no spaces unless a value has some, so that it can be typed in a shell."""
    return ",".join(f"{short[name]}={show(value)}" for name, value in values.items())
