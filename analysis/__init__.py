"""From results to a document: reads ``runs/sweeps/<sweep>@<experiment>/cells.json`` and artefacts, nothing else.

The way of the numbers: ``data`` (the sweep, its long table of scores, arrays by seed, prompt and image) ->
``statistics`` (differences, intervals, marks: the rows) -> ``document`` and ``figures`` -> ``render``. ``report``
writes the files. What only shows written tables (``data.sweep``, ``data.rows``, ``document``, ``render.terminal``,
``lock``) imports neither numpy nor matplotlib, and nothing here imports torch. Notebooks start from :func:`results`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.frames import Frames


def results(name: str, experiment: str | None = None, runs: str | Path | None = None) -> Frames:
    """What a sweep has evaluated so far, as tidy pandas frames: cells, scores, comparisons, curves.

    Args:
        name: of the sweep, as ``demo``, or with its experiment, as ``demo@emoji``.
        experiment: needed if the sweep was run on several.
        runs: the store; by default ``runs`` in the current folder, in the nearest one above it that has one, or in
            the project.

    Raises:
        UserError: there is no such sweep, or several, or nothing of it is evaluated yet.
    """
    from analysis.frames import read

    return read(name, experiment, runs)
