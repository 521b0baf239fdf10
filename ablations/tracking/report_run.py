"""The report of a sweep as one more W&B run of its group: the answer, the table, figures, and the files as artefact."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.secret_scan import secret_in
from ablations.tracking import run_names
from ablations.tracking.comparisons import TABLE_COLUMNS, brief_table, table_rows
from ablations.tracking.shareable import folders_in, shareable, without_folders
from ablations.tracking.times import NO_TIMES
from ablations.tracking.tracked import TrackedRun

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger("ablations.tracking")
JOB_TYPE = "report"
ARTEFACT_TYPE = "sweep-report"
TABLE = "table"
"""The name under which W&B shows the brief table."""
_FILES = ("report.html", "table.csv", "table.md")
_PICTURES = ("gallery.png", "effects.png")


@dataclass(frozen=True)
class ReportRun(TrackedRun):
    """The W&B run that has a sweep's report.

    Attributes:
        folder: the sweep's.
        files: the page and the tables, which become the artefact.
        pictures: the figures that the sweep has.
        folders: of this machine, which the files may name, as in the reason of a failure.
    """

    folder: Path
    files: list[Path]
    pictures: list[Path]
    folders: set[str]

    def log(self, handle: Any, after: int, had: Mapping[str, Any]) -> int:
        """Send what is new; there are no rows with steps, so ``after`` is returned."""
        import wandb

        from analysis.render.terminal import verdict

        changed = {path for path in (*self.files, *self.pictures) if self.state[path.name] != had.get(path.name)}
        shown: dict[str, Any] = {path.stem: wandb.Image(str(path)) for path in self.pictures if path in changed}
        if changed.intersection(self.files):
            handle.summary.update({"verdict": shareable(verdict(self.folder))})
            shown[TABLE] = wandb.Table(columns=list(TABLE_COLUMNS), data=brief_table(table_rows(self.folder)))
        if shown:
            handle.log(shown)
        if changed.intersection(self.files):
            handle.log_artifact(self._artefact(Path(handle.dir).parent / "artefact"))
        return after

    def _artefact(self, folder: Path) -> Any:
        """The files as an artefact, without folders of this machine.

        They are copied beside the run: the sweep's own may change before the upload.
        """
        import wandb

        artefact = wandb.Artifact(self.run_id, ARTEFACT_TYPE)
        folder.mkdir()
        for path in self.files:
            copy = folder / path.name
            copy.write_bytes(without_folders(path.read_bytes(), self.folders))
            artefact.add_file(str(copy), name=path.name, policy="immutable", skip_cache=True)
        return artefact


def report_run(sweep_folder: Path) -> ReportRun | None:
    """The run with the report of a sweep; None as long as it has no table.

    A file in which a key can be seen stays here, and a warning names it.
    """
    present = [sweep_folder / name for name in (*_FILES, *_PICTURES) if (sweep_folder / name).is_file()]
    contents = {path: path.read_bytes() for path in present}
    for path, content in contents.items():
        if path.name in _FILES and (secret := secret_in(content)):
            _LOG.warning("warning: %s is not sent to W&B: it seems to hold %s", path, secret)
            present.remove(path)
    files = [path for path in present if path.name in _FILES]
    if not files:
        return None
    cells = json.loads((sweep_folder / "cells.json").read_text(encoding="utf-8"))
    sweep, experiment = cells["sweep"], cells["experiment"]
    config = {key: cells.get(key) for key in ("sweep", "experiment", "question", "git_commit", "baseline", "primary")}
    return ReportRun(
        run_id=run_names.report_id(sweep, experiment),
        name=run_names.name(f"report of {sweep}@{experiment}"),
        group=run_names.name(f"{sweep}@{experiment}"),
        job_type=JOB_TYPE,
        tags=[],
        config=shareable(config),
        times=NO_TIMES,
        state={"config": _digest(json.dumps(config).encode())}
        | {path.name: _digest(contents[path]) for path in present},
        folder=sweep_folder,
        files=files,
        pictures=[path for path in present if path.name in _PICTURES],
        folders=folders_in(cells),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
