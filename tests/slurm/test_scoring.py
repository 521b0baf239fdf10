"""The true score stage on a real SLURM: an array of processes shares one pass over the images, and stages take over."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.grid.spec import read_sweep
from ablations.inspection.status import status
from ablations.planning.plan import make_plan
from ablations.slurm import finish_job
from ablations.slurm.profile import Profile
from ablations.slurm.submit import submit
from ablations.store.artefacts import Store
from ablations.store.launches import launches
from qsd.config.load import build
from qsd.stages import spec as stages
from qsd.stages.score import run as score
from tests.ablations.conftest import PROMPTS
from tests.qsd import tiny_world
from tests.slurm.one_node import OneNode
from tests.slurm.watch import command, logs, wait_for_end

pytestmark = pytest.mark.slow
SWEEP = """\
question: q
experiment: tiny
axes: {reward.model: [clip_emoji, aesthetic_emoji]}
baseline: {reward.model: clip_emoji}
seeds: [0]
overrides: {reward.shards: 2, reward.batch_size: 2}
"""


def test_an_array_of_score_processes(slurm: OneNode, world: Path, profile: Profile) -> None:
    tiny_world.write_rewards(world / "world" / "scorers")
    tiny_world.write_rows(world / "world" / "pairs", tiny_world.good_rows(40))
    (world / "world" / "model").mkdir()
    (world / "world" / "prompts.csv").write_text(PROMPTS)
    path = world / "sweeps" / "models.yaml"
    path.write_text(SWEEP)
    plan = make_plan(read_sweep(path), stages)
    scoring = {key for key, node in plan.nodes.items() if node.stage in ("data", "score")}
    store = Store(world / "runs", stages.key_of)

    command("scontrol", "update", "PartitionName=low", "State=DOWN")  # queues jobs and starts none
    try:
        done = submit(
            plan, store, profile, {"name": "models", "experiment": None, "seeds": None}, finish_job.run, only=scoring
        )
        (launch,) = launches(store)
        arrays = {array.stage: array for array in launch.arrays()}
        waiting = [entry["label"] for entry in status(plan, store)["queued"] if entry["stage"] == "ahead"]
        asked = command("scontrol", "show", "job", f"{arrays['score'].job}_1")
    finally:
        command("scontrol", "update", "PartitionName=low", "State=UP")
    assert (done.jobs, done.precomputes, len(arrays["ahead"].keys)) == (3, 2, 2)
    assert waiting == [f"precompute score for 2 stages, process {number} of 2" for number in (1, 2)]
    assert f"afterany:{arrays['ahead'].job}_*" in asked

    wait_for_end()
    assert all(store.is_done(plan.nodes[key].stage, key) for key in scoring), logs(store)
    assert len(list((store.root / "attempts" / "ahead").glob("*/1/exit.json"))) == 2

    (data,) = (node for node in plan.nodes.values() if node.stage == "data")
    for node in (plan.nodes[key] for key in scoring if plan.nodes[key].stage == "score"):
        alone = world / node.key
        score.run(tiny_world.context(build(node.values), alone, data=store.artefact("data", data.key)))
        for name in ("scores.parquet", "problems.json"):
            assert (store.artefact("score", node.key) / name).read_bytes() == (alone / name).read_bytes()
