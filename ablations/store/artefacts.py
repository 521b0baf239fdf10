"""The artefact store: finished stages in folders named by their keys, each with a record that proves what it is.

A stage is filled in ``partial/<stage>/<key>``, its record is written there last, and the folder is renamed into
``artefacts/<stage>/<key>``. The record is the commit point: a kill before it repeats work since the last checkpoint, a
kill after it only repeats the renaming. Layout and validity are those of ``qsd.run_store``; writing is added here.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ablations.files import write_json
from ablations.store.claims import Claims
from qsd.run_store import RECORD, Record, RunStore, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qsd.run_store import KeyOf


class Store(RunStore):
    """A run store that stages are sealed into. ``key_of`` recomputes a key from the content of a record."""

    def __init__(self, root: Path, key_of: KeyOf) -> None:
        super().__init__(root, key_of)
        self.claims = Claims(root / "claims")

    def seal(self, record: Record) -> None:
        """Turn a partial folder into an artefact; ``record.files`` is filled in here. Only the claim's holder may."""
        folder = self.partial(record.stage, record.key)
        files = dict(_contents(folder))  # also flushes them: the record must not reach the disk before they do
        write_json(folder / RECORD, asdict(record) | {"files": files})
        self._move(record.stage, record.key)

    def finish_interrupted_seal(self, stage: str, key: str) -> bool:
        """Complete a sealing that was killed after its record was written. True if there was one."""
        folder = self.partial(stage, key)
        record = read_record(folder)
        if record is None or self.record_problem(record, stage, key) or dict(_contents(folder)) != record.files:
            # A record that does not fit its files is from a kill while they were made; the work goes on without it.
            (folder / RECORD).unlink(missing_ok=True)
            return False
        self._move(stage, key)
        return True

    def _move(self, stage: str, key: str) -> None:
        folder, final = self.partial(stage, key), self.artefact(stage, key)
        _remove_hidden(folder)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # a damaged artefact: kept, so that a user can see what happened to it
            damaged = self.root / "damaged" / stage / f"{key}-{secrets.token_hex(4)}"
            damaged.parent.mkdir(parents=True, exist_ok=True)
            final.rename(damaged)
        folder.rename(final)


def _contents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Relative name, digest and size of every file but the record and hidden ones, flushed to disk."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() != RECORD:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())  # also files that a library wrote in its own way
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                yield name.as_posix(), {"sha256": digest, "bytes": os.fstat(stream.fileno()).st_size}


def _remove_hidden(folder: Path) -> None:
    """Remove the resumable state (``.state``) and the temporary files that killed writers left."""
    for path in list(folder.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
