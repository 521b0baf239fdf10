"""The artefact store: finished stages in folders named by their keys, each with a record that proves what it is.

A stage is filled in ``partial/<stage>/<key>``, its record is written there last, and the folder is renamed into
``artefacts/<stage>/<key>``. The record is the commit point: a kill before it repeats work since the last checkpoint, a
kill after it only repeats the renaming.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ablations.files import read_json, write_json
from ablations.store.claims import Claims
from qsd.config.digest import hash_of

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "record.json"
KeyOf: TypeAlias = Callable[[str, int, Mapping[str, Any], Mapping[str, str]], str]


@dataclass(frozen=True)
class Record:
    """What an artefact says of itself; holds no time, host or path, so equal stages give equal bytes.

    Attributes:
        stage, version, key, meaning, inputs: as in ``ablations.grid.keys.StageNode``.
        files: relative name -> {"sha256": hex digest, "bytes": size}, sorted by name.
    """

    stage: str
    version: int
    key: str
    meaning: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]


class Store:
    """A store under ``root`` (``runs/``). ``key_of`` recomputes a key from a record's content."""

    def __init__(self, root: Path, key_of: KeyOf) -> None:
        self.root = root
        self.claims = Claims(root / "claims")
        self._key_of = key_of

    def artefact(self, stage: str, key: str) -> Path:
        """Folder of a finished stage."""
        return self.root / "artefacts" / stage / key

    def partial(self, stage: str, key: str) -> Path:
        """Folder of a stage in work; survives between attempts."""
        return self.root / "partial" / stage / key

    def attempts(self, stage: str, key: str) -> Path:
        """Folder with one numbered folder per attempt."""
        return self.root / "attempts" / stage / key

    @property
    def reference_errors(self) -> Path:
        """Folder of reference errors that trainings of any sweep share."""
        return self.root / "reference"

    def shared(self, stage: str, version: int, inputs: Mapping[str, str]) -> Path:
        """Folder of what stages of one kind with the same inputs compute in common; free to vanish at any time."""
        return self.root / "shared" / stage / hash_of({"version": version, "inputs": dict(inputs)})

    def sweep(self, name: str) -> Path:
        """Folder of a sweep's cells, tables and pictures."""
        return self.root / "sweeps" / name

    def present(self, stage: str) -> set[str]:
        """Keys for which an artefact folder exists, valid or not."""
        return names_in(self.root / "artefacts" / stage)

    def started(self, stage: str) -> set[str]:
        """Keys for which there is work in progress or left over."""
        return names_in(self.root / "partial" / stage)

    def record(self, stage: str, key: str) -> Record | None:
        """The record of an artefact, if it has a readable one."""
        return _record(self.artefact(stage, key))

    def problem(self, stage: str, key: str) -> str | None:
        """Why a stage is not done, or None if it is: its record is valid and its files have the recorded sizes."""
        folder = self.artefact(stage, key)
        if not folder.is_dir():
            return "absent"
        return self._problem(folder, stage, key, _size_problem)

    def is_done(self, stage: str, key: str) -> bool:
        """True if the stage need not run."""
        return self.problem(stage, key) is None

    def seal(self, record: Record) -> None:
        """Turn a partial folder into an artefact; ``record.files`` is filled in here. Only the claim's holder may."""
        folder = self.partial(record.stage, record.key)
        files = dict(_contents(folder))
        write_json(folder / RECORD, asdict(record) | {"files": files})
        self._move(record.stage, record.key)

    def finish_interrupted_seal(self, stage: str, key: str) -> bool:
        """Complete a sealing that was killed after its record was written. True if there was one."""
        folder = self.partial(stage, key)
        if self._problem(folder, stage, key, _content_problem) is not None:
            (folder / RECORD).unlink(missing_ok=True)
            return False
        self._move(stage, key)
        return True

    def _move(self, stage: str, key: str) -> None:
        folder, final = self.partial(stage, key), self.artefact(stage, key)
        _remove_hidden(folder)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # a damaged artefact: kept aside for whoever wants to know what happened to it
            damaged = self.root / "damaged" / stage / f"{key}-{secrets.token_hex(4)}"
            damaged.parent.mkdir(parents=True, exist_ok=True)
            final.rename(damaged)
        folder.rename(final)

    def _problem(self, folder: Path, stage: str, key: str, check: Callable[[Path, Record], str | None]) -> str | None:
        record = _record(folder)
        if record is None:
            return "its record is missing or not readable"
        if (record.stage, record.key) != (stage, key):
            return f"its record is of {record.stage}/{record.key}"
        try:
            recomputed = self._key_of(record.stage, record.version, record.meaning, record.inputs)
        except (TypeError, ValueError):
            recomputed = "unknown"
        if recomputed != key:
            return "its record does not match its key"
        return check(folder, record)


def names_in(folder: Path) -> set[str]:
    """Names in a folder but hidden ones; empty if there is no such folder."""
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()


def _record(folder: Path) -> Record | None:
    content = read_json(folder / RECORD)
    if not isinstance(content, dict) or set(content) != set(Record.__dataclass_fields__):
        return None
    maps = (content["meaning"], content["inputs"], content["files"])
    sound = all(isinstance(part, dict) for part in maps) and isinstance(content["version"], int)
    return Record(**content) if sound else None


def _contents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Relative name, digest and size of every file but the record and hidden ones, flushed to disk."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() != RECORD:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                yield name.as_posix(), {"sha256": digest, "bytes": os.fstat(stream.fileno()).st_size}


def _remove_hidden(folder: Path) -> None:
    """Remove the resumable state (``.state``) and what a kill left of files being written aside."""
    for path in list(folder.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _size_problem(folder: Path, record: Record) -> str | None:
    for name, entry in record.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            return f"its file {name} is missing"
        if size != entry.get("bytes"):
            return f"its file {name} has {size} bytes, not {entry.get('bytes')}"
    return None


def _content_problem(folder: Path, record: Record) -> str | None:
    return None if dict(_contents(folder)) == record.files else "its files are not those of its record"
