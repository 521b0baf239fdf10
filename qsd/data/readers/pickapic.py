"""Pick-a-Pic's layout: parquet with ``jpg_0``, ``jpg_1`` (file bytes), ``label_0`` and ``caption``.

``label_0`` is 1 when ``jpg_0`` was preferred, 0 when ``jpg_1`` was, 0.5 for a tie. ``ranking_id`` names a row in
problems and ``user_id`` the annotator, where they exist. A folder is one split: all its ``*.parquet`` in the order of
their names. Source: Pick-a-Pic v1 and v2 as read by SalesforceAIResearch/DiffusionDPO ``train.py``.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.data.pairs import SourceRow
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

_REQUIRED = ("jpg_0", "jpg_1", "label_0", "caption")
_OPTIONAL = ("ranking_id", "user_id")
_STREAMED_ROWS = 64
_CACHED_GROUPS = 2


@dataclass(frozen=True)
class _Group:
    """One row group: its file, its place in it, and its first row in the whole source."""

    path: Path
    index: int
    start: int
    rows: int


class PickAPic:
    """A :class:`qsd.data.source.PairSource` over parquet files."""

    def __init__(self, path: Path) -> None:
        self._groups: list[_Group] = []
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._opened: tuple[Path, pq.ParquetFile] | None = None
        total = 0
        for file in _files(path):
            metadata = self._file(file).metadata
            _check_schema(file, self._file(file).schema_arrow)
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
            for number, values in self._stream(group):
                if start <= number < stop:
                    yield _row(number, values)

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`qsd.data.source.PairSource.image_bytes`."""
        if not 0 <= number < self._total:
            raise UserError(f"source row {number}: the data set has {self._total} rows; run the data stage again")
        place = bisect.bisect_right(self._starts, number) - 1
        group = self._groups[place]
        offset = number - group.start
        table = self._cached(place)
        row = _row(number, {name: table[name][offset].as_py() for name in ("jpg_0", "jpg_1", "label_0")})
        if row.problem or not row.winner or not row.loser:
            raise UserError(f"{group.path}: row {number} is no pair any more; run the data stage again")
        return row.winner, row.loser

    def _stream(self, group: _Group) -> Iterator[tuple[int, dict[str, Any]]]:
        import pyarrow as pa

        file = self._file(group.path)
        columns = [name for name in (*_REQUIRED, *_OPTIONAL) if name in file.schema_arrow.names]
        number = group.start
        try:
            for batch in file.iter_batches(_STREAMED_ROWS, row_groups=[group.index], columns=columns):
                for values in batch.to_pylist():
                    yield number, values
                    number += 1
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(group.path, error, f"row group {group.index}, after row {number}") from None

    def _cached(self, place: int) -> pa.Table:
        import pyarrow as pa

        if place not in self._cache:
            group = self._groups[place]
            try:
                table = self._file(group.path).read_row_group(group.index, columns=["jpg_0", "jpg_1", "label_0"])
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(group.path, error, f"row group {group.index}") from None
            self._cache[place] = table
            if len(self._cache) > _CACHED_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(place)
        return self._cache[place]

    def _file(self, path: Path) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._opened is None or self._opened[0] != path:
            try:
                self._opened = (path, pq.ParquetFile(path))
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(path, error, "footer") from None
        return self._opened[1]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; data.path names the preference pairs")
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise UserError(f"{path}: no *.parquet in this folder")
    return files


def _damaged(path: Path, error: Exception, where: str) -> UserError:
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path}: not a readable parquet file ({where}): {detail}")


def _check_schema(path: Path, schema: pa.Schema) -> None:
    import pyarrow as pa

    def is_image(kind: pa.DataType) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_number(kind: pa.DataType) -> bool:
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))

    def is_text(kind: pa.DataType) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    checks = {
        "jpg_0": (is_image, "image bytes"),
        "jpg_1": (is_image, "image bytes"),
        "label_0": (is_number, "0, 0.5 or 1"),
        "caption": (is_text, "text"),
    }
    for name, (fits, expected) in checks.items():
        if name not in schema.names:
            raise UserError(f"{path}: column '{name}' ({expected}) is missing; it has {', '.join(schema.names)}")
        if not fits(schema.field(name).type):
            raise UserError(f"{path}: column '{name}' must hold {expected}, not {schema.field(name).type}")


def _row(number: int, values: dict[str, Any]) -> SourceRow:
    label = values["label_0"]
    problem = {0.0: None, 1.0: None, 0.5: "tie"}.get(label, "label_out_of_range")
    first, second = values["jpg_0"], values["jpg_1"]
    ranking, annotator = values.get("ranking_id"), values.get("user_id")
    return SourceRow(
        number=number,
        name=f"row-{number}" if ranking is None else f"row-{number}/ranking-{ranking}",
        caption=values.get("caption"),
        winner=first if label == 1 else second,
        loser=second if label == 1 else first,
        annotator=None if annotator is None else str(annotator),
        problem=problem,
    )


READER = Reader(open=PickAPic)
