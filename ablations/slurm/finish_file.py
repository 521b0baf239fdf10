"""What the last job of a launch needs to know, written at submission (``ablations.slurm.finish_job`` reads it)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablations.files import write_json
from ablations.running.wandb_follower import tracking_settings

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from ablations.store.launches import Launch

_FILE = "finish.json"


def write(launch: Launch, plan: Plan, store: Store, folder: Path, later: int) -> Path:
    """Write the file of a launch's last job and return its path.

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
        "looks": plan.looks is not None,
        "stages": {key: node.stage for key, node in plan.nodes.items()},
        "wandb": tracking_settings(values),
    }
    write_json(path, content)
    return path
