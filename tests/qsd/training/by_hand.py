"""``qsd train`` in a process of its own, or in several."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import yaml

from qsd.config.check import schema_fields
from tests.conftest import ROOT
from tests.qsd.tiny_stages import TinyStages


def by_hand(
    world: TinyStages, folder: Path, processes: int, inputs: tuple[str, ...] = ("select", "encode"), **settings: object
) -> Path:
    """`qsd train` as a person starts it, by torchrun when there are several processes."""
    folder.mkdir(parents=True)
    config = world.config(**settings)
    tree = {name: attrgetter(name)(config) for name in schema_fields()}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(tree))
    output = folder / "result"
    command = ["-m", "qsd.cli", "train", "--experiment", str(folder / "experiment.yaml"), "--out", str(output)]
    for name in inputs:
        command += ["--input", f"{name}={world.artefacts[name]}"]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [*launcher, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("3 steps in") == 1
    return output
