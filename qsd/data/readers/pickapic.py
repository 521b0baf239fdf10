"""Pick-a-Pic's layout: parquet with ``jpg_0``, ``jpg_1`` (file bytes), ``label_0`` and ``caption``.

``label_0`` is 1 when ``jpg_0`` was preferred, 0 when ``jpg_1`` was, 0.5 for a tie. ``ranking_id`` names a row in
problems, ``user_id`` the annotator, ``image_0_uid`` and ``image_1_uid`` the images, where they exist. Images are bytes,
or the ``{bytes, path}`` of datasets' ``Image()``. A folder is one split: all its ``*.parquet``, or those of its folder
``data``, in the order of their names. Source: Pick-a-Pic v1 and v2 as read by SalesforceAIResearch/DiffusionDPO
``train.py``.
"""

from __future__ import annotations

import bisect
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.data.pairs import SourceRow
from qsd.data.parquet import (
    check_columns,
    image_file,
    is_image,
    is_numeric,
    is_text,
    open_parquet,
    parquet_files,
    stream,
)
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow.parquet as pq

_REQUIRED = {
    "jpg_0": (is_image, "image bytes"),
    "jpg_1": (is_image, "image bytes"),
    "label_0": (is_numeric, "0, 0.5 or 1"),
    "caption": (is_text, "text"),
}
_OPTIONAL = ("ranking_id", "user_id", "image_0_uid", "image_1_uid")
_STREAMED_ROWS = 16
_KEPT_BATCHES = 4
_SHOWN = 3
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(-\w+)?\.parquet")
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+(@[\w.-]+)?")

Row = dict[str, Any]


@dataclass(frozen=True)
class _Group:
    """One row group: its file, its place in it, and its first row in the whole source."""

    path: Path
    index: int
    start: int
    rows: int


class PickAPic:
    """A :class:`qsd.data.source.PairSource` over parquet files; a few batches of rows are in memory at a time."""

    def __init__(self, path: Path) -> None:
        self._groups: list[_Group] = []
        self._batches: OrderedDict[int, list[Row]] = OrderedDict()
        self._forward: tuple[int, Iterator[tuple[int, list[Row]]]] | None = None
        self._opened: tuple[Path, pq.ParquetFile] | None = None
        total = 0
        for file in _files(path):
            metadata = self._file(file).metadata
            check_columns(file, self._file(file).schema_arrow, _REQUIRED)
            for index in range(metadata.num_row_groups):
                rows = metadata.row_group(index).num_rows
                self._groups.append(_Group(file, index, total, rows))
                total += rows
        self._total = total
        self._starts = [group.start for group in self._groups]

    def __len__(self) -> int:
        return self._total

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`qsd.data.source.PairSource.rows`."""
        for group in self._groups:
            if group.start + group.rows <= start or group.start >= stop:
                continue
            for first, batch in self._stream(group, (*_REQUIRED, *_OPTIONAL)):
                for number, values in enumerate(batch, first):
                    if start <= number < stop:
                        yield _row(number, values)

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`qsd.data.source.PairSource.image_bytes`."""
        if not 0 <= number < self._total:
            raise UserError(f"source row {number}: the data set has {self._total} rows; run the data stage again")
        place = bisect.bisect_right(self._starts, number) - 1
        row = _row(number, self._values(place, number))
        if row.problem or not row.winner or not row.loser:
            raise UserError(f"{self._groups[place].path}: row {number} is no pair any more; run the data stage again")
        return row.winner, row.loser

    def _values(self, place: int, number: int) -> Row:
        """One row. Going forward reads on; going back beyond the kept batches reads the row group again."""
        for first, batch in self._batches.items():
            if first <= number < first + len(batch):
                return batch[number - first]
        newest = next(reversed(self._batches), number + 1)
        if self._forward is None or self._forward[0] != place or number < newest:
            self._forward = (place, self._stream(self._groups[place], ("jpg_0", "jpg_1", "label_0")))
        for first, batch in self._forward[1]:
            self._batches[first] = batch
            self._batches.move_to_end(first)
            if len(self._batches) > _KEPT_BATCHES:
                self._batches.popitem(last=False)
            if number < first + len(batch):
                return batch[number - first]
        path = self._groups[place].path
        raise UserError(f"{path}: row {number} is not there any more; run the data stage again")

    def _stream(self, group: _Group, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[Row]]]:
        """(number of the first row, rows) of a row group, batch by batch."""
        file, first = self._file(group.path), group.start
        columns = [name for name in wanted if name in file.schema_arrow.names]
        for batch in stream(file, group.path, group.index, columns, _STREAMED_ROWS, first):
            yield first, batch
            first += len(batch)

    def _file(self, path: Path) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != path:
            self._opened = (path, open_parquet(path))
        return self._opened[1]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        if _HUB_NAME.fullmatch(str(path)) and not path.parent.exists():
            raise UserError(
                f"{path}: no such file or folder. Is it a hub name? Data is read from local files, and Pick-a-Pic has "
                f"been missing from the hub since 2025; another copy there is fetched with: "
                f"hf download --repo-type dataset {path} --local-dir FOLDER"
            )
        raise UserError(f"{path}: no such file or folder; data.path names the preference pairs")
    files = parquet_files(path)
    if not files:
        raise UserError(f"{path}: no *.parquet in this folder")
    splits = sorted({found["split"] for file in files if (found := _SHARD.fullmatch(file.name))})
    if len(splits) > 1:
        raise UserError(
            f"{path}: holds the splits {', '.join(splits)}, and a folder is read as one; "
            f"move each into a folder of its own (links will do)"
        )
    return files


def _missing_shards(path: Path) -> str | None:
    """What is missing of the split in a folder, by the names of its shards."""
    present: dict[tuple[str, int], set[int]] = {}
    for file in parquet_files(path) if path.is_dir() else []:
        if shard := _SHARD.fullmatch(file.name):
            present.setdefault((shard["split"], int(shard["total"])), set()).add(int(shard["number"]))
    for (split, total), numbers in present.items():
        if missing := [number for number in range(total) if number not in numbers]:
            names = ", ".join(f"{split}-{number:05d}-of-{total:05d}" for number in missing[:_SHOWN])
            more = ", …" if len(missing) > _SHOWN else ""
            return f"{len(missing)} of {total} shards {'is' if len(missing) == 1 else 'are'} missing ({names}{more})"
    return None


def _recognises(path: Path) -> bool:
    if path.suffix != ".parquet" and not (path.is_dir() and parquet_files(path)):
        return False
    return "jpg_0" in open_parquet(_files(path)[0]).schema_arrow.names


def _row(number: int, values: Row) -> SourceRow:
    label = values["label_0"]
    problem = {0.0: None, 1.0: None, 0.5: "tie"}.get(label, "label_out_of_range")
    ranking, annotator = values.get("ranking_id"), values.get("user_id")
    winner, loser = ("0", "1") if label == 1 else ("1", "0")
    return SourceRow(
        number=number,
        name=f"row-{number}" if ranking is None else f"row-{number}/ranking-{ranking}",
        caption=values.get("caption"),
        winner=image_file(values[f"jpg_{winner}"]),
        loser=image_file(values[f"jpg_{loser}"]),
        annotator=None if annotator is None else str(annotator),
        problem=problem,
        winner_name=_name(values.get(f"image_{winner}_uid")),
        loser_name=_name(values.get(f"image_{loser}_uid")),
    )


def _name(value: object) -> str | None:
    return None if value is None else str(value)


READER = Reader(open=PickAPic, recognises=_recognises, missing=_missing_shards)
