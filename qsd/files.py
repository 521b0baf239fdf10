"""Files of artefacts: written aside, then moved into place, and free of anything that varies between runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON with its keys in the order given."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    aside.replace(path)


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file."""
    import pyarrow.parquet as pq

    aside = path.with_name(path.name + ".tmp")
    pq.write_table(table, aside, compression="zstd")
    aside.replace(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits, as the record of its artefact has it.

    Raises:
        UserError: there is no such file.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the folder the artefact of the right stage?") from None


def texts(column: pa.ChunkedArray[Any]) -> list[str]:
    """A column of text without nulls as a list."""
    values: list[Any] = column.to_numpy().tolist()  # a third of the time of to_pylist
    return values


def read_table(path: Path, columns: list[str] | None = None, dictionaries: list[str] | None = None) -> pa.Table:
    """An artefact's parquet file, or some of its columns; ``dictionaries`` are columns of text to read as such.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, read_dictionary=dictionaries)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the folder the artefact of the right stage?") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: damaged ({reason(error)}); delete the artefact and run its stage again") from None
