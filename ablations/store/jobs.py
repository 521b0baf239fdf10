"""A job file: all that an attempt needs to know about a stage; a launcher passes on nothing but its path."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ablations.files import read_json, write_json
from ablations.store.artefacts import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.keys import StageNode, StageTable

QSD = "qsd.stages.spec"
"""The module with the stage table of this project."""


@dataclass(frozen=True)
class Job:
    """One stage to run.

    Attributes:
        table: module with the stage table.
        runs: absolute path of the store.
        root: absolute path of the project; paths in the configuration are relative to it.
        stage, key, version, meaning, inputs, values: as in ``ablations.grid.keys.StageNode``.
        snapshot: absolute path of the code that runs it (``ablations.running.snapshot``); empty: the work tree as it
            is.
        processes: how many processes run the stage together.
    """

    table: str
    runs: str
    root: str
    stage: str
    key: str
    version: int
    meaning: Mapping[str, Any]
    inputs: Mapping[str, str]
    values: Mapping[str, Any]
    snapshot: str = ""
    processes: int = 1

    @staticmethod
    def of(
        node: StageNode, table: str, runs: Path, root: Path, snapshot: Path | None = None, processes: int = 1
    ) -> Job:
        """The job of a stage node; the other arguments are as the attributes."""
        return Job(
            table=table,
            runs=str(runs.resolve()),
            root=str(root.resolve()),
            stage=node.stage,
            key=node.key,
            version=node.version,
            meaning=node.meaning,
            inputs=node.inputs,
            values=node.values,
            snapshot=str(snapshot.resolve()) if snapshot else "",
            processes=processes,
        )

    @staticmethod
    def read(path: Path) -> Job:
        """Read what :meth:`write` wrote. Raises ValueError on anything else."""
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path}: not a job")
        return Job(**content)

    def write(self) -> Path:
        """Write the job into its store; the file's path."""
        write_json(self.path, asdict(self))
        return self.path

    @property
    def path(self) -> Path:
        """Where :meth:`write` writes the job.

        ``jobs/<stage>/<key>.json``, or ``<key>.<snapshot>.json``, so that a queued job keeps its code when another
        launcher works on the same stage.
        """
        suffix = f".{Path(self.snapshot).name}" if self.snapshot else ""
        return Path(self.runs) / "jobs" / self.stage / f"{self.key}{suffix}.json"

    def store(self) -> Store:
        """The store that the job works in."""
        return Store(Path(self.runs), load_table(self.table).key_of)


def job_file(store: Store, stage: str, key: str) -> Path:
    """The job file of a stage, from any launch; it need not exist."""
    folder = store.root / "jobs" / stage
    usual = folder / f"{key}.json"
    return usual if usual.exists() else next(iter(sorted(folder.glob(f"{key}.*.json"))), usual)


def load_table(module: str) -> StageTable:
    """The stage table in ``module``."""
    return cast("StageTable", importlib.import_module(module))
