"""The curves of one training: the rows that it wrote about its steps, about held-out pairs and about its speed.

All have one axis, ``global_step``: the number of updates made so far. A row of ``metrics.jsonl`` is measured before
the update of its step, a validation and a rate after the step they name, so measurements of the same adapter are in
the same row.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.training.metrics import FILE as METRICS
from qsd.training.metrics import RATES, VALIDATION

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

AXIS = "global_step"
GROUPS = ("train", "validation", "rate")
_ERRORS = ("winner_error", "loser_error")
_NO_CURVE = ("step", "steps", "pairs", "prompts")


def curves(training: Path, attempts: Iterable[Path], live: bool) -> list[dict[str, float]]:
    """Rows by ascending ``global_step``, each step once; names are ``train/…``, ``validation/…``, ``rate/…``.

    Args:
        training: folder of the training: its artefact, or the partial folder that will become it.
        attempts: folders of its attempts, in order. For steps that two attempts made, the later one's rates are shown.
        live: the training may continue. Then rows after the last step of ``metrics.jsonl`` are left out: that file is
            written last, so every returned row is complete and no row for an earlier step is added later.
    """
    rows: dict[int, dict[str, float]] = {}
    size = _size(training / METRICS)
    for row in _lines(training / METRICS):
        _show(rows, "train", row["step"], row)
    last = max(rows, default=-1)
    for row in _lines(training / VALIDATION):
        _show(rows, "validation", row["steps"], row)
    for row in _rates(attempts):
        _show(rows, "rate", row["steps"], row)
    # A smaller file means that the training ended or started again while the files were read: they do not match.
    if live and _size(training / METRICS) < size:
        return []
    return [rows[step] for step in sorted(rows) if step <= last or not live]


def _show(rows: dict[int, dict[str, float]], group: str, step: int, row: dict[str, Any]) -> None:
    """Add the values of a row; errors also with the reference subtracted, if there is a reference."""
    curve_row = rows.setdefault(step, {AXIS: step})
    values = {name: value for name, value in row.items() if value is not None and name not in _NO_CURVE}
    for name, value in values.items():
        curve_row[f"{group}/{name}"] = value
    for name in _ERRORS:
        if name in values and f"ref_{name}" in values:
            curve_row[f"{group}/{name}_minus_reference"] = values[name] - values[f"ref_{name}"]


def _rates(attempts: Iterable[Path]) -> list[dict[str, Any]]:
    rates: list[dict[str, Any]] = []
    for attempt in attempts:
        later = _lines(attempt / RATES)
        if later:
            rates = [row for row in rates if row["steps"] < later[0]["steps"]] + later
    return rates


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file without an incomplete last line; an empty list if the file does not exist."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
