"""A project folder with an experiment, a sweep and a world of random weights, small enough to be run many times."""

from __future__ import annotations

from pathlib import Path

from tests.qsd import tiny_pipeline, tiny_world

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = f"""\
data: {{path: world/pairs.parquet}}
model: {{path: world/model, resolution: {tiny_pipeline.RESOLUTION}}}
reward: {{model: clip_emoji, weights: world/rewards}}
quality: {{normalization: percentile_rank}}
selection: {{fraction: 50}}
encode: {{scope: dataset}}
lora: {{rank: 2}}
training: {{steps: 30, pairs_per_step: 4, learning_rate: 1e-3, micro_batch: 4, checkpoint_steps: 3}}
generation: {{steps: 3, guidance_scale: 1, batch_size: 2}}
evaluation: {{prompts: world/prompts.csv, scorers: [judge_emoji, clip_emoji]}}
tracking: {{wandb: disabled}}
device: cpu
"""
SWEEP = """\
question: Does it matter?
experiment: tiny
axes: {quality.metric: [product, difference, winner_only]}
controls: [{selection.strategy: random}]
baseline: {quality.metric: product}
seeds: [0]
"""


def make_project(root: Path) -> Path:
    """Write the project below ``root`` and return it."""
    world = root / "world"
    world.mkdir(parents=True)
    tiny_pipeline.save(world / "model")
    tiny_world.write_rewards(world / "rewards")
    tiny_world.write_rows(world / "pairs.parquet", tiny_world.good_rows(16))
    lines = [f"p{number},prompt {number},{'seen' if number % 2 else 'evaluation'}" for number in range(8)]
    (world / "prompts.csv").write_text("\n".join(["prompt_id,caption,split", *lines]) + "\n")
    for name, text in (("experiments/tiny.yaml", EXPERIMENT), ("sweeps/small.yaml", SWEEP)):
        path = root / name
        path.parent.mkdir()
        path.write_text(text)
    return root
