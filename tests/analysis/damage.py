"""Evaluations that a test damages."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from tests.analysis.synthetic import seal, stage_keys


def scores_of(runs, cell, seed):
    return runs / "artefacts" / "evaluate" / stage_keys(cell, seed)["evaluate"]


def rewrite(folder, change):
    table = change(pq.read_table(folder / "scores.parquet"))
    pq.write_table(table, folder / "scores.parquet")
    seal(folder, "evaluate", folder.name)


def spoil(folder, rows, listed):
    """Scores that are no number: as such in the file, or left out of it and listed beside it, as the stage does."""

    def change(table):
        if listed:
            ids = [f"{r['scorer']}/{r['prompt_id']}/{r['image_index']}" for r in table.take(rows).to_pylist()]
            problems = {"non_finite_score": {"count": len(ids), "ids": ids}}
            (folder / "problems.json").write_text(json.dumps(problems))
            return table.take([row for row in range(table.num_rows) if row not in rows])
        score = table["score"].to_pylist()
        for row in rows:
            score[row] = float("nan")
        return table.set_column(table.column_names.index("score"), "score", pa.array(score, pa.float32()))

    rewrite(folder, change)
    seal(folder, "evaluate", folder.name)
