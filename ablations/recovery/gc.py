"""``ablate gc``: what in a store is not needed any more, and deleting it.

Needed is what a sweep in ``sweeps/`` refers to, over its own experiment or as it was last run, without the seeds that
its looks have shown not to be needed (``ablations.planning.looks``) and with the trials that chose its settings,
whatever a process or job that is alive works on or reads, and every stage of a launcher that is alive. Where the
scheduler does not answer, its jobs count as alive.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.files import numbered
from ablations.grid.spec import read_sweep
from ablations.json_shapes import anything, fields, listing, mapping, optional, read_shaped, text, whole
from ablations.planning.needed import needed as needed_now
from ablations.planning.plan import make_plan
from ablations.running.archive import CELLS
from ablations.running.precompute import PRECOMPUTE, PRECOMPUTE_JOB
from ablations.store.artefacts import Store
from ablations.store.launchers import FOLDER, needed
from ablations.store.launches import launches
from ablations.store.liveness import InUse, in_use
from qsd.errors import UserError
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ablations.grid.keys import StageTable
    from ablations.store.launches import Launch

KINDS = {
    "artefacts": "no sweep refers to them",
    "work": "left over from stages that are done or that no sweep refers to",
    "attempts": "logs of all but the latest attempt, and of stages that no sweep refers to",
    "records": "jobs, adjustments and stops of stages that no sweep refers to; claims on stages that are done",
    "shared": "common work of stages that are done, or that no sweep refers to, such as shards of scores",
    "reference errors": "of untouched models, when no training is left to share them",
    "damaged": "artefacts that were found damaged, and computed again",
    "rehearsals": "of 'ablate dryrun' and canaries",
    "launches": "scripts, pickles and logs of submissions with no live process or job, and records of older ones",
    "snapshots": "code of submissions with no live process or job",
    "trash": "left by a deletion that was killed",
}
"""Kind of items -> why they can go."""
_TRASH = "trash"
_OF_A_STORE = ("artefacts", "attempts", "launches", "sweeps", "dryrun")
_STAGES = listing(fields(stages=mapping(text)))
_CELLS = fields(sweep=text, cells=_STAGES, tuning=optional(fields(trials=optional(_STAGES))))
_JOB = fields(version=whole, inputs=mapping(text), meaning=mapping(anything))


@dataclass(frozen=True)
class Item:
    """A file or folder that can go.

    Attributes:
        kind: a key of ``KINDS``.
        path: where it is.
        bytes: its size.
        key: of the stage that it belongs to; empty for what belongs to none.
    """

    kind: str
    path: Path
    bytes: int
    key: str = ""


@dataclass(frozen=True)
class Garbage:
    """What can go, and what was kept because too little is known (one line each)."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]


def check_is_store(folder: Path) -> None:
    """Refuse a folder of other things: some of them may have the names of a store's folders, such as ``shared``.

    Raises:
        UserError: the folder has none of those that every store has which was used.
    """
    if folder.is_dir() and not any((folder / name).is_dir() for name in _OF_A_STORE):
        raise UserError(f"{folder}: no results here; give the folder with --runs (or ABLATE_RUNS)")


def find_garbage(store: Store, sweeps: Path, table: StageTable) -> Garbage:
    """Find everything in a store that is not needed.

    Args:
        store: the store.
        sweeps: folder of the sweeps that count.
        table: their stages.

    Raises:
        UserError: what is in use cannot be known, since a record of it may not be read.
    """
    _check_readable(store)
    used = in_use(store)
    wanted, notes = _referred(store, sweeps, table)
    if used.silent:
        notes.append("the scheduler does not answer: what it may hold is kept")
    items = [*_of_stages(store, wanted, used), *_records(store, wanted, used), *_damaged(store)]
    items += _items("shared", _unshared(store, wanted, used))
    items += _items("reference errors", _references(store, wanted, used, table))
    items += [*_rehearsals(store), *_launched(store, used)]
    items += _items("trash", (store.root / _TRASH).glob("*"))
    return Garbage(tuple(items), tuple(notes))


def _check_readable(store: Store) -> None:
    """Refuse to guess what another user's launchers need, whose records only that user may read."""
    records = [store.root / FOLDER / name for name in names_in(store.root / FOLDER)]
    records += [store.root / "launches" / name / "launch.json" for name in names_in(store.root / "launches")]
    for path in records:
        if not os.access(path.parent, os.R_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK)):
            raise UserError(f"{path}: may not be read, so it is not known what is in use; change its permissions")


def delete(store: Store, item: Item) -> bool:
    """Delete one item; False if the stage that it belongs to was claimed, or a launcher began to need it, meanwhile.

    A folder is first moved to the trash, so that no process ever sees half of it.
    """
    # The claim keeps a launcher from starting the stage between the listing and the deletion.
    claim = store.claims.take(item.key) if item.key else None
    if item.key and claim is None:
        return False
    trash: Path | None = None
    kept = True
    try:
        if not _needed(store, item):
            trash = _to_trash(store, item.path)
            # A launcher says what it needs before it looks what is there. One that has said so by now may have found
            # the item, and gets it back; a later one finds that it is gone.
            kept = _needed(store, item)
            if kept and trash is not None and not item.path.exists():
                trash.rename(item.path)
                trash = None
    finally:
        if claim is not None:  # removed only where no launcher works with the stage, since they count on its numbers
            claim.release() if kept else claim.forget()
    if trash is not None and trash.is_dir():
        shutil.rmtree(trash)
    elif trash is not None:
        trash.unlink()
    return not kept


def _needed(store: Store, item: Item) -> bool:
    """Whether an item belongs to a stage that a launcher needs."""
    return bool(item.key) and item.key in needed(store)


def _to_trash(store: Store, path: Path) -> Path | None:
    """Move a file or folder away in one step, and say where; None if it is gone.

    What a kill leaves there is listed by the next gc.
    """
    trash = store.root / _TRASH / secrets.token_hex(8)
    trash.parent.mkdir(exist_ok=True)
    try:
        return path.rename(trash)
    except FileNotFoundError:
        return None


def _referred(store: Store, sweeps: Path, table: StageTable) -> tuple[set[str] | None, list[str]]:
    """Keys that sweeps refer to, now and when they last ran; None, with the reason, if that is not known."""
    keys: set[str] = set()
    notes: list[str] = []
    files = sorted(sweeps.glob("*.yaml"))
    if not files:
        notes.append(f"{sweeps.resolve()}: no sweep here: all stages are kept (is this the project's folder?)")
    for file in files:
        try:
            keys.update(needed_now(make_plan(read_sweep(file), table), store).nodes)
        except UserError as error:
            notes.append(f"{error}: all stages are kept until that is fixed")
    # Cells as they were last run: a sweep file may have changed since, and its tables still refer to them.
    names = {file.stem for file in files}
    for name in sorted(names_in(store.root / "sweeps")):
        file = store.root / "sweeps" / name / CELLS
        content = read_shaped(file, _CELLS)
        if content is None and file.exists():
            notes.append(f"{file}: damaged: all stages are kept until 'ablate run' has written it again")
        elif content is not None and content["sweep"] in names:
            trials = (content.get("tuning") or {}).get("trials", ())
            keys.update(key for cell in (*content["cells"], *trials) for key in cell["stages"].values())
    return (None if notes else keys), notes


def _of_stages(store: Store, wanted: set[str] | None, used: InUse) -> Iterator[Item]:
    """What belongs to single stages: nothing of a stage in use, and no artefact that one reads."""

    def unwanted(key: str) -> bool:
        return not _wanted(key, wanted, used)

    for folder, key in _folders(store.root / "artefacts"):
        if unwanted(key):
            yield Item("artefacts", folder, size(folder), key)
    for folder, key in _folders(store.root / "partial"):
        done = (store.root / "artefacts" / folder.parent.name / key).is_dir()
        if key not in used.keys and (unwanted(key) or done):
            yield Item("work", folder, size(folder), key)
    for folder, key in _folders(store.root / "attempts"):
        if unwanted(key):
            yield Item("attempts", folder, size(folder), key)
        elif key not in used.keys:
            for number in numbered(folder)[:-1]:
                yield Item("attempts", folder / str(number), size(folder / str(number)), key)


def _records(store: Store, wanted: set[str] | None, used: InUse) -> Iterator[Item]:
    for place in ("jobs", "adjust", "stops"):
        for file, name in _folders(store.root / place):
            key = name.partition(".")[0]
            if not _wanted(key, wanted, used):
                yield Item("records", file, size(file), key)
    done = {key for _, key in _folders(store.root / "artefacts")}
    for key in sorted(names_in(store.claims.folder) & done - used.keys):  # its owner was killed after sealing
        yield Item("records", store.claims.folder / key, size(store.claims.folder / key), key)


def _wanted(key: str, wanted: set[str] | None, used: InUse) -> bool:
    return wanted is None or key in wanted or key in used.keys or key in used.inputs


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """(path, name) of everything in ``root/<stage>/``."""
    for stage in sorted(names_in(root)):
        for name in sorted(names_in(root / stage)):
            yield root / stage / name, name


def _unshared(store: Store, wanted: set[str] | None, used: InUse) -> list[Path]:
    """Shared folders, without those of stages that are in use, or that were launched, are wanted and are not done.

    What is deleted too early is only computed again.
    """
    kept = set()
    done = {stage: store.present(stage) for stage in names_in(store.root / "jobs")}
    for file, name in _folders(store.root / "jobs"):
        stage, key = file.parent.name, name.partition(".")[0]
        left = stage != PRECOMPUTE and (wanted is None or key in wanted) and key not in done[stage]
        if left or key in used.keys or stage == PRECOMPUTE:
            content = read_shaped(file, _JOB if stage != PRECOMPUTE else PRECOMPUTE_JOB)
            if content is not None and (stage != PRECOMPUTE or key in used.keys or _members_used(content, used, done)):
                kind = content["meaning"]["stage"] if stage == PRECOMPUTE else stage
                kept.add(store.shared(kind, content["version"], content["inputs"]))
    return [folder for folder, _ in _folders(store.root / "shared") if folder not in kept]


def _members_used(job: Mapping[str, Any], used: InUse, done: Mapping[str, set[str]]) -> bool:
    """Whether a stage that common work was done for is in use and not done, although it has no job yet."""
    meaning = job["meaning"]
    return bool((used.keys & set(meaning["members"])) - done.get(meaning["stage"], set()))


def _references(store: Store, wanted: set[str] | None, used: InUse, table: StageTable) -> list[Path]:
    """Folders of reference errors, once no stage that uses them is in use, or was launched, is wanted and not done."""
    for kind in (stage for stage, spec in table.STAGES.items() if spec.uses_reference_errors):
        done = store.present(kind)
        for name in names_in(store.root / "jobs" / kind):
            key = name.partition(".")[0]
            if key in used.keys or (key not in done and (wanted is None or key in wanted)):
                return []
        if used.keys - done and needed(store):  # a launcher may be about to start such a stage, without a job file
            return []
    return [path for path in store.reference_errors.glob("*") if path.is_dir()]


def _damaged(store: Store) -> Iterator[Item]:
    yield from _items("damaged", (path for path, _ in _folders(store.root / "damaged")))


def _rehearsals(store: Store) -> Iterator[Item]:
    folder = store.rehearsals
    if folder.is_dir():
        inner = in_use(Store(folder, lambda *_: ""))  # no artefact is read, so no key is computed
        if not inner.keys and not inner.launches:
            yield Item("rehearsals", folder, size(folder))


def _launched(store: Store, used: InUse) -> Iterator[Item]:
    known = launches(store)
    newest: dict[tuple[str, str], Launch] = {(launch.sweep, launch.experiment): launch for launch in known}
    for launch in known:
        if launch.id in used.launches:
            continue
        yield from _items("launches", [store.root / "submitit" / launch.id])
        if newest[launch.sweep, launch.experiment] is not launch:  # the newest tells resume and retry what was launched
            yield from _items("launches", [launch.folder])
    kept = {launch.snapshot for launch in known if launch.id in used.launches}
    yield from _items("snapshots", (path for path in (store.root / "snapshots").glob("*/") if path.name not in kept))


def _items(kind: str, paths: Iterator[Path] | list[Path]) -> Iterator[Item]:
    for path in sorted(paths):
        if path.exists():
            yield Item(kind, path, size(path))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 (ten thousand folders)
            except FileNotFoundError:  # another process works here
                continue
    return total
