"""How many pairs a data set has: as its data stage counted them, or as its reader finds them, or by a stated guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.files import read_json
from qsd.config.once_per_process import OncePerProcess
from qsd.data.listed import ListedPairs
from qsd.data.only import used_rows
from qsd.data.opening import opened
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store

UNKNOWN_PAIRS = 100_000
"""Pairs that are assumed of a data set that is not on this machine."""
BYTES_PER_PIXEL = 0.6
"""Of a compressed image: turns the size of a data set that its reader cannot open into a number of pairs."""
_MOST_INPUTS = 4
"""Stages between a stage and its data, at most."""

Limited = tuple[str, int | None, str | None]
"""A path, the number of its first rows that are used, and the column of ``data.only``; None for all."""


@OncePerProcess
def count_pairs(reader: str, path: str, columns: tuple[tuple[str, str], ...] = (), only: str | None = None) -> int:
    """Pairs of a data set as far as its list says; rows where only the data stage can tell pairs from ties.

    Counted once per process. Reads lists of paths whole (CSV, JSON, parquet), of parquet files with images the footers.

    Args:
        reader: its layout.
        path: file or folder.
        columns: role and name of each column that ``data.columns`` gives.
        only: column of ``data.only``; the rows where it is true are then the most that there can be.

    Raises:
        UserError: nothing there, or not in the layout of the reader.
    """
    source = opened(reader, Path(path), dict(columns))
    count = source.pairs if isinstance(source, ListedPairs) else len(source)
    return count if only is None else min(count, sum(used_rows(reader, Path(path), only)))


def pairs_by_size(path: Path, resolution: int) -> int:
    """A guess from the bytes of a file or of a folder's files, as if each pair were two compressed images.

    Raises:
        OSError: it cannot be looked at.
    """
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    return max(1, round(size / (2 * BYTES_PER_PIXEL * resolution**2)))


def _counting(count: str) -> str:
    """The stage whose ``summary.json`` has a count (``qsd.stages.stage_spec.StageSpec.counts``)."""
    return next(stage for stage, spec in STAGES.items() if count in spec.counts)


def counted_pairs(store: Store, nodes: Iterable[StageNode]) -> dict[Limited, int]:
    """Pairs of the data stages among ``nodes`` that are finished."""
    stage = _counting("pairs")
    counts = {_limited(node.values): _count(store, stage, node.key, "pairs") for node in nodes if node.stage == stage}
    return {limited: count for limited, count in counts.items() if count}


def _limited(values: Mapping[str, Any]) -> Limited:
    return str(values["data.path"]), values["data.max_rows"], values.get("data.only")


def true_pairs(store: Store, upstream: Mapping[str, str]) -> int | None:
    """Pairs of the data that a stage worked on; None if the data's artefact is gone.

    Args:
        store: where the stage was done.
        upstream: its inputs, stage -> key, and perhaps itself.
    """
    counting, inputs = _counting("pairs"), dict(upstream)
    for _ in range(_MOST_INPUTS):
        if counting in inputs:
            return _count(store, counting, inputs[counting], "pairs")
        records: list[Any] = [read_json(store.artefact(stage, key) / "record.json") for stage, key in inputs.items()]
        inputs = {stage: key for record in records for stage, key in _inputs(record).items()}
    return None


def true_selected(store: Store, upstream: Mapping[str, str]) -> int | None:
    """Pairs that the selection among the inputs of a stage kept; None without one, or if its artefact is gone."""
    stage = _counting("selected")
    return _count(store, stage, upstream[stage], "selected") if stage in upstream else None


def _inputs(record: Any) -> Mapping[str, str]:
    inputs = record.get("inputs") if isinstance(record, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _count(store: Store, stage: str, key: str, count: str) -> int | None:
    """A count in the ``summary.json`` of a stage; None if it is not finished."""
    summary = store.artefact(stage, key) / "summary.json"
    try:
        return int(json.loads(summary.read_bytes())[STAGES[stage].counts[count]])
    except (OSError, ValueError, KeyError, TypeError):
        return None
