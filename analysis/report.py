"""Write a sweep's tables, figures and curves: the one place where an analysis becomes files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.load import load
from analysis.data.pairing import panels
from analysis.data.rows import FILE as ROWS
from analysis.data.rows import to_json
from analysis.data.training import CURVES, curves_json
from analysis.document.build import build_document
from analysis.document.categories import FILE as CATEGORIES
from analysis.document.model import FigureReference
from analysis.figures import agreement, areas, axes, compute, detector, effects, gallery, overlap, quality
from analysis.figures.drawing import FORMATS, PNG, SVG
from analysis.lock import NAME, inputs, lock_text
from analysis.render.markdown import to_markdown
from analysis.render.table_csv import categories_csv, to_csv
from analysis.statistics.build_rows import build_rows
from qsd.files import remove_leftovers, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from analysis.data.load import Results
    from analysis.data.rows import Row
    from analysis.figures.drawing import Drawing

_LEFTOVER_S = 3600
"""A temporary file of this age was left by a kill: another process that writes the same tables takes seconds."""

_DRAWN = (effects.NAME, axes.AXES, axes.HEAT, compute.NAME, agreement.WINS, agreement.JUDGES)
FIGURE_FORMATS: Mapping[str, tuple[str, ...]] = dict.fromkeys(_DRAWN, (PNG, SVG))
"""Figure -> the formats it is written in; PNG alone for those not named. PDF is there for papers."""
_FIGURES = (*_DRAWN, gallery.NAME, quality.NAME, overlap.NAME, areas.NAME, detector.MINORITY, detector.INTERVALS)
_OPTIONAL = {
    *(f"{name}.{form}" for name in _FIGURES for form in FORMATS),
    *(axes.TABLE, overlap.TABLE, detector.TABLE, CURVES, CATEGORIES),
}
"""Files that a sweep may have and later lack, such as the overlap of selections that are now the same."""


def write(runs: Path, sweep_folder: Path, formats: Mapping[str, tuple[str, ...]] = FIGURE_FORMATS) -> list[Path]:
    """Write the files of :func:`outputs` and the lock of these.

    The same results give the same bytes. Every file is put in place in one step, the lock last, so that a kill
    leaves complete files and a lock that does not fit them.

    Args:
        runs: the store.
        sweep_folder: holds ``cells.json``; the files are written there.
        formats: figure -> formats, as ``FIGURE_FORMATS``; a picture of pixels has no other than PNG.

    Returns:
        The written files.

    Raises:
        UserError: as :func:`outputs`.
    """
    before = inputs(runs, sweep_folder)
    contents = outputs(runs, sweep_folder, formats)
    for name in _OPTIONAL - set(contents):
        (sweep_folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_bytes(sweep_folder / name, content)
    write_bytes(sweep_folder / NAME, lock_text(before, contents).encode())
    remove_leftovers(sweep_folder, _LEFTOVER_S)
    return [sweep_folder / name for name in (*contents, NAME)]


def outputs(
    runs: Path, sweep_folder: Path, formats: Mapping[str, tuple[str, ...]] = FIGURE_FORMATS
) -> dict[str, bytes]:
    """``rows.json``, ``table.csv``, ``table.md``, figures, their tables and ``curves.json``: name -> content.

    Without ``gallery.png`` where no cell has images yet, without the overlap with fewer than two different selections,
    without the detector's files where no training has looked for flipped labels, without ``categories.csv`` where
    prompts have no different categories, and without ``curves.json`` where no training has ended. Nothing is written.

    Raises:
        UserError: nothing is evaluated yet, or cells cannot be compared (``analysis.data.load`` and ``pairing``).
    """
    results = load(runs, sweep_folder)
    rows = build_rows(results)
    drawings, tables = _figures(results, rows)
    files = {drawing.name: _save(drawing, formats.get(drawing.name, (PNG,))) for drawing in drawings}
    references = [
        FigureReference(drawing.name, drawing.caption, tuple(name.rpartition(".")[2] for name in files[drawing.name]))
        for drawing in drawings
    ]
    document = build_document(results.sweep, rows, references)
    curves = curves_json(runs, results.sweep)
    by_category = categories_csv(rows)
    return {
        ROWS: to_json(rows).encode(),
        "table.csv": to_csv(rows).encode(),
        "table.md": to_markdown(document).encode(),
        **{name: content for saved in files.values() for name, content in saved.items()},
        **{name: text.encode() for name, text in tables.items()},
        **({CATEGORIES: by_category.encode()} if by_category else {}),
        **({CURVES: curves.encode()} if curves else {}),
    }


def _figures(results: Results, rows: list[Row]) -> tuple[list[Drawing], dict[str, str]]:
    """The figures that there is something to show in, and the tables of their numbers by file name."""
    runs, sweep = results.runs, results.sweep
    all_panels = panels(results)
    primary = next((p for p in all_panels if (p.scorer, p.split) == (sweep.primary.scorer, sweep.primary.split)), None)
    drawings = [effects.effects(sweep, rows)]
    tables: dict[str, str] = {}
    if (structure := axes.read_structure(sweep, rows, primary)) is not None:
        drawings += [axes.axes_figure(structure), axes.heat_figure(structure)]
        if structure.effects:
            tables[axes.TABLE] = axes.axes_csv(structure)
    drawings.append(gallery.gallery(runs, sweep))
    drawings.append(compute.compute_figure(sweep, rows, compute.read_passes(runs, sweep)))
    drawings += [agreement.wins_figure(sweep, primary)] if primary else []
    drawings.append(agreement.judges_figure(sweep, all_panels))
    drawings.append(quality.quality_figure(quality.read_kept(runs, sweep)))
    if (selections := overlap.read_overlap(runs, sweep)) is not None:
        drawings.append(overlap.overlap_figure(selections))
        tables[overlap.TABLE] = overlap.overlap_csv(selections)
    if detections := detector.read_detections(runs, sweep):
        drawings += [areas.areas_figure(detections), detector.minority(detections), detector.intervals(detections)]
        tables[detector.TABLE] = detector.detector_csv(detections)
    return [drawing for drawing in drawings if drawing is not None], tables


def _save(drawing: Drawing, formats: tuple[str, ...]) -> dict[str, bytes]:
    """File name -> content."""
    contents = {f"{drawing.name}.{form}": drawing.save(form) for form in formats}
    return {name: content for name, content in contents.items() if content is not None}
