"""What is trained in a bench: an experiment's model, or a published architecture with random weights."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import torch

from qsd.config.assignments import assignment
from qsd.config.load import build, defaults, load_flat, override
from qsd.config.schema import ExperimentConfig
from qsd.models.precision import torch_type
from scripts.full_size.architectures import ARCHITECTURES, Architecture
from scripts.full_size.write import write
from scripts.synthetic.pairs import good_rows, write_rows

STEPS = 1000
"""Longer than any bench: the learning rate and the draws are those of a long training."""
PUBLIC_ADAPTER: dict[str, Any] = {"lora.rank": 8, "lora.targets": ["to_q", "to_k", "to_v", "to_out.0"]}
"""Of the public scripts' README."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that ``configuration`` reads."""
    parser.add_argument("--experiment", type=Path, default=Path("experiments/emoji.yaml"))
    parser.add_argument(
        "--random",
        nargs=2,
        metavar=("sd15|sdxl", "FOLDER"),
        help="instead of an experiment: that architecture with random weights, bf16, written to FOLDER if not there",
    )
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--pairs", type=int, default=64, help="of the data set, that the steps go round")


def configuration(arguments: argparse.Namespace) -> ExperimentConfig:
    """A few pairs, all of them encoded, dpo, and the adapter of the public script on both sides; --set is over it."""
    if arguments.random:
        name, folder = arguments.random
        if name not in ARCHITECTURES:
            raise SystemExit(f"error: --random {name}: known: {', '.join(ARCHITECTURES)}")
        flat = random_weights(ARCHITECTURES[name], Path(folder), arguments.pairs)
    else:
        flat = load_flat(arguments.experiment)
    fixed = {
        "data.max_rows": arguments.pairs,
        "encode.scope": "dataset",
        "training.steps": STEPS,
        "loss.name": "dpo",
        **PUBLIC_ADAPTER,
    }
    given = dict(assignment(setting) for setting in arguments.settings)
    return build(override(flat, {**fixed, **given}))


def random_weights(architecture: Architecture, folder: Path, pairs: int) -> dict[str, Any]:
    """Write model and pairs below ``folder``; returns an experiment on them, at the model's own resolution, in bf16."""
    write(folder / "model", architecture, torch_type("bf16"))
    path = write_rows(folder / f"pairs-{pairs}.parquet", good_rows(pairs))
    given: dict[str, Any] = {
        "data.path": str(path),
        "data.labels": "simulated",
        "model.path": str(folder / "model"),
        "model.resolution": int(architecture.vae["sample_size"]),
        "reward.model": "clip_emoji",
        "reward.weights": str(folder),
        "encode.batch_size": 8,
        "training.pairs_per_step": 16 if len(architecture.texts) == 1 else 8,
        "training.micro_batch": 16,
        "training.learning_rate": 1e-5,
        "training.precision": "bf16",
        "evaluation.prompts": "none",
        "evaluation.scorers": ["clip_emoji"],
    }
    return override({**defaults(), "training.steps": STEPS}, given)


def hardware(device: torch.device, threads: int) -> str:
    """What the figures belong to."""
    import diffusers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_cpu()}, {threads} thread(s)"
    return f"{name}; torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"


def subject(config: ExperimentConfig) -> str:
    """Model, size and adapter, as a line of a report."""
    training, model = config.training, config.model
    size = f"{model.resolution} px, {training.pairs_per_step} pairs a step, {training.precision}"
    return f"{model.path}, {size}; adapter: rank {config.lora.rank} on {', '.join(config.lora.targets)}"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
