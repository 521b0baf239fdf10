"""The results of a sweep as tidy pandas frames, for notebooks and scripts (``analysis.results``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.load import load
from analysis.data.rows import COMPARED
from analysis.data.training import curves_json
from analysis.statistics.build_rows import build_rows
from qsd.errors import UserError

if TYPE_CHECKING:
    from analysis.data.rows import Row
    from analysis.data.sweep import SweepFolder

PROJECT = Path(__file__).resolve().parent.parent
_SWEEPS = "sweeps"
_REFERENCES = ("baseline", "base")
_PLACE = ("cell", "role", "split", "scorer", "primary", "reference")


@dataclass(frozen=True)
class Frames:
    """One sweep; every frame has one row per observation, and settings that cells vary as columns of their own.

    Attributes:
        sweep: what the sweep asks, its baseline, its primary scorer and split, and its replicates.
        cells: per cell and training seed, whether finished or not: cell, role, is_baseline, seed (missing for the base
            model), state, reason, cell_id, and a column per varied setting, such as ``loss.beta``.
        scores: per cell, seed, prompt, image and scorer: role, split, caption, category (missing for prompts without
            one), image_index, unit, and score, which is missing where the scorer gave no finite number.
        comparisons: per cell, split, scorer and reference (``baseline`` or ``base``): difference; low and high, its
            interval for new prompts and training seeds; level, 0.05 for one of 95 %, that of the look on the primary
            scorer of a sweep with looks; p, p_adjusted, marked; these_models_low and these_models_high, for new prompts
            alone; win_rate; seeds. The formulas are those of the tables.
        curves: per cell, seed, log (``train`` or ``validation``), step and column of the log: value.
    """

    sweep: SweepFolder
    cells: pd.DataFrame
    scores: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame

    def __repr__(self) -> str:
        """The sweep and the sizes of its frames; the frames themselves would fill pages of a notebook."""
        frames = {"cells": self.cells, "scores": self.scores, "comparisons": self.comparisons, "curves": self.curves}
        sizes = ", ".join(f"{name}: {len(frame):,} x {len(frame.columns)}" for name, frame in frames.items())
        return f"<results of {self.sweep.name} on {self.sweep.experiment}; {sizes}>"


def read(name: str, experiment: str | None = None, runs: str | Path | None = None) -> Frames:
    """Read what a sweep has evaluated so far; arguments and errors are those of ``analysis.results``."""
    store = Path(runs) if runs is not None else _nearest_store()
    folder = _sweep_folder(store, name, experiment)
    results = load(store, folder)
    rows = build_rows(results)
    text = curves_json(store, results.sweep)
    cells = _cells(results.sweep)
    varied = cells.drop(columns=["role", "is_baseline", "state", "reason", "cell_id", "seed"]).drop_duplicates("cell")
    scores = results.scores.drop(columns=["axes", "cell_id", "evaluate_key", "revision"])
    category = scores["prompt_id"].astype(str).map(results.categories).astype(object)
    scores.insert(scores.columns.tolist().index("caption") + 1, "category", category)
    return Frames(
        sweep=results.sweep,
        cells=cells,
        scores=scores.merge(varied, on="cell", how="left"),
        comparisons=_comparisons(rows).merge(varied, on="cell", how="left"),
        curves=_curves(json.loads(text) if text else {"cells": [], "curves": {}}).merge(varied, on="cell", how="left"),
    )


def _nearest_store() -> Path:
    """``runs`` of the current folder or of one above it, else of the project."""
    here = Path.cwd()
    for folder in (here, *here.parents, PROJECT):
        if (folder / "runs" / _SWEEPS).is_dir():
            return folder / "runs"
    raise UserError(
        f"no folder runs/sweeps in {here}, above it or in {PROJECT}; name the store: results(..., runs=...)"
    )


def _sweep_folder(store: Path, name: str, experiment: str | None) -> Path:
    written = sorted(path.parent.name for path in (store / _SWEEPS).glob("*/cells.json"))
    wanted = f"{name}@{experiment}" if experiment else name
    fits = [each for each in written if each == wanted or each.partition("@")[0] == wanted]
    if len(fits) == 1:
        return store / _SWEEPS / fits[0]
    if fits:
        raise UserError(f"{store}: {', '.join(fits)}; which one? results({name!r}, experiment=...)")
    known = f"there are {', '.join(written)}" if written else "there are none"
    raise UserError(f"{store / _SWEEPS}: no sweep {wanted!r}; {known}")


def _cells(sweep: SweepFolder) -> pd.DataFrame:
    lines = [
        {
            "cell": replicate.name,
            "role": replicate.role,
            "is_baseline": replicate.is_baseline,
            "seed": replicate.seed,
            "state": replicate.state,
            "reason": replicate.reason,
            "cell_id": replicate.cell_id,
            **{axis: _hashable(value) for axis, value in replicate.axes.items()},
        }
        for cell in sweep.cell_names()
        for replicate in sweep.of_cell(cell)
    ]
    return pd.DataFrame(lines).astype({"seed": "Int64"})


def _hashable(value: Any) -> Any:
    """Lists and mappings as their JSON, since frames group by numbers and texts."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _comparisons(rows: list[Row]) -> pd.DataFrame:
    lines = []
    for row in rows:
        for reference in _REFERENCES:
            comparison = row.versus_baseline if reference == "baseline" else row.versus_base
            if comparison is not None:
                place = [row.cell, row.role, row.split, row.scorer, row.primary, reference]
                values = comparison.columns()
                lines.append([*place, *(values[name] for name in COMPARED), len(comparison.seeds)])
    return pd.DataFrame(lines, columns=[*_PLACE, *COMPARED, "seeds"])


def _curves(content: dict[str, Any]) -> pd.DataFrame:
    frames = []
    for cell in content["cells"]:
        for log, columns in content["curves"][cell["training"]].items():
            if columns:
                wide = pd.DataFrame(columns)
                long = wide.melt("step", var_name="column", value_name="value").assign(log=log)
                frames.append(long.assign(cell=cell["cell"], seed=cell["seed"]))
    order = ["cell", "seed", "log", "step", "column", "value"]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in order})
    curves = pd.concat(frames, ignore_index=True)[order]
    return curves.assign(value=pd.to_numeric(curves["value"], errors="coerce"))
