"""Parquet files of a data set: opening them, checking their columns, streaming their rows in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

    Column = tuple[Callable[[pa.DataType], bool], str]
    """Whether a type fits, and what the column must hold."""

_READ_BYTES = 1 << 20
"""Bytes of a column to read at a time; otherwise Arrow reads the column of a whole row group."""


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file.

    Raises:
        UserError: it is not a parquet file, or is incomplete.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(path, error, "footer") from None


def damaged(path: Path, error: Exception, where: str) -> UserError:
    """The message for a file that cannot be read."""
    return UserError(f"{path}: not a readable parquet file ({where}): {reason(error)}")


def stream(
    file: pq.ParquetFile, path: Path, group: int, columns: Sequence[str], rows: int, first: int
) -> Iterator[list[dict[str, Any]]]:
    """The rows of one row group in batches of at most ``rows``; ``first`` is the number of its first row.

    Raises:
        UserError: the file is damaged in this range, or a text is not UTF-8.
    """
    import pyarrow as pa

    number = first
    try:
        for batch in file.iter_batches(rows, row_groups=[group], columns=list(columns), use_threads=False):
            values = batch.to_pylist()
            number += len(values)
            yield values
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise damaged(path, error, f"row group {group}, after row {number}") from None


def check_columns(path: Path, schema: pa.Schema, columns: Mapping[str, Column]) -> None:
    """Check that columns exist and have the expected types.

    Raises:
        UserError: a column is missing or of another type.
    """
    for name, (fits, expected) in columns.items():
        if name not in schema.names:
            raise UserError(f"{path}: column '{name}' ({expected}) is missing; it has {', '.join(schema.names)}")
        if not fits(schema.field(name).type):
            raise UserError(f"{path}: column '{name}' must hold {expected}, not {schema.field(name).type}")


def is_bytes(kind: pa.DataType) -> bool:
    """True if a column of this type contains bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_numeric(kind: pa.DataType) -> bool:
    """True if a column of this type contains integers or floating-point numbers."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_text(kind: pa.DataType) -> bool:
    """True if a column of this type contains text, also dictionary-encoded."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_label(kind: pa.DataType) -> bool:
    """True if a column of this type contains text or numbers, such as ids."""
    return is_text(kind) or is_numeric(kind)
