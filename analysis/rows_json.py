"""``rows.json``: the rows of the result table without loss, for the terminal and other programs; CSV is an export."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analysis.comparison import Comparison, Estimate, Interval, Mark
from analysis.rows import Row
from analysis.trained import Trained

if TYPE_CHECKING:
    from pathlib import Path

NAME = "rows.json"


def to_json(rows: list[Row]) -> str:
    """All rows in their order."""
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows that ``to_json`` wrote."""
    return [_row(content) for content in json.loads(path.read_text(encoding="utf-8"))]


def _row(content: dict[str, Any]) -> Row:
    tuples = {name: _tuples(value) for name, value in content.items() if isinstance(value, list)}
    made = {
        "versus_baseline": _comparison(content["versus_baseline"]),
        "versus_base": _comparison(content["versus_base"]),
        "trained": Trained(**{name: _tuples(value) for name, value in content["trained"].items()}),
    }
    return Row(**{**content, **tuples, **made})


def _comparison(content: dict[str, Any] | None) -> Comparison | None:
    if content is None:
        return None
    estimate, mark = content["estimate"], content["mark"]
    made = {
        "these_models": Interval(**content["these_models"]),
        "win_rate_these_models": Interval(**content["win_rate_these_models"]),
        "by_seed": {int(seed): value for seed, value in content["by_seed"].items()},
        "estimate": estimate and Estimate(**{**estimate, "interval": Interval(**estimate["interval"])}),
        "mark": mark and Mark(**mark),
    }
    return Comparison(**{**content, **made})


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
