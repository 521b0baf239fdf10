"""Files that are complete or absent, whatever is killed: the one way in which this project writes them, and reads them.

A file is written under a temporary name beside its place, flushed to disk and renamed (:func:`atomic`). A reader sees
the old content or the new one, never half of either, also while several processes write the same file. What is written
is free of anything that varies between runs, so equal results are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Replace the file at ``path`` in one step: yields the temporary path to write to, in the same folder.

    When the block ends, what was written is flushed to disk and renamed to ``path``. When it raises, the temporary file
    is removed and ``path`` stays as it was. A kill leaves the temporary file, for :func:`remove_leftovers`.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        flush(temporary)  # a rename may reach the disk before the data: a power cut would leave an empty file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Put a folder in place in one step: yields a new, empty folder beside ``path`` to fill.

    When the block ends, the files in it are flushed to disk and the folder is renamed to ``path``. A folder that is
    there by then, of another process that did the same, stays, and the new one is removed.
    """
    temporary = temporary_path(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush(file)
        try:
            temporary.rename(path)
        except OSError:  # a folder cannot be renamed over one that is not empty
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that no other writer has, hidden, so that no listing takes it for a result."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_temporary(path: Path) -> bool:
    """True for a name that :func:`temporary_path` gives."""
    return _TEMPORARY.fullmatch(path.name) is not None


def flush(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def remove_leftovers(folder: Path, older_than_s: float = 0.0) -> None:
    """Remove the temporary files and folders in ``folder`` and below that killed writers left behind.

    Args:
        folder: it need not exist.
        older_than_s: keep files that were changed in the last so many seconds; 0 is right only where no other process
            writes. A temporary file lives for as long as one file takes to write.
    """
    latest = time.time() - older_than_s
    for path in list(folder.rglob(".*.tmp")):  # a list: folders must not vanish while they are walked
        try:
            if not is_temporary(path) or path.stat().st_mtime > latest:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:  # its writer lives, and has just renamed it
            continue


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` in one step."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def create_bytes(path: Path, content: bytes) -> bool:
    """Create the file at ``path`` with all of its content at once; False, and nothing changes, if there is one already.

    Of any number of processes that try, also on several machines that share the disk, one succeeds: a hard link fails
    if the name exists. The count of links tells who made it, since an NFS client that repeats a request may hear
    "exists" of its own link.
    """
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(content)
        flush(temporary)
        # Not rename, which replaces what is there; and not O_EXCL, which would show an empty file first.
        with suppress(FileExistsError):
            os.link(temporary, path)
        return temporary.stat().st_nlink == 2
    finally:
        temporary.unlink(missing_ok=True)


def json_bytes(value: Any, indent: int = 2) -> bytes:
    """Return ``value`` as indented UTF-8 JSON with a final newline; keys stay in the order given.

    Raises:
        ValueError: a number in it is infinite or not a number, which JSON cannot say.
    """
    return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` by ``value`` as JSON in one step; raises as :func:`json_bytes`."""
    write_bytes(path, json_bytes(value))


def read_json(path: Path) -> Any | None:
    """The value in a JSON file, or None if the file is missing, unreadable or not JSON."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            return json.loads(stream.read())
    except (OSError, ValueError, RecursionError):  # the last: brackets without end
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe under the name of a file would be waited for without end; opened so, it is empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def numbered(folder: Path) -> list[int]:
    """The names in ``folder`` that are whole numbers, ascending; empty if there is no such folder."""
    try:
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    except FileNotFoundError:
        return []


def write_table(path: Path, table: pa.Table) -> None:
    """Replace the file at ``path`` by ``table`` as parquet, in one step."""
    import pyarrow.parquet as pq

    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits, as the record of its artefact has it.

    Raises:
        UserError: there is no such file.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the folder the artefact of the right stage?") from None


def texts(column: pa.ChunkedArray[Any]) -> list[str]:
    """The values of a column of text that has no nulls."""
    values: list[Any] = column.to_numpy().tolist()  # takes a third of the time of to_pylist
    return values


def read_table(path: Path, columns: list[str] | None = None, dictionaries: list[str] | None = None) -> pa.Table:
    """A parquet file of an artefact, or some of its columns.

    Args:
        path: the file.
        columns: names of the columns to read; None reads all.
        dictionaries: columns of text to read as dictionary arrays, which are smaller where texts repeat.

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
