"""The last job of a launch: it submits what was beyond the site's limit, or writes tables and shows results to W&B.

The tables are of what is evaluated by then, whatever failed or diverged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.files import read_json, write_json

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.slurm.launches import Launch
    from ablations.store.artefacts import Store

_FILE = "finish.json"


def write(launch: Launch, plan: Plan, store: Store, folder: Path, later: int) -> Path:
    """Write what :func:`run` needs; the path of its file.

    Args:
        launch: the launch that it ends.
        plan: what was asked.
        store: where results are.
        folder: the sweep's folder.
        later: stages that were not submitted for want of room in the queue.
    """
    values = plan.cells[0].values
    path = launch.folder.resolve() / _FILE
    content = {
        "root": str(Path.cwd()),
        "runs": str(store.root.resolve()),
        "folder": str(folder.resolve()),
        "arguments": launch.arguments,
        "profile": launch.profile,
        "later": later,
        "stages": {key: node.stage for key, node in plan.nodes.items()},
        "wandb": {
            "mode": values["tracking.wandb"],
            "project": values["tracking.project"],
            "entity": values["tracking.entity"],
        },
    }
    write_json(path, content)
    return path


def run(path: str) -> None:
    """Called on a node when all other jobs of the launch have ended, however they ended."""
    content = read_json(Path(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not written by a launch")
    os.chdir(content["root"])
    if content["later"]:
        _go_on(content)
        return
    _show(content)


def _go_on(content: dict[str, Any]) -> None:
    from ablations.slurm.again import again

    print(again(Path(content["runs"]), content["arguments"], content["profile"]))


def _show(content: dict[str, Any]) -> None:
    from ablations.running import finish
    from ablations.store.artefacts import Store
    from ablations.store.jobs import load_table
    from qsd.errors import UserError
    from qsd.tracking.project import project_sweep

    runs, folder = Path(content["runs"]), Path(content["folder"])
    store = Store(runs, load_table(content["arguments"]["table"]).key_of)
    missing = sum(not store.is_done(stage, key) for key, stage in content["stages"].items())
    if missing:
        print(f"{missing} of {len(content['stages'])} stages are not done", flush=True)
    finish.refresh_cells(store, folder)
    if finish.any_evaluated(folder):
        try:
            print(finish.table_text(store, folder), flush=True)
        except UserError as error:
            print(f"no table: {error}", flush=True)
    else:
        print("no table yet: no cell is evaluated", flush=True)
    project_sweep(runs, folder, **content["wandb"])
