"""SD1.5 or SDXL at full size with random weights: encode, train and generate on a CPU, with time and peak memory.

    .venv/bin/python -m scripts.full_size sd15 FOLDER
    .venv/bin/python -m scripts.full_size sdxl FOLDER --resolution 64 --precision bf16 --guidance 1

Writes the pipeline and two pairs into FOLDER, then runs every stage as ``qsd`` does, each in its own process, and
finally loads the adapter into an unmodified pipeline of diffusers and compares its image with the project's. It shows
nothing about image quality: the weights are random. Started again on the same folder, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from qsd.runtime import STATE

STAGES: dict[str, tuple[str, ...]] = {
    "data": (),
    "select": ("data",),
    "encode": ("data", "select"),
    "train": ("select", "encode"),
    "generate": ("train",),
}
"""The stages that are run, with their inputs."""


def main() -> None:
    """Run everything and print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("sd15", "sdxl"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--guidance", type=float, default=5, help="1 draws without guidance, in half the time")
    parser.add_argument("--weights", choices=("fp32", "bf16"), default="bf16", help="type of the written files")
    parser.add_argument("--until", choices=STAGES, help="the last stage; finished ones are kept")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    _measured(given.folder, "write", ["scripts.full_size.write", given.name, str(given.folder), given.weights])
    experiment = given.folder / "experiment.yaml"
    experiment.write_text(json.dumps(_experiment(given)))
    for stage, inputs in STAGES.items():
        out = given.folder / stage
        if not out.exists() or (out / STATE).exists():
            options = [text for name in inputs for text in ("-i", f"{name}={given.folder / name}")]
            _measured(given.folder, stage, ["qsd.cli", stage, "-e", str(experiment), "-o", str(out), *options])
        if stage == given.until:
            return
    _measured(given.folder, "stock", ["scripts.full_size.compare", str(given.folder)])
    print((given.folder / "stock.log").read_text().splitlines()[-1])


def _experiment(given: argparse.Namespace) -> dict[str, object]:
    """Few steps on two pairs, one prompt, one image; a high learning rate, so that the adapter has a visible effect."""
    folder = given.folder
    return {
        "data": {"path": str(folder / "pairs.parquet"), "labels": "simulated"},
        "model": {"path": str(folder / "model"), "resolution": given.resolution},
        "reward": {"model": "clip_emoji", "weights": str(folder)},
        "selection": {"strategy": "random", "fraction": 100},
        "training": {
            "steps": given.steps,
            "pairs_per_step": 1,
            "micro_batch": 1,
            "learning_rate": 1e-2,
            "caption_dropout": 0.2,
            "precision": given.precision,
            "reference_errors": "online",
        },
        "generation": {"steps": 2, "guidance_scale": given.guidance, "precision": given.precision},
        "evaluation": {"prompts": str(folder / "prompts.csv"), "splits": ["evaluation"], "scorers": ["clip_emoji"]},
        "tracking": {"wandb": "disabled"},
        "device": "cpu",
        "threads": 2,
    }


def _measured(folder: Path, name: str, command: list[str]) -> None:
    """Run a module in its own process and print its time and peak memory; its output goes to a file."""
    started = time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} failed: {(folder / f'{name}.log').read_text()[-2000:]}")
    seconds = time.monotonic() - started
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{name}: {seconds:.0f} s, {cpu:.0f} s of CPU, peak {usage.ru_maxrss / 2**20:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
