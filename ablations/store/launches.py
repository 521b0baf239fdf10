"""What was submitted, as files: ``runs/launches/<id>/launch.json`` and one file per array of jobs.

From these files comes the latest job of a stage: the newest one that was submitted for it.
"""

from __future__ import annotations

import getpass
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ablations.files import write_json
from ablations.json_shapes import anything, fields, flag, listing, mapping, read_shaped, text
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ablations.store.artefacts import Store

_LAUNCH = "launch.json"
_MOMENT = "%Y%m%d-%H%M%S-%f"
_ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}")
_LAUNCH_SHAPE = fields(
    **dict.fromkeys(("sweep", "experiment", "profile", "cluster", "snapshot", "host", "user", "time"), text),
    arguments=mapping(anything),
)
_ARRAY_SHAPE = fields(
    **dict.fromkeys(("job", "stage", "resource", "name"), text), single=flag, keys=listing(text), held=flag
)


@dataclass(frozen=True)
class Array:
    """What one submission to the scheduler put into its queue: an array of jobs, or one job.

    Attributes:
        job: the scheduler's id of the array, or of the job if ``single``; empty while the scheduler has not answered.
        single: one job, not an array.
        stage: the kind of stages that it runs.
        resource: what it asked for, as a person reads it.
        keys: the stages, in order: element i runs ``keys[i]``. Empty for the last job of a launch.
        name: the job's name in the queue; no other has it.
        held: submitted held, and not yet released.
    """

    job: str
    single: bool
    stage: str
    resource: str
    keys: Sequence[str]
    name: str = ""
    held: bool = False

    @property
    def complete(self) -> bool:
        """False for what was left behind by a launcher that was killed while it submitted."""
        return bool(self.job) and not self.held

    def element(self, index: int) -> str:
        """The id of the job that runs ``keys[index]``."""
        return self.job if self.single else f"{self.job}_{index}"


@dataclass(frozen=True)
class LatestJob:
    """A job that was submitted for a stage.

    Attributes:
        job: its id, ``123_4`` or ``123``.
        launch: id of the launch that submitted it.
        cluster: name of its cluster; empty if the scheduler did not say.
    """

    job: str
    launch: str
    cluster: str


@dataclass(frozen=True)
class Launch:
    """One submission of a sweep.

    Attributes:
        id: its folder's name; later launches sort after earlier ones.
        sweep: name of the sweep.
        experiment: name of the experiment, with the settings that change results (``Plan.experiment``).
        arguments: what selects the same sweep again: {"name", "experiment", "seeds", "settings"} of the command line.
        profile: path of the cluster profile.
        cluster: the scheduler's name of its cluster; empty if it did not say.
        snapshot: id of the code's snapshot; empty if there is none.
        host: where it was submitted from.
        user: who submitted it.
        time: when, in UTC.
        folder: where its records are.
    """

    id: str
    sweep: str
    experiment: str
    arguments: dict[str, Any]
    profile: str
    cluster: str
    snapshot: str
    host: str
    user: str
    time: str
    folder: Path

    def record(self, array: Array, number: int | None = None) -> int:
        """Write the record of an array, in place of record ``number`` if given; returns the record's number."""
        if number is None:  # only the launcher itself writes into the folder of its launch
            number = max((int(path.stem) for path in _array_files(self.folder)), default=0) + 1
        write_json(self._path(number), asdict(array) | {"keys": list(array.keys)})
        return number

    def forget(self, number: int) -> None:
        """Remove record ``number``."""
        self._path(number).unlink(missing_ok=True)

    def records(self) -> Iterator[tuple[int, Array]]:
        """Number and content of every record, in order, also of arrays that are not complete."""
        for path in _array_files(self.folder):
            content = read_shaped(path, _ARRAY_SHAPE)
            # A file of another version is passed over: a launch that cannot be read has no jobs to speak of.
            if content is not None and set(content) == set(Array.__dataclass_fields__):
                yield int(path.stem), Array(**content)

    def arrays(self) -> Iterator[Array]:
        """Every complete array, in order."""
        return (array for _, array in self.records() if array.complete)

    def _path(self, number: int) -> Path:
        return self.folder / "arrays" / f"{number}.json"


def begin(
    store: Store, sweep: str, experiment: str, arguments: dict[str, Any], profile: str, cluster: str, snapshot: str
) -> Launch:
    """Record that a submission begins; fields as in :class:`Launch`."""
    now = datetime.now(UTC)
    launch = Launch(
        id=_next_id(store, now),
        sweep=sweep,
        experiment=experiment,
        arguments=arguments,
        profile=profile,
        cluster=cluster,
        snapshot=snapshot,
        host=socket.gethostname(),
        user=getpass.getuser(),
        time=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        folder=store.root,
    )
    folder = _folder(store) / launch.id
    fields = {name: value for name, value in asdict(launch).items() if name not in ("id", "folder")}
    write_json(folder / _LAUNCH, fields)
    return _with_folder(launch.id, fields, folder)


def _next_id(store: Store, now: datetime) -> str:
    """The time and a few digits; after all ids so far, also where the clock of this machine is behind."""
    newest = max((name[: len(_moment(now))] for name in names_in(_folder(store)) if _ID.fullmatch(name)), default="")
    if newest >= _moment(now):
        now = datetime.strptime(newest, _MOMENT).replace(tzinfo=UTC) + timedelta(microseconds=1)
    return f"{_moment(now)}-{secrets.token_hex(2)}"


def _moment(now: datetime) -> str:
    return now.strftime(_MOMENT)


def launches(store: Store) -> list[Launch]:
    """All launches, oldest first."""
    read: list[Launch] = []
    for name in sorted(names_in(_folder(store))):
        folder = _folder(store) / name
        content = read_shaped(folder / _LAUNCH, _LAUNCH_SHAPE)
        if content is not None and set(content) == set(Launch.__dataclass_fields__) - {"id", "folder"}:
            read.append(_with_folder(name, content, folder))
    return read


def latest_launch(store: Store, sweep: str) -> Launch | None:
    """The newest launch of a sweep, given as ``name`` or ``name@experiment``, if it was ever submitted."""
    for launch in reversed(launches(store)):
        if sweep in (launch.sweep, f"{launch.sweep}@{launch.experiment}"):
            return launch
    return None


def all_jobs(store: Store) -> Iterator[tuple[str, LatestJob]]:
    """(key of the stage, job) of every job ever submitted, oldest first; the key is empty for a launch's last job."""
    for launch in launches(store):
        for array in launch.arrays():
            for index, key in enumerate(array.keys):
                yield key, LatestJob(array.element(index), launch.id, launch.cluster)
            if not array.keys:
                yield "", LatestJob(array.job, launch.id, launch.cluster)


def latest_jobs(store: Store) -> dict[str, LatestJob]:
    """Key of a stage -> the newest job submitted for it. Whether that job is alive is for the scheduler to say."""
    return {key: job for key, job in all_jobs(store) if key}


def _array_files(folder: Path) -> list[Path]:
    """The arrays' files in order. Listed, not searched by a pattern, which finds nothing where it may not read."""
    numbers = sorted(
        int(stem) for name in names_in(folder / "arrays") if (stem := name.removesuffix(".json")).isdecimal()
    )
    return [folder / "arrays" / f"{number}.json" for number in numbers]


def _folder(store: Store) -> Path:
    return store.root / "launches"


def _with_folder(identity: str, fields: dict[str, Any], folder: Path) -> Launch:
    return Launch(id=identity, folder=folder, **fields)
