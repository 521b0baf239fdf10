"""``tables.lock.json``: which inputs and which code the written tables come from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from analysis.data.sweep import artefact, read_sweep
from qsd.files import read_json
from qsd.stages.spec import STAGES

NAME = "tables.lock.json"


def inputs(runs: Path, sweep_folder: Path) -> dict[str, Any]:
    """Digests of all that the tables are made from; an artefact's record holds the digests of its files.

    Raises:
        UserError: the sweep has no readable ``cells.json``.
    """
    sweep = read_sweep(sweep_folder)
    records: dict[str, str | None] = {}
    for replicate in sweep.replicates:
        for stage in (name for name, spec in STAGES.items() if spec.in_tables):
            key = replicate.stages.get(stage)
            if key is not None and f"{stage}/{key}" not in records:
                folder = artefact(runs, stage, key)
                records[f"{stage}/{key}"] = _sha256(folder / "record.json") if folder else None
    code = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package).as_posix()}\0{_sha256(path)}\n".encode())
    return {"code": code.hexdigest(), "cells.json": _sha256(sweep_folder / "cells.json"), "records": records}


def lock_text(inputs_before: dict[str, Any], outputs: dict[str, bytes]) -> str:
    """The lock of ``outputs`` (file name to content), made from ``inputs_before``."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(outputs.items())}
    return json.dumps({"inputs": inputs_before, "outputs": digests}, indent=1, sort_keys=True) + "\n"


def up_to_date(runs: Path, sweep_folder: Path) -> bool:
    """Whether the written tables and figures are complete and come from the present results and code."""
    try:
        lock: Any = read_json(sweep_folder / NAME)
        outputs = [(sweep_folder / name, digest) for name, digest in lock["outputs"].items()]
        unchanged = all(path.is_file() and _sha256(path) == digest for path, digest in outputs)
        return unchanged and bool(lock["inputs"] == inputs(runs, sweep_folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
