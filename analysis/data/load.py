"""Scores of a sweep as one long table, with the origin of every number."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.distances import Distances
from analysis.data.sweep import Replicate, SweepFolder, artefact, check_content, read_sweep
from analysis.data.tuned_apart import check_apart
from qsd.errors import UserError
from qsd.evaluation.categories import read_categories

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = ("prompt_id", "split", "caption", "scorer", "revision", "unit")


@dataclass(frozen=True)
class Results:
    """What has been evaluated so far.

    Attributes:
        sweep: all planned cells, evaluated or not; ``distance_to_base`` is among the scorers of those alone whose base
            model is evaluated.
        scores: one row per (cell, seed, prompt, image, scorer) with the columns cell, role, seed (Int64, missing for
            the base model), axes (JSON), cell_id, evaluate_key, prompt_id, split, caption, image_index, scorer,
            revision, unit, score (float64; no number where the scorer gave none). The rows of ``distance_to_base`` are
            in no file of scores: they are computed here.
        missing: replicates without a finished evaluation; no number stands in for them.
        runs: where the artefacts lie.
        categories: prompt id -> category, of the prompts that have one.
    """

    sweep: SweepFolder
    scores: pd.DataFrame
    missing: tuple[Replicate, ...]
    runs: Path
    categories: dict[str, str] = field(default_factory=dict)


def load(runs: Path, sweep_folder: Path) -> Results:
    """Read every finished evaluation of a sweep; raises like :func:`read`."""
    return read(runs, read_sweep(sweep_folder))


def read(runs: Path, sweep: SweepFolder, scorer: str | None = None) -> Results:
    """Read every finished evaluation of ``sweep``, under one scorer or under all.

    Raises:
        UserError: nothing is evaluated yet, a file is damaged or lacks a column, a prompt has two categories, or cells
            were tuned on what they are measured with (``analysis.data.tuning.check_apart``).
    """
    distances = Distances(runs, sweep)
    sweep = distances.sweep
    tables: list[pa.Table] = []
    left_out: list[dict[str, Any]] = []
    missing: list[Replicate] = []
    scores_of_key: dict[str, pa.Table] = {}
    categories: dict[str, str] = {}
    for replicate in sweep.replicates:
        key = replicate.stages.get("evaluate")
        folder = artefact(runs, "evaluate", key)
        if key is None or folder is None:
            missing.append(replicate)
            continue
        if key not in scores_of_key:  # cells that differ in nothing that evaluation sees share one
            check_content(runs, "evaluate", key)
            scores_of_key[key] = _of_scorer(_read_scores(folder / "scores.parquet"), scorer)
            _add_categories(categories, folder)
        tables.append(_with_origin(scores_of_key[key], replicate, key))
        if (table := distances.rows(replicate, folder, scores_of_key[key])) is not None:
            tables.append(_with_origin(table, replicate, key))
        left_out += [
            _origin(replicate, key) | row
            for row in _left_out(folder / "problems.json")
            if scorer is None or row["scorer"] == scorer
        ]
    if not tables:
        raise UserError(f"{sweep.folder}: no cell has been evaluated yet; 'ablate run {sweep.name}' evaluates them")
    scores = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    if left_out:
        scores = pd.concat([scores, _rows_without_number(left_out, scores)], ignore_index=True)
    scores["seed"] = scores["seed"].astype("Int64")
    check_apart(sweep, _captions_of_trained(scores) if sweep.tuning else {})
    return Results(sweep, scores, tuple(missing), runs, categories)


def _add_categories(known: dict[str, str], folder: Path) -> None:
    """Add the categories of an evaluation; one of before categories were kept has none, and takes those of others."""
    for prompt, category in read_categories(folder).items():
        if known.setdefault(prompt, category) != category:
            raise UserError(
                f"{folder}: prompt {prompt!r} has the category {category!r}, in another cell {known[prompt]!r}; "
                "evaluate all cells with one prompts file"
            )


def _captions_of_trained(scores: pd.DataFrame) -> dict[str, list[str]]:
    """Split -> different captions that trained cells were scored on."""
    trained = scores.loc[scores["role"] != "base", ["split", "caption"]].astype(str).drop_duplicates()
    return {str(split): group["caption"].tolist() for split, group in trained.groupby("split")}


def _of_scorer(scores: pa.Table, scorer: str | None) -> pa.Table:
    if scorer is None:
        return scores
    names = scores["scorer"].cast(pa.string()).to_numpy(zero_copy_only=False)
    return scores.filter(pa.array(names == scorer))


def _read_scores(path: Path) -> pa.Table:
    columns = (*_TEXT, "image_index", "score")
    file = pq.ParquetFile(path)
    absent = [column for column in columns if column not in file.schema_arrow.names]
    if absent:
        raise UserError(f"{path}: column {absent[0]!r} is missing; the file has {', '.join(file.schema_arrow.names)}")
    table = file.read(columns=list(columns))
    text: dict[str, Any] = {name: _dictionary(table[name]) for name in _TEXT}
    numbers = {"image_index": table["image_index"].cast(pa.int64()), "score": table["score"].cast(pa.float64())}
    return pa.table(text | numbers)


def _dictionary(column: Any) -> Any:
    return column.cast(pa.string()).combine_chunks().dictionary_encode()


def _with_origin(table: pa.Table, replicate: Replicate, key: str) -> pa.Table:
    rows = table.num_rows
    origin = _origin(replicate, key)
    codes: Any = pa.array(np.zeros(rows, np.int32))
    constant: dict[str, Any] = {
        name: pa.array([value] * rows, pa.int64())
        if name == "seed"
        else pa.DictionaryArray.from_arrays(codes, pa.array([value]))
        for name, value in origin.items()
    }
    order = ["cell", "role", "seed", "axes", "cell_id", "evaluate_key", *_TEXT[:3], "image_index", *_TEXT[3:], "score"]
    columns = constant | {name: table[name] for name in table.column_names}
    return pa.table({name: columns[name] for name in order})


def _origin(replicate: Replicate, key: str) -> dict[str, Any]:
    return {
        "cell": replicate.name,
        "role": replicate.role,
        "seed": replicate.seed,
        "axes": json.dumps(replicate.axes, sort_keys=True, ensure_ascii=False),
        "cell_id": replicate.cell_id,
        "evaluate_key": key,
    }


def _left_out(path: Path) -> list[dict[str, Any]]:
    """The (scorer, prompt, image) whose score was no number: stage evaluate lists them beside the others."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))["non_finite_score"]["ids"]
    except (FileNotFoundError, KeyError):
        return []
    # A prompt's id may hold slashes itself.
    parts = (name.split("/") for name in ids)
    return [{"scorer": p[0], "prompt_id": "/".join(p[1:-1]), "image_index": int(p[-1])} for p in parts]


def _rows_without_number(left_out: list[dict[str, Any]], scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``scores`` for the images without a number, with split, caption, revision and unit from other rows.

    A prompt that no scorer of no cell could score appears nowhere, and is no prompt of the table.
    """
    rows = pd.DataFrame(left_out).assign(score=float("nan"))
    rows["seed"] = rows["seed"].astype("Int64")
    for column, known in (("prompt_id", ["split", "caption"]), ("scorer", ["revision", "unit"])):
        described = scores[[column, *known]].astype(str).drop_duplicates(column)
        rows = rows.merge(described, on=column, how="inner")
    return rows[list(scores.columns)]
