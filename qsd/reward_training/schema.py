"""The recipe of a reward model's training: ``experiments/hps_v2.yaml`` and its like. One comment of why per field.

Read by the machinery of experiments, so that a mistake is reported with file, line and column. ``meaning`` and the
content behind ``location`` make the result; ``execution`` only says how it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qsd.config.fields import MOST_SEED, REQUIRED, execution, location, meaning
from qsd.config.schema import SCHEDULES


@dataclass
class BaseConfig:
    """The weights that training begins with."""

    family: str = meaning("clip", "architecture and loader of the weights", registry="qsd.reward_training.families")
    path: str = location(REQUIRED, "folder of a reward model of this project, or a published checkpoint")
    layout: str = meaning(
        "own", "of the weights; own is a folder with config.json", choices=("own", "open_clip", "transformers")
    )
    architecture: str | None = meaning(
        None, "of a published checkpoint, which does not say it", choices=("ViT-H-14", "ViT-L-14")
    )
    resize: str | None = meaning(
        None,
        "which side fits the input: shortest crops, longest pads; null is the base's",
        choices=("shortest", "longest"),
    )
    antialias: bool | None = meaning(None, "of tensors resized by the longest side; null is the base's")


@dataclass
class ChoicesConfig:
    """What is learnt from."""

    reader: str = meaning("hpd_v2", "layout of the data set", registry="qsd.data.readers")
    path: str = location(REQUIRED, "choices between two images, or rankings, of which every pair is a choice")
    max_rejected_fraction: float = meaning(
        0.02, "damaged rows, or test groups, above this share end it", least=0, most=1
    )
    folds: int = meaning(
        0, "captions are dealt into so many folds, and one of them is held out; 0 trains on all", least=0
    )
    fold: int = meaning(0, "the fold that is held out, from 0", least=0)


@dataclass
class ObjectiveConfig:
    """The loss of a choice."""

    name: str = meaning("hps", "the loss", registry="qsd.reward_training.losses")
    summed_pairs: int | None = meaning(
        None,
        "hps: the published loss sums over a GPU's pairs and averages over GPUs; null sums over the batch",
        least=1,
    )
    max_logit_scale: float | None = meaning(
        100.0,
        "family clip: factor of the cosine, at most, after each step; null: no bound, as published PickScore",
        above=0,
    )


@dataclass
class LayersConfig:
    """What is trained. A tower with trained blocks has its last norm and its projection trained too."""

    image_blocks: int | None = meaning(
        None, "the last n blocks of the image tower; 0 freezes it, null trains all", least=0
    )
    text_blocks: int | None = meaning(
        None, "the last n blocks of the text tower; 0 freezes it, null trains all", least=0
    )


@dataclass
class OptimiserConfig:
    """AdamW: settings and length of the training."""

    steps: int = meaning(REQUIRED, "optimiser steps", least=1, most=100_000_000)
    batch: int = meaning(REQUIRED, "choices per optimiser step, over all processes", least=1)
    learning_rate: float = meaning(REQUIRED, "peak rate", above=0)
    schedule: str = meaning(
        "cosine", "after the warm-up: to zero along a cosine or a line, or constant", choices=SCHEDULES
    )
    warmup_steps: int = meaning(0, "steps of linear warm-up", least=0)
    weight_decay: float = meaning(0.0, "of AdamW", least=0)
    decayed: str = meaning(
        "matrices",
        "what weight_decay is for; matrices leaves out norms, biases, vectors and the logit scale",
        choices=("matrices", "all"),
    )
    beta1: float = meaning(0.9, "of AdamW", least=0, most=1)
    beta2: float = meaning(0.98, "of AdamW", least=0, most=1)
    eps: float = meaning(1e-6, "of AdamW", above=0)
    max_grad_norm: float | None = meaning(None, "gradient clipping by global norm; null clips nothing", above=0)
    precision: str = meaning("fp32", "of the forward pass; weights and optimiser are fp32", choices=("fp32", "bf16"))
    micro_batch: int | None = execution(
        None, "choices per forward pass of a process; null is all of its share", least=1
    )
    checkpoint_steps: int = execution(100, "steps between checkpoints", least=1)
    checkpoint_seconds: float = execution(300.0, "and at most this long between them", above=0)
    validate_steps: int | None = execution(
        None, "steps between measurements on the held-out fold; null: only at the end", least=1
    )


@dataclass
class TestConfig:
    """What the trained reward model is tested on."""

    __test__ = False

    path: str | None = execution(None, "ranked groups in HPD v2's test.json layout; null tests nothing")
    ceiling: str | None = execution(
        None, "reward model that simulated the annotators, where choices are simulated", registry="qsd.rewards.scorers"
    )
    weights: str | None = execution(None, "folder with one folder per reward model, for the ceiling")


@dataclass
class RewardTrainingConfig:
    """One training of one reward model."""

    base: BaseConfig = field(default_factory=BaseConfig)
    choices: ChoicesConfig = field(default_factory=ChoicesConfig)
    loss: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    layers: LayersConfig = field(default_factory=LayersConfig)
    training: OptimiserConfig = field(default_factory=OptimiserConfig)
    test: TestConfig = field(default_factory=TestConfig)
    seed: int = meaning(
        0, "of the order of choices, the folds, and dropout where there is any", least=0, most=MOST_SEED
    )
    device: str = execution("auto", "auto, cpu, cuda or cuda:N")
    threads: int = execution(1, "CPU threads per process; images are decoded by as many", least=1, most=1024)
    kept_images: int = execution(4096, "preprocessed images held in memory", least=0)
