"""Parquet files of a data set: opening them, checking their columns, streaming their rows in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.lfs import pointer_hint
from qsd.errors import UserError, reason
from qsd.regular_files import check_regular

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

    check_regular(path)
    try:
        return pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: in the name of a column
        if hint := pointer_hint(path):
            raise UserError(f"{path}: {hint}") from None
        raise damaged(path, error, "footer") from None


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files of a folder, or of its folder ``data`` where a download from the hub puts them, by name.

    Hidden files, such as the ``._name`` that a Mac adds to each file of an archive, are passed over.

    Raises:
        UserError: parquet files in both places, or a name of one that is no file, such as a link to nothing.
    """
    places = [
        sorted(file for file in place.glob("*.parquet") if not file.name.startswith("."))
        for place in (folder, folder / "data")
    ]
    if all(places):
        raise UserError(f"{folder}: has *.parquet, and so has its folder data; name the one that is meant")
    files = places[0] or places[1]
    for file in files:
        if not file.is_file():
            what = "a folder" if file.is_dir() else "a link to nothing" if file.is_symlink() else "no file"
            raise UserError(f"{file}: {what}; fetch the file again, or take it out of {file.parent}")
    return files


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
            try:
                values = batch.to_pylist()
            except UnicodeDecodeError:
                raise UserError(f"{path}: {_undecodable(batch, number)}; write it again as UTF-8") from None
            number += len(values)
            yield values
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error, f"row group {group}, after row {number}") from None


def _undecodable(batch: pa.RecordBatch, first: int) -> str:
    """Row and column of the first text that is not UTF-8; ``first`` is the number of the batch's first row."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for number, value in enumerate(column, start=first):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                return f"row {number}, column '{name}': text that is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    return f"after row {first}: text that is not UTF-8"


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

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_image(kind: pa.DataType) -> bool:
    """True if a column of this type contains image files: bytes, or the ``{bytes, path}`` of datasets' ``Image()``."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return is_bytes(kind)
    return kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)


def image_file(value: Any) -> bytes | None:
    """The bytes in a cell of a column that fits :func:`is_image`."""
    content: bytes | None = value["bytes"] if isinstance(value, dict) else value
    return content


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


def is_flag(kind: pa.DataType) -> bool:
    """True if a column of this type contains true and false, also as numbers."""
    import pyarrow as pa

    return bool(pa.types.is_boolean(kind)) or is_numeric(kind)


def label_text(value: Any) -> str | None:
    """An id as text; None where there is none.

    pandas makes floats of whole numbers in a column with gaps, and NaN of the gaps: 12.0 is the id 12 of other files.
    """
    if value is None or value == "" or value != value:  # NaN is not itself
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).encode(errors="replace").decode()
