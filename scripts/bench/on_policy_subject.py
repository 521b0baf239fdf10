"""What the benches of on-policy training train: a method on an experiment, or on random weights of a published size."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qsd.config.assignments import assignment
from qsd.config.load import build, defaults, load_flat, override
from qsd.config.schema import ExperimentConfig
from qsd.device import prepare
from qsd.models.denoiser import load_denoiser
from qsd.models.precision import torch_type
from qsd.training.methods import REGISTRY
from qsd.training.onpolicy.candidates import CandidatesMethod
from scripts.full_size.architectures import ARCHITECTURES, Architecture
from scripts.full_size.write import write
from scripts.parity import full_size

SCORER = "pickscore"
"""Reward model beside random weights: a ViT-H of random weights, differentiable."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that ``configuration`` reads."""
    parser.add_argument("--experiment", type=Path, default=Path("experiments/emoji.yaml"))
    parser.add_argument(
        "--size",
        nargs=2,
        metavar=("sd15|sdxl", "FOLDER"),
        help="instead of an experiment: that architecture and a ViT-H scorer with random weights, bf16, in FOLDER",
    )
    parser.add_argument("--device", default=None, help="auto, cpu, cuda or cuda:N; by default the experiment's")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")


def configuration(arguments: argparse.Namespace, method: str) -> ExperimentConfig:
    """A method without watched prompts, on the experiment or on random weights; --set is over it."""
    if arguments.size:
        name, folder = arguments.size
        if name not in ARCHITECTURES:
            raise SystemExit(f"error: --size {name}: known: {', '.join(ARCHITECTURES)}")
        flat = _random_weights(ARCHITECTURES[name], Path(folder))
    else:
        flat = load_flat(arguments.experiment)
    fixed: dict[str, Any] = {"method.name": method, "method.watched_prompts": 0}
    if arguments.device:
        fixed["device"] = arguments.device
    return build(override(flat, {**fixed, **dict(assignment(setting) for setting in arguments.settings)}))


def open_method(config: ExperimentConfig) -> CandidatesMethod:
    """The method with an adapter that is no longer fresh, so that policy and reference differ."""
    device = torch.device(prepare(config.device, config.threads))
    denoiser = load_denoiser(config.model.path, device, config.training.precision, config.model.resolution)
    module, _, name = REGISTRY.get(config.method.name).entry.partition(":")
    method = getattr(importlib.import_module(module), name)(config, {}, denoiser)
    assert isinstance(method, CandidatesMethod), f"method.name {config.method.name} has no candidates"
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.parameters.values():
            parameter += 1e-3 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return method


def subject(config: ExperimentConfig) -> str:
    """Model, size and settings, as a line of a report."""
    method = config.method
    return (
        f"{config.method.name} on {config.model.path}, {config.model.resolution} px, {config.training.precision}; "
        f"reward {config.reward.model}; {method.prompts_per_step} prompts an update, {method.sampler_steps} sampler "
        f"steps, guidance {method.guidance_scale:g}; adapter: rank {config.lora.rank} on {len(config.lora.targets)} "
        "kinds of layers"
    )


def load_line(loads: Sequence[float]) -> str:
    """The machine's load averages (of a minute) around a bench, and whether they spoil it, as a line of a report.

    Args:
        loads: processes that wanted a core, before and after; the bench itself is one of them.
    """
    cores = os.cpu_count() or 1
    shown = " and ".join(f"{load:.1f}" for load in loads)
    busy = "; THE MACHINE WAS BUSY: the figures are preliminary" if max(loads) > cores else ""
    return f"load of the machine before and after: {shown}, on {cores} cores{busy}"


@dataclass
class Counts:
    """What went through a network, counted at the network itself.

    Attributes:
        calls: of the network.
        passes: images without gradients.
        trained_passes: images with gradients.
    """

    calls: int = 0
    passes: int = 0
    trained_passes: int = 0


def counted(method: CandidatesMethod, work: Callable[[], object]) -> Counts:
    """Do some work and count the network's passes."""
    counts = Counts()

    def count(_network: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        images = len(given[0] if given else next(iter(named.values())))
        counts.calls += 1
        if torch.is_grad_enabled():
            counts.trained_passes += images
        else:
            counts.passes += images

    network: Any = method.denoiser.network
    handle = network.register_forward_pre_hook(count, with_kwargs=True)
    try:
        work()
    finally:
        handle.remove()
    return counts


def _random_weights(architecture: Architecture, folder: Path) -> dict[str, Any]:
    """Write model, scorer and prompts below ``folder``, if not there; an experiment on them with SPO's guidance."""
    write(folder / "model", architecture, torch_type("bf16"))
    weights = folder / "rewards"
    if not weights.is_dir():
        full_size.write(SCORER, weights)
    prompts = folder / "training_prompts.csv"
    rows = (f"p{number},a picture of animal {number},training" for number in range(256))
    prompts.write_text("\n".join(["prompt_id,caption,split", *rows]) + "\n", encoding="utf-8")
    given: dict[str, Any] = {
        "data.path": "none",
        "model.path": str(folder / "model"),
        "model.resolution": int(architecture.vae["sample_size"]),
        "model.vae_precision": "bf16",
        "reward.model": SCORER,
        "reward.weights": str(weights),
        "reward.batch_size": 16,
        "method.prompts": str(prompts),
        "method.sampling_batch": 32,
        "training.steps": 1000,
        "training.pairs_per_step": 1,
        "training.micro_batch": 4,
        "training.learning_rate": 1e-5,
        "training.precision": "bf16",
        "evaluation.prompts": "none",
        "evaluation.scorers": [SCORER],
    }
    return override(defaults(), given)
