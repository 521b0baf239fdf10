"""The method that trains every family of reward models on choices; it runs on the engine of ``qsd.training``.

A step takes the next ``training.batch`` choices of the stream. Every process takes its share of them, in micro-batches.
The step minimises scale · Σ w_i l_i / Σ w_i over all of them, so that the number of processes and the size of the
micro-batches change nothing but rounding. Families with dropout draw it from a seed of (step, process, micro-batch): a
resumed run draws the same, another number of processes does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qsd.config.digest import hash_of
from qsd.errors import UserError
from qsd.models.precision import autocast_for
from qsd.reward_training.choices import ChoicePixels, Choices, ChoiceStream
from qsd.reward_training.losses import REGISTRY
from qsd.reward_training.schema import OptimiserConfig, RewardTrainingConfig
from qsd.reward_training.trainable import TrainableReward
from qsd.training.ema import ParameterEma
from qsd.training.engine import Recipe
from qsd.training.method import Method
from qsd.training.metrics import GRAD_NORM
from qsd.training.optimizer import OptimizerSettings
from qsd.training.processes import Processes

HELD_OUT = "held_out_accuracy"
_SUMS = ("loss", "correct", "preferred", "margin")
"""What a step adds up over its choices: weighted loss, preferred choices that score right, their number, s_w - s_l."""


class ChoicesMethod(Method):
    """One reward model in training.

    Args:
        config: the recipe.
        model: its trained layers are chosen here; it is moved to ``device``.
        processes: that share each step.
        device: of this process.
        choices: to learn from.
        pixels: their images, and those of the held-out choices.
        held_out: choices to measure accuracy on every ``training.validate_steps``.

    Raises:
        UserError: nothing to train, or a batch that does not part evenly among the processes.
    """

    unit = "choices"
    columns = ("loss", "accuracy", "margin")
    finite = (*columns, GRAD_NORM)

    def __init__(
        self,
        config: RewardTrainingConfig,
        model: TrainableReward,
        processes: Processes,
        device: torch.device,
        choices: Choices,
        pixels: ChoicePixels,
        held_out: Choices | None = None,
    ) -> None:
        if config.training.batch % processes.count:
            raise UserError(
                f"training.batch is {config.training.batch}, which {processes.count} processes cannot share"
            )
        self.config = config
        self.processes = processes
        self.pixels = pixels
        self.held_out = held_out
        self.loss = REGISTRY.get(config.loss.name)
        weights = self.loss.weights(choices.of_caption()) if self.loss.weights else np.ones(len(choices))
        self.stream = ChoiceStream(choices, weights, config.seed)
        self.scale = self.loss.scale(config.loss, config.training.batch) if self.loss.scale else 1.0
        model.choose_layers(config.layers.image_blocks, config.layers.text_blocks)
        self.model = model.to(device).train()
        self.parameters = model.trained()
        if not self.parameters:
            raise UserError("section layers: all layers are frozen, there is nothing to train")
        self.averages = ParameterEma(self.parameters)

    def units(self, step: int) -> int:
        """Choices of this process in a step."""
        return self.config.training.batch // self.processes.count

    def step(self, step: int) -> Tensor:
        """Add the gradients of this process's choices; returns loss, accuracy and margin over the step, [3], fp64."""
        places, factor = self._choices_of(step)
        micro = self.config.training.micro_batch or len(places)
        total = torch.zeros(len(_SUMS), device=self.device)
        for number, start in enumerate(range(0, len(places), micro)):
            batch = places[start : start + micro]
            torch.manual_seed(_seed(self.config.seed, step, self.processes.rank, number))
            losses, scores, labels = self._losses(batch)
            torch.autograd.backward(losses.sum() * factor)
            total += _sums(losses.detach(), scores, labels)
        # In fp64, so that the columns are the quotients of these sums and not rounded once more.
        loss, correct, preferred, margin = self.processes.sum(total).double()
        preferred = preferred.clamp_min(1.0)
        return torch.stack([loss * factor, correct / preferred, margin / preferred])

    def after_update(self) -> None:
        """Some families bound a weight."""
        self.model.after_step(self.config.loss.max_logit_scale)

    def further_columns(self, done: int) -> dict[str, float]:
        """Accuracy on the held-out choices, every ``training.validate_steps``."""
        every = self.config.training.validate_steps
        if not self.held_out or not every or done % every:
            return {}
        return {HELD_OUT: self.accuracy(self.held_out)}

    def accuracy(self, choices: Choices) -> float:
        """Share of the choices, ties left out, in which the preferred image scores strictly higher.

        All processes must call it together.
        """
        places = np.array_split(np.arange(len(choices)), self.processes.count)[self.processes.rank]
        size = self.config.training.micro_batch or self.config.training.batch
        total = torch.zeros(len(_SUMS), device=self.device)
        self.model.eval()
        with torch.no_grad():
            for start in range(0, len(places), size):
                scores, labels = self._scores(choices, places[start : start + size])
                total += _sums(torch.zeros_like(labels), scores, labels)
        self.model.train()
        _, correct, preferred, _ = self.processes.sum(total).tolist()
        return float(correct / max(preferred, 1.0))

    def describe(self, row: Mapping[str, Any]) -> str:
        """Means over some steps in a line."""
        return ", ".join(f"{name} {row[name]:.4g}" for name in self.columns) + f", gradient norm {row[GRAD_NORM]:.3g}"

    def _choices_of(self, step: int) -> tuple[npt.NDArray[np.int64], float]:
        """Which choices this process takes in a step, and what their weighted losses are multiplied by."""
        batch = self.config.training.batch
        places = self.stream.places(step * batch, (step + 1) * batch)
        factor = self.scale / float(self.stream.weights[places].sum())
        return np.array_split(places, self.processes.count)[self.processes.rank], factor

    def _losses(self, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted losses [B], scores [B, 2] and labels [B] of some choices."""
        scores, labels = self._scores(self.stream.choices, places)
        weights = torch.from_numpy(self.stream.weights[places]).to(scores.device, torch.float32)
        return weights * self.loss.function(scores, labels), scores, labels

    def _scores(self, choices: Choices, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Scores [B, 2], fp32, and labels [B]: 1 where the first image is preferred, 0.5 for a tie."""
        device = self.device
        tokens = self.model.tokens([choices.captions[place] for place in places])
        pixels = self.pixels.of(choices, places).to(device)
        with autocast_for(device.type, self.config.training.precision):
            scores: Tensor = self.model(pixels, {name: tensor.to(device) for name, tensor in tokens.items()})
        labels = torch.from_numpy(np.where(choices.ties[places], 0.5, 1.0)).to(device, torch.float32)
        return scores.float(), labels


def recipe_of(training: OptimiserConfig) -> Recipe:
    """The engine's recipe for a reward model's training."""
    optimizer = OptimizerSettings(
        training,
        training.weight_decay,
        training.max_grad_norm,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        decay_matrices_only=training.decayed == "matrices",
        kind="parameter",
    )
    return Recipe(optimizer, training.checkpoint_steps, training.checkpoint_seconds)


def _sums(losses: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Sums over choices of what ``_SUMS`` names, fp32 [4].

    Args:
        losses: weighted, [B].
        scores: [B, 2].
        labels: [B], 1 where the first is preferred, 0.5 for a tie, which is neither right nor wrong.
    """
    with torch.no_grad():
        preferred = (labels != 0.5).float()
        margin = (scores[:, 0] - scores[:, 1]).float()
        values = (losses, (margin > 0) * preferred, preferred, margin * preferred)
        return torch.stack([value.float().sum() for value in values])


def _seed(*parts: int) -> int:
    """A seed for torch that is a pure function of some numbers."""
    return int(hash_of(list(parts))[:15], 16)
