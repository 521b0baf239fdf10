"""Write a sweep's tables and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import detector, overlap
from analysis.figures import effects_png
from analysis.gallery import gallery_png
from analysis.load import load
from analysis.lock import NAME, inputs, lock_text
from analysis.markdown import to_markdown
from analysis.rows import build_rows
from analysis.rows_json import NAME as ROWS
from analysis.rows_json import to_json
from analysis.table_csv import to_csv
from qsd.files import remove_leftovers, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

_LEFTOVER_S = 3600
"""A temporary file of this age was left by a kill: another process that writes the same tables takes seconds."""


def write(runs: Path, sweep_folder: Path) -> list[Path]:
    """Write ``rows.json``, ``table.csv``, ``table.md``, pictures, the overlap of selections and ``tables.lock.json``.

    The same results give the same bytes. Every file is written aside and renamed, the lock last, so that a kill
    leaves whole files and a lock that does not fit them.

    Returns:
        The written files; without ``gallery.png`` where no cell has images, without ``overlap.FILES`` with fewer than
        two different selections, without ``detector.FILES`` where no training has looked for flipped labels.

    Raises:
        UserError: nothing is evaluated yet, or cells cannot be compared (see ``load`` and ``pairing``).
    """
    before = inputs(runs, sweep_folder)
    results = load(runs, sweep_folder)
    rows = build_rows(results)
    outputs: dict[str, bytes] = {
        ROWS: to_json(rows).encode(),
        "table.csv": to_csv(rows).encode(),
        "table.md": to_markdown(results.sweep, rows).encode(),
        "effects.png": effects_png(results.sweep, rows),
    }
    optional = {
        "gallery.png": gallery_png(runs, results.sweep),
        **overlap.outputs(runs, results.sweep),
        **detector.outputs(runs, results.sweep),
    }
    for name, content in optional.items():
        if content is not None:
            outputs[name] = content
        else:
            (sweep_folder / name).unlink(missing_ok=True)
    for name, whole in outputs.items():
        write_bytes(sweep_folder / name, whole)
    write_bytes(sweep_folder / NAME, lock_text(before, outputs).encode())
    remove_leftovers(sweep_folder, _LEFTOVER_S)
    return [sweep_folder / name for name in (*outputs, NAME)]
