"""The curves of one training: what it wrote about its steps, about held-out pairs and about its speed, row by row.

All have one axis, ``global_step``: the number of updates made so far. A row of ``metrics.jsonl`` is measured before
the update of its step, a validation and a rate after the step they name, so what is measured on the same adapter is in
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
_NO_CURVE = ("step", "steps", "pairs")


def curves(training: Path, attempts: Iterable[Path], live: bool) -> list[dict[str, float]]:
    """Rows by ascending ``global_step``, each step once; names are ``train/…``, ``validation/…``, ``rate/…``.

    Args:
        training: folder of the training: its artefact, or what will become it.
        attempts: folders of its attempts, in order. Of steps that two attempts made, the later one's rates are shown.
        live: the training may go on. Then rows after the last step of ``metrics.jsonl`` are held back: that file is
            written last, so what is shown of a step is complete and no row for an earlier step comes later.
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
    if live and _size(training / METRICS) < size:  # it ended or began anew meanwhile: the files do not belong together
        return []
    return [rows[step] for step in sorted(rows) if step <= last or not live]


def _show(rows: dict[int, dict[str, float]], group: str, step: int, row: dict[str, Any]) -> None:
    """Add what is known of a row; errors also with the reference subtracted, where there is one."""
    shown = rows.setdefault(step, {AXIS: step})
    known = {name: value for name, value in row.items() if value is not None and name not in _NO_CURVE}
    for name, value in known.items():
        shown[f"{group}/{name}"] = value
    for name in _ERRORS:
        if name in known and f"ref_{name}" in known:
            shown[f"{group}/{name}_minus_reference"] = known[name] - known[f"ref_{name}"]


def _rates(attempts: Iterable[Path]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for attempt in attempts:
        later = _lines(attempt / RATES)
        if later:
            found = [row for row in found if row["steps"] < later[0]["steps"]] + later
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, of which a torn last line is left out; none when there is no such file."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
