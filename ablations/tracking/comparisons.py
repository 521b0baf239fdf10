"""What the written table says of a cell, as the summary of its W&B runs: differences with intervals, p and marks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ablations.tracking.shareable import shareable
from analysis.data.rows import COMPARED, Comparison, Row, read_rows
from analysis.data.rows import FILE as ROWS

if TYPE_CHECKING:
    from pathlib import Path


_LEVEL = 0.05
"""1 minus the level of intervals for which nothing else is said."""


def table_rows(sweep_folder: Path) -> list[Row]:
    """The rows of the sweep's table; empty as long as it has none, or one that this version cannot read."""
    try:
        return read_rows(sweep_folder / ROWS)
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return []


def comparison_summary(rows: list[Row], cell_id: str, seed: int | None) -> dict[str, Any]:
    """The part of a run's summary that comes from the table; empty for a cell that is not in it.

    ``cell/<split>/<scorer>/…`` is equal in all seeds of a cell: ``mean``; against the baseline ``difference``, its 95 %
    interval ``low`` to ``high`` and ``p`` for new prompts and new training seeds (``level`` is 1 minus another level of
    the interval), ``p_adjusted`` for the comparisons of the family, ``marked``, and the interval for new prompts and
    these trained models alone, ``these_models_low`` to ``these_models_high``; ``win_rate``; ``seeds`` behind the mean;
    ``conflict`` where the scorer is no independent judge of the cell.
    ``scores/<split>/<scorer>/difference_to_baseline`` is that of this seed. What the table leaves open (with one seed
    there is no ``low`` and no ``p``, of the baseline no difference) is absent.
    """
    summary: dict[str, Any] = {}
    of_cell = [row for row in rows if cell_id in row.cell_ids]
    for row in of_cell:
        place = f"cell/{row.split}/{row.scorer}"
        values: dict[str, Any] = {"mean": row.mean, "seeds": len(row.seeds), **_against(row.versus_baseline)}
        if values.get("level") == _LEVEL:
            del values["level"]
        if row.conflicts:
            values["conflict"] = "; ".join(row.conflicts)
        summary |= {f"{place}/{name}": value for name, value in values.items() if value is not None}
        by_seed = row.versus_baseline.by_seed if row.versus_baseline else {}
        if seed in by_seed:
            summary[f"scores/{row.split}/{row.scorer}/difference_to_baseline"] = by_seed[seed]
    if of_cell:
        summary["cell/diverged_seeds"] = len(of_cell[0].diverged_seeds)
    return summary


def _against(comparison: Comparison | None) -> dict[str, Any]:
    values = comparison.columns() if comparison else {}
    return {name: values[name] for name in COMPARED if name in values}


TABLE_COLUMNS = (
    *("cell", "split", "scorer", "primary", "mean", "difference", "low", "high", "level", "p", "p_adjusted", "marked"),
    *("seeds", "diverged_seeds", "prompts", "conflict"),
)


def brief_table(rows: list[Row]) -> list[Any]:
    """The table as W&B shows it, a row of ``TABLE_COLUMNS`` for each; differences are those to the baseline."""
    lines: list[Any] = []
    for row in rows:
        values = {
            **{name: getattr(row, name) for name in ("cell", "split", "scorer", "primary", "mean", "prompts")},
            **_against(row.versus_baseline),
            "seeds": len(row.seeds),
            "diverged_seeds": len(row.diverged_seeds),
            "conflict": "; ".join(row.conflicts) or None,
        }
        lines.append([shareable(values.get(name)) for name in TABLE_COLUMNS])
    return lines
