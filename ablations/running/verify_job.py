"""Whether a job still means what it meant when it was launched: its code, its inputs, and the data of its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.digest import canonical_json
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.keys import StageTable
    from ablations.store.artefacts import Store
    from ablations.store.jobs import Job

_REMEDY = "launch the sweep again for a stage of its own, or restore what was changed"


def check_code(job: Job) -> None:
    """Refuse to run a job from other code than that of its snapshot.

    Raises:
        UserError: this process runs other code.
    """
    code = Path(__file__).resolve().parents[2]
    if job.snapshot and code != Path(job.snapshot).resolve():
        raise UserError(f"this process runs the code in {code}, not the job's snapshot {job.snapshot}; set PYTHONPATH")


def check_inputs(job: Job, store: Store) -> None:
    """Refuse to run a job on an input that is missing or is not what was sealed; every file of the inputs is read.

    Raises:
        UserError: naming the input, the file and the remedy.
    """
    for name, key in job.inputs.items():
        problem = store.damage(name, key)
        if problem is not None:
            folder = store.artefact(name, key)
            remove = f"remove it (rm -r {folder}) and " if folder.is_dir() else ""
            raise UserError(f"input {name}/{key}: {problem}; {remove}run the sweep again to recompute it")


def check_meaning(job: Job, table: StageTable) -> None:
    """Refuse to run a job whose key no longer stands for what is there.

    Raises:
        UserError: naming the field, for example of a file that was edited since.
    """
    version = table.STAGES[job.stage].version
    if version != job.version:
        raise UserError(
            f"{job.stage}: launched as version {job.version}, but the code is of version {version}; {_REMEDY}"
        )
    meaning = table.stage_meaning(job.stage, job.values)
    if canonical_json(meaning) != canonical_json(job.meaning):
        raise UserError("; ".join([*_differences(job, meaning), _REMEDY]))


def _differences(job: Job, meaning: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in sorted({*meaning, *job.meaning}):
        before, now = job.meaning.get(name), meaning.get(name)
        if canonical_json(before) != canonical_json(now):
            place = f" ({job.values[name]})" if name in job.values else ""
            lines.append(f"{name}{place} changed since the launch: {before} is now {now}")
    return lines
