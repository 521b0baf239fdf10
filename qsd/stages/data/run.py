"""Stage data: every row of the source is examined once; pairs, problems and counts are written.

Output: ``pairs.parquet`` (pair_id, caption, winner_uid, loser_uid, annotator_id, source_row; vote_weight where votes
weigh; judge_agrees where ``data.judge_agrees`` names a column) in the order of the source, ``problems.json``,
``summary.json``. Images stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from qsd.data import votes
from qsd.data.examine import HARMLESS, examine_rows
from qsd.data.only import CONFIRMED, LEFT_OUT, used_rows
from qsd.data.opening import open_source
from qsd.data.pairs import PreferencePair
from qsd.data.problems import Problems
from qsd.data.source import PairSource
from qsd.data.votes import Judgements
from qsd.errors import UserError
from qsd.files import texts, write_json, write_table
from qsd.runtime import StageContext
from qsd.shards import sharded_tables

SHARD_ROWS = 1024
_TEXT_COLUMNS = ("pair_id", "caption", "winner_uid", "loser_uid", "annotator_id")


def run(context: StageContext) -> None:
    """Examine the data set that ``config.data`` names.

    Raises:
        UserError: an unreadable source, no pair in it, or more damaged rows than the bound allows.
    """
    config = context.config
    source = open_source(config.data)

    def compute(start: int, stop: int) -> pa.Table:
        return _examined(source, start, stop, config.threads)

    shards = sharded_tables(context.state / "rows", len(source), SHARD_ROWS, compute, context.report, "rows")
    pairs, problems, judgements = _merge(shards, config.data.votes)
    if config.data.votes in votes.WEIGHTED:
        columns = (texts(pairs[name]) for name in ("caption", "winner_uid", "loser_uid"))
        weights = [
            judgements.weight(caption, winner, loser, config.data.votes)
            for caption, winner, loser in zip(*columns, strict=True)
        ]
        pairs = pairs.append_column(votes.WEIGHT, pa.array(weights, pa.float64()))
    left_out = len(problems.ids.get(LEFT_OUT, []))
    if left_out == len(source) > 0:
        raise UserError(f"{config.data.path}: column '{config.data.only}' of data.only is false in all {left_out} rows")
    problems.check_bound(f"{config.data.path}", len(source) - left_out, config.data.max_rejected_fraction, HARMLESS)
    if pairs.num_rows == 0:
        raise UserError(f"{config.data.path}: no preference pair among {len(source)} rows; {_counts(problems)}")
    if config.data.judge_agrees is not None:
        agrees = used_rows(config.data.reader, Path(config.data.path), config.data.judge_agrees, "data.judge_agrees")
        confirmed = [agrees[row] for row in pairs["source_row"].to_numpy()]
        pairs = pairs.append_column(CONFIRMED, pa.array(confirmed, pa.bool_()))
    problems.write(context.output / "problems.json")
    only = {} if config.data.only is None else {"only": config.data.only, "left_out": left_out}
    write_json(context.output / "summary.json", {**_summary(pairs, problems, judgements, len(source)), **only})
    write_table(context.output / "pairs.parquet", pairs)


def _schema() -> pa.Schema:
    fields: dict[str, pa.DataType] = {name: pa.string() for name in _TEXT_COLUMNS}
    return pa.schema({**fields, "source_row": pa.int64()})


def _examined(source: PairSource, start: int, stop: int, threads: int) -> pa.Table:
    """Rows of a shard: the columns of a pair, and ``name`` and ``problem`` (null for a pair)."""
    schema = _schema().append(pa.field("name", pa.string())).append(pa.field("problem", pa.string()))
    records: list[dict[str, Any]] = []
    for row, outcome in examine_rows(source, start, stop, threads):
        if isinstance(outcome, PreferencePair):
            records.append({**vars(outcome), "name": row.name})
        else:
            name, problem = outcome
            records.append({"name": name, "problem": problem, "source_row": row.number})
    return pa.Table.from_pylist(records, schema=schema)


def _merge(shards: Iterable[pa.Table], voting: str) -> tuple[pa.Table, Problems, Judgements]:
    """All pairs, the first of equal ones only and what the votes decide, all problems, and all judgements."""
    problems, judgements = Problems(), Judgements()
    first = [_first_judgements(shard, problems, judgements) for shard in shards]
    tables = [_decided(shard, problems, judgements) if voting == "majority" else shard for shard in first]
    merged = pa.concat_tables([_schema().empty_table(), *(table.select(_schema().names) for table in tables)])
    order = pc.sort_indices(merged, sort_keys=[("source_row", "ascending")])
    return merged.take(order).combine_chunks(), problems, judgements


def _first_judgements(shard: pa.Table, problems: Problems, judgements: Judgements) -> pa.Table:
    """The rows of a shard that make a pair which no row before made.

    Duplicates and votes are known only across shards, so they are found here and not when a row is examined.
    """
    keep = []
    columns = (shard[name].to_pylist() for name in ("pair_id", "annotator_id", "name", "problem"))
    for pair_id, annotator, name, problem in zip(*columns, strict=True):
        reason = problem or judgements.add(pair_id, annotator)
        if reason:
            problems.add(reason, name)
        keep.append(reason is None)
    return shard.filter(pa.array(keep, pa.bool_()))


def _decided(shard: pa.Table, problems: Problems, judgements: Judgements) -> pa.Table:
    """The pairs of a shard whose winner has the majority of the votes."""
    keep = []
    columns = (shard[name].to_pylist() for name in ("caption", "winner_uid", "loser_uid", "name"))
    for caption, winner, loser, name in zip(*columns, strict=True):
        lost = judgements.lost(caption, winner, loser)
        if lost:
            problems.add(lost, name)
        keep.append(lost is None)
    return shard.filter(pa.array(keep, pa.bool_()))


def _counts(problems: Problems) -> str:
    return ", ".join(f"{reason} {len(ids)}" for reason, ids in sorted(problems.ids.items())) or "no rows"


def _summary(pairs: pa.Table, problems: Problems, judgements: Judgements, rows: int) -> dict[str, Any]:
    images = pa.chunked_array([*pairs["winner_uid"].chunks, *pairs["loser_uid"].chunks])
    return {
        "rows": rows,
        "pairs": pairs.num_rows,
        "ties": len(problems.ids.get("tie", [])),
        "refused": problems.count(HARMLESS),
        "unique_captions": pc.count_distinct(pairs["caption"]).as_py(),
        "unique_images": pc.count_distinct(images).as_py(),
        "annotators": len(set(judgements.annotators())),
        "votes": {str(votes): choices for votes, choices in sorted(judgements.counts().items())},
    }
