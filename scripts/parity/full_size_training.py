"""HPS v2's training at full size, with random weights in the published layout: a few steps, their time and memory.

    .venv/bin/python -m scripts.parity.full_size_training [IMAGE_BLOCKS] [TEXT_BLOCKS] [STEPS]

Without arguments the layers are those of ``experiments/hps_v2.yaml``, 19 and 11. Batches of two choices, on the CPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from qsd.reward_training.train import train_reward
from qsd.rewards.clip import create
from qsd.rewards.clip_published import VIT_H_14
from qsd.runtime import silent
from scripts.parity.full_size import random_state
from scripts.parity.pictures import noise

RECIPE = Path("experiments/hps_v2.yaml")
CHOICES = 3


def write(root: Path) -> None:
    """LAION's file with random weights, and choices in HPD v2's layout."""
    with torch.device("meta"):
        model = create(VIT_H_14)
    torch.save(random_state(model), root / "open_clip_pytorch_model.bin")
    (root / "train").mkdir()
    items = []
    for number in range(CHOICES):
        names = [f"{number}_{side}.png" for side in range(2)]
        for side, name in enumerate(names):
            Image.fromarray(noise(60 + 10 * number, 50 + 20 * side)).save(root / "train" / name)
        items.append({"human_preference": [1, 0], "prompt": f"a picture of number {number}", "file_path": names})
    (root / "train.json").write_text(json.dumps(items), encoding="utf-8")


def main() -> None:
    """Print the summary, the losses, time and memory."""
    blocks = sys.argv[1:3]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root)
        settings = [
            f"base.path={root / 'open_clip_pytorch_model.bin'}",
            f"choices.path={root / 'train.json'}",
            "test.path=null",
            f"training.steps={steps}",
            "training.batch=2",
            "training.micro_batch=1",
            "training.warmup_steps=0",
            "training.precision=fp32",  # bf16 had not made a step after four minutes of CPU time
            "loss.summed_pairs=2",
            "device=cpu",
            "threads=1",
            *(f"layers.{tower}_blocks={count}" for tower, count in zip(("image", "text"), blocks, strict=False)),
        ]
        started = time.perf_counter()
        train_reward(RECIPE, settings, root / "out", silent)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in (root / "out" / "reward").iterdir())
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20
    print(
        f"{steps} steps, loading and saving included: {seconds:.0f} s; peak memory, the writing of the checkpoint "
        f"included: {peak:.1f} GiB; written: {size / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
