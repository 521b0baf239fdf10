"""The last job of a launch: it submits what is still needed, or writes tables and shows results to W&B.

Still needed are stages beyond the site's limit, the next look of a sweep that adds seeds in looks, and the report of
one whose cells were tuned.

The tables are of what is evaluated by then, whatever failed or diverged.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.files import read_json
from ablations.grid.settings import options
from ablations.planning.needed import progress_lines
from ablations.running import finalize
from ablations.running.archive import CELLS
from ablations.running.wandb_follower import push_line
from ablations.slurm.resubmit import planned_again, resubmit
from ablations.store.artefacts import Store
from ablations.store.jobs import load_table
from qsd.errors import UserError
from qsd.surroundings import widen_streams

if TYPE_CHECKING:
    from collections.abc import Mapping


def run(path: str) -> None:
    """Called on a node when all other jobs of the launch have ended, however they ended."""
    widen_streams()
    content = read_json(Path(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not written by a launch")
    os.chdir(content["root"])
    if content["later"] or (content["grows"] and _needs_more(content)):
        _go_on(content)
        return
    _show(content)


def _needs_more(content: dict[str, Any]) -> bool:
    """Record what looks and trials decide by now; whether that needs stages that this launch did not have."""
    try:
        plan, store = planned_again(Path(content["runs"]), content["arguments"])
    except UserError as error:  # the sweep's file was edited, or scores are damaged: there is a table all the same
        print(f"no further stages: {error}", flush=True)
        return False
    before = read_json(Path(content["folder"]) / CELLS)
    finalize.write_cells(plan, store, before["git_commit"] if isinstance(before, dict) else None)
    print("\n".join(progress_lines(plan)), flush=True)
    return not plan.nodes.keys() <= content["stages"].keys()


def _go_on(content: dict[str, Any]) -> None:
    print(resubmit(Path(content["runs"]), content["arguments"], content["profile"], run))


def _show(content: dict[str, Any]) -> None:
    from ablations.tracking.project import project_sweep

    runs, folder = Path(content["runs"]), Path(content["folder"])
    store = Store(runs, load_table(content["arguments"]["table"]).key_of)
    missing = sum(not store.is_done(stage, key) for key, stage in content["stages"].items())
    if missing:
        print(f"{missing} of {len(content['stages'])} stages are not done", flush=True)
    finalize.refresh_cells(store, folder)
    if finalize.any_evaluated(folder):
        try:
            print(finalize.table_text(store, folder), flush=True)
        except UserError as error:
            print(f"no table: {error}", flush=True)
    else:
        print("no table yet: no cell is evaluated", flush=True)
    project_sweep(runs, folder, **content["wandb"])
    if line := push_line(runs, folder, content["wandb"], _push_command(content["arguments"])):
        print(line, flush=True)


def _push_command(arguments: Mapping[str, Any]) -> str:
    """The command that uploads the launch's runs; without its settings it would be about another folder."""
    words = ["ablate", "wandb", "push", arguments["name"]]
    if arguments["experiment"]:
        words += ["--experiment", arguments["experiment"]]
    return f"{shlex.join(words)} {options(arguments.get('settings') or {})}".strip()
