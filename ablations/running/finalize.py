"""What follows the stages: the list of cells for readers, what they took, and tables of what is evaluated so far."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ablations.files import write_json
from ablations.grid.expand import BASE
from ablations.grid.settings import typed
from ablations.json_shapes import fields, listing, mapping, read_shaped, text
from ablations.planning.cells import about
from ablations.running.archive import CELLS, keep_earlier
from ablations.running.cell_settings import FILE as SETTINGS
from ablations.running.cell_settings import cell_settings
from ablations.running.cell_states import DIVERGED, FINISHED, with_states
from ablations.running.run_record import FILE as RUN
from ablations.running.run_record import run_record
from ablations.store.provenance import git_state
from analysis.data.looks import looks_as_json
from analysis.data.tuning import tuning_as_json
from analysis.document.tuning import progress_text
from qsd.errors import UserError
from qsd.evaluation.embedding_measures import measures_of
from qsd.files import file_digest
from qsd.stages.judges import conflicts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


_CELLS = fields(sweep=text, experiment=text, cells=listing(fields(name=text, role=text, stages=mapping(text))))


def commit_of(root: Path) -> str | None:
    """The commit of the code in ``root``, marked where files differ from it; None outside git."""
    git = git_state(root)
    return git["commit"] and (f"{git['commit']}-dirty" if git["dirty"] else git["commit"])


def cells_json(plan: Plan, store: Store, commit: str | None) -> dict[str, Any]:
    """What ``analysis`` and tracking need to know of a sweep: one entry per cell and seed, with its present state.

    Args:
        plan: the sweep.
        store: where its stages are.
        commit: of the code that is used, for the record.
    """
    baseline = next(cell.name for cell in plan.cells if cell.is_baseline)
    base_of = {tuple(node.key for node in cell.base.values()): cell.name for cell in plan.cells if cell.role == BASE}
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "settings": dict(plan.settings),
        "experiment_files": {str(path): file_digest(path) for path in plan.files},
        "question": plan.sweep.question,
        "git_commit": commit,
        "labels": plan.cells[0].values["data.labels"],
        "baseline": baseline,
        "primary": dict(plan.primary),
        "looks": looks_as_json(plan.looks.record) if plan.looks else None,
        "tuning": tuning_as_json(plan.tuning.record) if plan.tuning else None,
        "cells": with_states(
            store,
            (
                about(cell)
                | {
                    "base": base_of[tuple(node.key for node in cell.base.values())],
                    "scorers": [
                        *cell.values["evaluation.scorers"],
                        *measures_of(cell.values["evaluation.embedder"], cell.values["adapter"]),
                    ],
                    "splits": list(cell.values["evaluation.splits"]),
                    "conflicts": conflicts(cell.values),
                    "stages": {stage: node.key for stage, node in cell.stages.items()},
                }
                for cell in plan.cells
            ),
        ),
    }


def write_cells(plan: Plan, store: Store, commit: str | None, least: int = 0) -> Path:
    """Write the sweep's ``cells.json``, ``settings.json`` and ``run.json``; the sweep's folder.

    Tables and pictures there that are about other cells are moved away first, and a line says so.

    Args:
        plan: the sweep.
        store: where its stages are.
        commit: as in :func:`cells_json`.
        least: how many cells must be evaluated.

    Raises:
        UserError: fewer are; nothing was written.
    """
    folder, content = store.sweep(plan.name), cells_json(plan, store, commit)
    counts = Counter(cell["state"] for cell in content["cells"])
    if counts[FINISHED] < least:
        raise UserError(
            f"{plan.name}: no cell is evaluated yet ({_progress(plan, counts)}); "
            f"'ablate run {typed(plan.sweep)}' evaluates them"
        )
    kept = keep_earlier(folder, content)
    if kept is not None:
        print(
            f"note: the sweep's cells or its primary scorer have changed; earlier tables are in {kept}",
            flush=True,
        )
    _write_sweep_files(store, folder, content)
    known = [cell for cell in plan.cells if cell.stages]  # a cell that is being tuned has no id
    write_json(folder / SETTINGS, cell_settings(known))
    return folder


def _progress(plan: Plan, counts: Mapping[str, int]) -> str:
    """The states of the cells, and how far the tuning is where they wait for it."""
    tuning = progress_text(plan.tuning.record) if plan.tuning else ""
    return "; ".join([_listed(counts), *([tuning] if tuning else [])])


def _listed(counts: Mapping[str, int]) -> str:
    """``3 unfinished, 1 failed``."""
    return ", ".join(f"{count:,} {state}" for state, count in counts.items())


def refresh_cells(store: Store, folder: Path) -> None:
    """Bring the states in a sweep's ``cells.json`` and its ``run.json`` up to date, if there are any cells."""
    content = read_shaped(folder / CELLS, _CELLS)
    if content is not None:
        _write_sweep_files(store, folder, content | {"cells": with_states(store, content["cells"])})


def _write_sweep_files(store: Store, folder: Path, content: dict[str, Any]) -> None:
    write_json(folder / CELLS, content)
    write_json(folder / RUN, run_record(store, content))


def any_evaluated(folder: Path) -> bool:
    """True if the sweep's ``cells.json`` lists a finished cell."""
    content = read_shaped(folder / CELLS, _CELLS)
    return content is not None and any(cell["state"] == FINISHED for cell in content["cells"])


def write_tables(store: Store, folder: Path) -> bool:
    """Rebuild tables, pictures and the page unless they come from the present results and code. True if rebuilt."""
    from analysis.lock import up_to_date
    from analysis.page.present import is_present

    rebuild = not up_to_date(store.root, folder)
    if rebuild:
        from analysis.report import write

        write(store.root, folder)
    if not is_present(folder):
        from analysis.page.write import write_page

        write_page(store.root, folder)
    return rebuild


TERMINAL, LATEX, HTML = "terminal", "latex", "html"
"""What tables are printed as, beside ``csv`` and ``md``, which are files of the sweep's folder."""


def render(folder: Path, form: str = TERMINAL) -> str:
    """The sweep's written tables as ``terminal``, ``latex``, ``html``, ``csv`` or ``md``."""
    if form == TERMINAL:
        from analysis.render.terminal import render_terminal

        return render_terminal(folder)
    if form == LATEX:
        from analysis.render.latex import render_latex

        return render_latex(folder)
    if form == HTML:
        from analysis.page.write import render_tables

        return render_tables(folder)
    return (folder / f"table.{form}").read_text(encoding="utf-8")


PAGE = "report.html"
_SHOWN = (PAGE, "table.md", "effects.png", "gallery.png")


def results_line(folder: Path) -> str:
    """``results: runs/sweeps/demo@emoji/ (report.html, table.md, effects.png, ...)``; empty without a table."""
    written = [name for name in _SHOWN if (folder / name).exists()]
    return f"results: {folder}/ ({', '.join(written)}, ...)" if "table.md" in written else ""


def table_text(store: Store, folder: Path, form: str = TERMINAL) -> str:
    """Tables and pictures of what is evaluated, rebuilt where needed, and the tables in a form of :func:`render`.

    Raises:
        UserError: nothing is evaluated, or cells cannot be compared.
    """
    write_tables(store, folder)
    return render(folder, form)


def summary_text(plan: Plan, store: Store, commit: str | None) -> str:
    """Question, verdict, where the tables are, and what is missing; tables are rebuilt where needed.

    As long as no cell is evaluated, nothing is written, and the text says how far the cells are.

    Raises:
        UserError: cells cannot be compared.
    """
    content = cells_json(plan, store, commit)
    counts = Counter(cell["state"] for cell in content["cells"])
    command = f"'ablate run {typed(plan.sweep)}' runs what is missing"
    if not counts[FINISHED]:
        reasons = dict.fromkeys(f"{cell['name']}: {cell['reason']}" for cell in content["cells"] if cell["reason"])
        title = f"{plan.sweep.name} on {plan.experiment}"
        answer = (
            f"No cell is evaluated yet ({_progress(plan, counts)}), so there is no verdict and no table; {command}."
        )
        return "\n".join([title, plan.sweep.question, "", answer, *reasons])
    folder = write_cells(plan, store, commit)
    write_tables(store, folder)
    from analysis.render.terminal import summarise

    unfinished = set(counts) - {FINISHED, DIVERGED}
    return "\n".join([summarise(folder), results_line(folder), *([command] if unfinished else [])])
