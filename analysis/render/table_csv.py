"""The result table as CSV, for spreadsheets and other programs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from analysis.data.training import ON_POLICY

if TYPE_CHECKING:
    from analysis.data.rows import Comparison, Row
    from analysis.data.training import Trained

_PLAIN = [
    *("cell", "role", "is_baseline", "axes", "split", "scorer", "primary", "revision", "unit", "conflicts", "mean"),
]
_OF_CATEGORY = ("cell", "role", "split", "scorer", "primary", "revision", "unit")
_COMPARED = [
    *(
        "difference",
        "low",
        "high",
        "level",
        "degrees_of_freedom",
        "p",
        "p_adjusted",
        "adjustment",
        "marked",
        "seeds_disagree",
    ),
    *("by_seed", "seed_deviation", "these_models_low", "these_models_high"),
    *("win_rate", "win_rate_these_models_low", "win_rate_these_models_high"),
]
_ORIGIN = [
    *("prompts", "images_per_prompt", "images_left_out", "seeds", "missing_seeds", "diverged_seeds", "failed_seeds"),
    *(
        "planned_seeds",
        "complete",
        "look",
        "stopped",
        "noise_floor",
        "detectable",
        "cell_ids",
        "git_commit",
        "data_digest",
    ),
]
_TRAINED = ["pairs", "of", "prompts", "images", "contradicted", "styles", "budget", "steps", "epochs", *ON_POLICY]
COLUMNS = [
    *_PLAIN,
    *(f"baseline_{name}" for name in _COMPARED),
    *(f"base_{name}" for name in _COMPARED),
    *_ORIGIN,
    *(f"trained_{name}" for name in _TRAINED),
]
"""``low`` and ``high`` are for new prompts and new training seeds, with 1 - ``level``; ``these_models`` for new prompts
alone."""


def to_csv(rows: list[Row]) -> str:
    """All rows as CSV; numbers with nine significant digits, absent ones empty, lists separated by spaces."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        joined = {
            "conflicts": "; ".join(row.conflicts),
            "failed_seeds": "; ".join(f"{seed}: {why}" for seed, why in row.failed_seeds),
        }
        writer.writerow(
            {name: _text(getattr(row, name)) for name in (*_PLAIN, *_ORIGIN)}
            | joined
            | _comparison_columns("baseline_", row.versus_baseline)
            | _comparison_columns("base_", row.versus_base)
            | {f"trained_{name}": _trained_column(row.trained, name) for name in _TRAINED}
        )
    return stream.getvalue()


def categories_csv(rows: list[Row]) -> str:
    """The differences by category of all scorers and splits as CSV, as :func:`to_csv`; empty where there are none.

    A category without a comparison has its number of prompts alone.
    """
    lines = [
        {name: _text(getattr(row, name)) for name in _OF_CATEGORY}
        | {"conflicts": "; ".join(row.conflicts), "category": each.category, "prompts": str(each.prompts)}
        | _comparison_columns("baseline_", each.comparison)
        for row in rows
        for each in row.categories
    ]
    if not lines:
        return ""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".9g")
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return str(value)


def _comparison_columns(prefix: str, comparison: Comparison | None) -> dict[str, str]:
    if comparison is None:
        return {f"{prefix}{name}": "" for name in _COMPARED}
    by_seed = tuple(f"{seed}:{_text(value)}" for seed, value in comparison.by_seed.items())
    values = {**comparison.columns(), "by_seed": by_seed}
    return {f"{prefix}{name}": _text(values[name]) for name in _COMPARED}


def _trained_column(trained: Trained, name: str) -> str:
    if name == "styles":
        return ";".join(f"{style}:{_text(share)}" for style, share in trained.styles)
    return " ".join(_text(value) for value in getattr(trained, name))
