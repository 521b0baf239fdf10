"""The run store: where results, and what is known about stages, lie on disk; and whether a stage is finished.

The layout below is read by the grid runner, by the analysis and by the W&B projection::

    artefacts/<stage>/<key>/      a finished stage: its files and record.json
    partial/<stage>/<key>/        a stage under way; survives from one attempt to the next
    attempts/<stage>/<key>/<n>/   logs, progress and outcome of the n-th attempt at a stage
    sweeps/<sweep>@<experiment>/  cells.json, tables and pictures of a sweep
    shared/<stage>/<hash>/        what stages of one kind with the same inputs compute in common; may vanish at any time
    reference/                    reference errors that all trainings share
    claims/<key>/                 who works on a stage
    launchers/                    which stages the launchers need that run on a machine, a file each
    jobs/<stage>/                 what an attempt needs to know, a file per stage and snapshot
    adjust/<stage>/, stops/<stage>/   execution settings to change at the next attempt; where SLURM jobs were stopped
    launches/<id>/, submitit/<id>/, snapshots/<id>/   what was submitted, its scripts and logs, the code that it runs
    dryrun/                       a run store of rehearsals
    damaged/, trash/              artefacts that were found damaged; what a deletion has yet to delete

Everything but ``artefacts``, ``partial`` and ``sweeps`` belongs to the grid runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from qsd.config.digest import hash_of
from qsd.files import file_digest, numbered, read_json

if TYPE_CHECKING:
    from pathlib import Path

RECORD = "record.json"
"""The file in an artefact that proves what it is; written last."""
KeyOf: TypeAlias = Callable[[str, int, Mapping[str, Any], Mapping[str, str]], str]


@dataclass(frozen=True)
class Record:
    """What an artefact says about itself; it holds no time, host or path, so equal stages give equal bytes.

    Attributes:
        stage: the kind of stage.
        version: of the stage's code.
        key: hash of stage, version, meaning and inputs (:func:`key_of`).
        meaning: the part of the configuration that decides the result.
        inputs: upstream stage -> its key.
        files: relative name -> {"sha256": hex digest, "bytes": size}, sorted by name.
    """

    stage: str
    version: int
    key: str
    meaning: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]


def key_of(stage: str, version: int, meaning: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The key of a stage: 32 hex digits, equal only for equal meaning."""
    return hash_of({"stage": stage, "version": version, "meaning": dict(meaning), "inputs": dict(inputs)})


class RunStore:
    """A run store under ``root`` (usually ``runs/``), which need not exist.

    Args:
        root: its folder.
        key_of: recomputes a key from the content of a record.
    """

    def __init__(self, root: Path, key_of: KeyOf = key_of) -> None:
        self.root = root
        self._key_of = key_of

    def artefact(self, stage: str, key: str) -> Path:
        """The folder of a finished stage."""
        return self.root / "artefacts" / stage / key

    def partial(self, stage: str, key: str) -> Path:
        """The folder of a stage under way."""
        return self.root / "partial" / stage / key

    def attempts(self, stage: str, key: str) -> Path:
        """The folder with one numbered folder per attempt at a stage."""
        return self.root / "attempts" / stage / key

    def attempt_folders(self, stage: str, key: str) -> list[Path]:
        """The folders of the attempts at a stage, oldest first."""
        folder = self.attempts(stage, key)
        return [folder / str(number) for number in numbered(folder)]

    def shared(self, stage: str, version: int, inputs: Mapping[str, str]) -> Path:
        """The folder of what stages of one kind with the same inputs compute in common."""
        return self.root / "shared" / stage / hash_of({"version": version, "inputs": dict(inputs)})

    @property
    def reference_errors(self) -> Path:
        """The folder of reference errors that trainings of any sweep share."""
        return self.root / "reference"

    @property
    def rehearsals(self) -> Path:
        """The folder of the run store in which sweeps are rehearsed."""
        return self.root / "dryrun"

    def sweep(self, name: str) -> Path:
        """The folder of a sweep's cells, tables and pictures; ``name`` is ``sweep@experiment``."""
        return self.root / "sweeps" / name

    def present(self, stage: str) -> set[str]:
        """Keys for which an artefact folder exists, valid or not."""
        return names_in(self.root / "artefacts" / stage)

    def started(self, stage: str) -> set[str]:
        """Keys for which work is under way or left over."""
        return names_in(self.root / "partial" / stage)

    def record(self, stage: str, key: str) -> Record | None:
        """The record of an artefact, if it has a readable one."""
        return read_record(self.artefact(stage, key))

    def problem(self, stage: str, key: str) -> str | None:
        """Why a stage is not finished, or None if it is.

        It is finished if its record is valid: of this stage and key, with a content that gives this key, and with every
        file that it lists present in its recorded size. The files' digests are computed when a stage is sealed, and
        compared when they are read (:meth:`damage`), not here.
        """
        folder = self.artefact(stage, key)
        if not folder.is_dir():
            return "absent"
        record = read_record(folder)
        if record is None:
            return "its record is missing or not readable"
        return self.record_problem(record, stage, key) or _size_problem(folder, record)

    def damage(self, stage: str, key: str) -> str | None:
        """As :meth:`problem`, and with the content of every file compared; each file is read once per process."""
        problem = self.problem(stage, key)
        record = self.record(stage, key)
        if problem is not None or record is None:
            return problem or "its record is missing or not readable"
        return next(file_damages(self.artefact(stage, key), record), None)

    def is_done(self, stage: str, key: str) -> bool:
        """True if the stage is finished and need not run."""
        return self.problem(stage, key) is None

    def finished(self, stage: str, key: str | None) -> Path | None:
        """The folder of a finished stage, else None; also None for no key."""
        return self.artefact(stage, key) if key is not None and self.is_done(stage, key) else None

    def record_problem(self, record: Record, stage: str, key: str) -> str | None:
        """Why a record is not a valid one of this stage and key, whatever its files are; None if it is."""
        if (record.stage, record.key) != (stage, key):
            return f"its record is of {record.stage}/{record.key}"
        try:
            recomputed = self._key_of(record.stage, record.version, record.meaning, record.inputs)
        except (TypeError, ValueError):  # such as NaN in the meaning
            recomputed = "unknown"
        return None if recomputed == key else "its record does not match its key"


def read_record(folder: Path) -> Record | None:
    """The record in a folder, or None if it is missing, damaged or lacks a field."""
    content = read_json(folder / RECORD)
    # Exactly these fields: a record of another version of this format proves nothing.
    if not isinstance(content, dict) or set(content) != set(Record.__dataclass_fields__):
        return None
    maps = (content["meaning"], content["inputs"], content["files"])
    valid = all(isinstance(part, dict) for part in maps) and isinstance(content["version"], int)
    valid = valid and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and "\0" not in name
        for name, entry in content["files"].items()
    )
    return Record(**content) if valid else None


def names_in(folder: Path) -> set[str]:
    """The names in a folder that are not hidden; empty if there is no such folder."""
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()


_compared: set[tuple[str, str, int, int, int]] = set()
"""The files of this process that had the recorded digest: place, digest, size, inode and time of change."""


def file_damages(folder: Path, record: Record) -> Iterator[str]:
    """One line for every file of an artefact whose size or content is not the recorded one."""
    for name in record.files:
        problem = file_damage(folder, record, name)
        if problem is not None:
            yield problem


def file_damage(folder: Path, record: Record, name: str) -> str | None:
    """Why a file of an artefact is not as it was written: its size or its content; None if it is."""
    path, entry = folder / name, record.files[name]
    try:
        return _size_problem_of(path, name, entry) or _content_problem(path, name, entry)
    except OSError as error:
        return f"its file {name} cannot be read ({error.strerror})"


def _content_problem(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    status = path.stat()
    mark = (str(path.resolve()), str(entry.get("sha256")), status.st_size, status.st_ino, status.st_ctime_ns)
    if mark in _compared:
        return None
    if file_digest(path) != entry.get("sha256"):
        return f"its file {name} is damaged: its content is not what was written"
    _compared.add(mark)
    return None


def _size_problem(folder: Path, record: Record) -> str | None:
    problems = (_size_problem_of(folder / name, name, entry) for name, entry in record.files.items())
    return next((problem for problem in problems if problem is not None), None)


def _size_problem_of(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    try:
        size = path.stat().st_size
    except OSError:
        return f"its file {name} is missing"
    return None if size == entry.get("bytes") else f"its file {name} has {size} bytes, not {entry.get('bytes')}"
