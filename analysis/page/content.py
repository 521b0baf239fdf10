"""What the page shows, gathered from the files of a sweep."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from analysis.data.load import load
from analysis.data.rows import FILE, read_rows
from analysis.data.training import CURVES
from analysis.document.build import build_document
from analysis.document.sentences import split_title
from analysis.page.disagreement import cells_disagree, judges_disagree, picture_scores, rounded
from analysis.page.sheets import make_sheets
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.data.load import Results
    from analysis.data.sweep import SweepFolder

FIGURES = {
    "effects": "Differences to the baseline and to the base model, with their intervals.",
    "axes": "The primary scorer over each axis of the sweep.",
    "heat": "The primary scorer over two axes.",
    "compute": "The primary scorer against what a training computed.",
    "wins": "Which cell's images score higher how often.",
    "judges": "Whether the judges agree on the order of cells and of images.",
    "quality": "Q and scores of the pairs that each selection kept, and of those left out.",
    "overlap": "How many pairs each two cells selected in common.",
    "areas": "How well each detector finds flipped labels.",
    "minority": "How many pairs the minority metric suspects.",
    "intervals": "Which pairs the minority metric points at.",
}
"""Figure -> what it shows; those that the sweep has are on the page, as vectors where they were written so."""
_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


def content(runs: Path, sweep_folder: Path) -> dict[str, Any]:
    """Everything that the template of the page names.

    Raises:
        UserError: the tables are not written, or nothing is evaluated.
    """
    path = sweep_folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate table' writes it")
    results = load(runs, sweep_folder)
    sweep = results.sweep
    return {
        "document": build_document(sweep, read_rows(path)),
        "figures": _figures(sweep_folder),
        "gallery": _gallery(runs, results),
        "curves": _read(sweep_folder / CURVES),
        "run": _read(sweep_folder / "run.json"),
        "settings": _settings(sweep),
        "states": [each for each in sweep.replicates if each.state != "finished"],
        "sweep": sweep,
    }


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _figures(folder: Path) -> list[dict[str, str]]:
    figures = []
    for name, caption in FIGURES.items():
        for form, mime in _TYPES.items():
            path = folder / f"{name}.{form}"
            if path.is_file():
                data = base64.b64encode(path.read_bytes()).decode("ascii")
                figures.append({"name": name, "caption": caption, "source": f"data:{mime};base64,{data}"})
                break
    return figures


def _gallery(runs: Path, results: Results) -> dict[str, Any] | None:
    """The sheets of pictures, their scores, and orders in which to look at the prompts."""
    sheets = make_sheets(runs, results.sweep)
    if sheets is None:
        return None
    scores = results.scores[results.scores["split"] == sheets.split]
    scorers = [str(name) for name in dict.fromkeys(scores["scorer"])]
    values = picture_scores(scores, sheets.cells, [prompt for prompt, _ in sheets.prompts], scorers)
    apart = cells_disagree(values)
    orders = [{"name": f"cells differ most ({name})", "values": rounded(apart[i])} for i, name in enumerate(scorers)]
    if len(scorers) > 1:
        orders.insert(0, {"name": "judges contradict each other most", "values": rounded(judges_disagree(values))})
    return {
        "split": split_title(sheets.split),
        "cells": [{"name": name, "seed": seed} for name, seed in sheets.cells],
        "prompts": [{"id": prompt, "caption": caption} for prompt, caption in sheets.prompts],
        "of": sheets.of,
        "side": sheets.side,
        "columns": sheets.columns,
        "scorers": scorers,
        "scores": rounded(values),
        "orders": orders,
        "images": list(sheets.images),
    }


def _settings(sweep: SweepFolder) -> dict[str, Any]:
    """The settings that cells vary: one line per cell, and which of its values are not the baseline's."""
    cells = [sweep.of_cell(name)[0] for name in sweep.cell_names()]
    names = list(dict.fromkeys(axis for cell in cells for axis in cell.axes))
    baseline = next(cell for cell in cells if cell.is_baseline)
    lines = [
        {
            "cell": cell.name,
            "values": [
                {
                    "text": json.dumps(cell.axes[name], ensure_ascii=False) if name in cell.axes else "",
                    "other": name in cell.axes and cell.axes[name] != baseline.axes.get(name),
                }
                for name in names
            ],
        }
        for cell in cells
        if cell.role != "base"
    ]
    return {"names": names, "lines": lines}
