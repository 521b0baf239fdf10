"""The loop that trains every family of reward models on choices, through accelerate: one process or many, one result.

A step takes the next ``training.batch`` choices of the stream. Every process takes its share of them, in micro-batches.
The step minimises scale · Σ w_i l_i / Σ w_i over all of them, so that the number of processes and the size of the
micro-batches change nothing but rounding. Families with dropout draw it from a seed of (step, process, micro-batch): a
resumed run draws the same, another number of processes does not.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from qsd.config.digest import hash_of
from qsd.errors import UserError
from qsd.reward_training import optimizer as optimisers
from qsd.reward_training.choices import ChoiceStream
from qsd.reward_training.losses import REGISTRY
from qsd.reward_training.metrics import FILE, SUMS, sums
from qsd.training import checkpoint as checkpoints
from qsd.training import optimizer_state
from qsd.training.checkpoint import Checkpoint, Clock
from qsd.training.jsonl_log import JsonlLog

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy.typing as npt
    from accelerate import Accelerator
    from torch import Tensor, nn

    from qsd.reward_training.choices import ChoicePixels, Choices
    from qsd.reward_training.schema import RewardTrainingConfig
    from qsd.reward_training.trainable import TrainableReward
    from qsd.runtime import Report

_KIND = "parameter"
"""What a checkpoint calls the parameters."""
_LINES = 10
"""Lines that a training prints about itself, beside those about the held-out fold."""


class RewardTrainer:
    """One reward model in training.

    Args:
        config: the recipe.
        model: its trained layers are chosen here.
        accelerator: of this process.
        choices: to learn from.
        pixels: their images.

    Attributes:
        parameters: the trained ones, by name.

    Raises:
        UserError: nothing to train, or a batch that does not part evenly among the processes.
    """

    def __init__(
        self,
        config: RewardTrainingConfig,
        model: TrainableReward,
        accelerator: Accelerator,
        choices: Choices,
        pixels: ChoicePixels,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.pixels = pixels
        if config.training.batch % accelerator.num_processes:
            raise UserError(
                f"training.batch is {config.training.batch}, which {accelerator.num_processes} processes cannot share"
            )
        self.loss = REGISTRY.get(config.loss.name)
        weights = self.loss.weights(choices.of_caption()) if self.loss.weights else np.ones(len(choices))
        self.stream = ChoiceStream(choices, weights, config.seed)
        self.scale = self.loss.scale(config.loss, config.training.batch) if self.loss.scale else 1.0
        model.choose_layers(config.layers.image_blocks, config.layers.text_blocks)
        self.model = model
        self.parameters = model.trained()
        if not self.parameters:
            raise UserError("section layers: all layers are frozen, there is nothing to train")
        model.to(accelerator.device)
        self._prepared, self._optimiser = accelerator.prepare(model, optimisers.make(self.parameters, config.training))

    def run(self, output: Path, state: Path, report: Report, held_out: Choices | None = None) -> int:
        """Train to the end, from the last checkpoint in ``state`` if there is one; writes ``output/metrics.jsonl``.

        Args:
            output: folder for the metrics.
            state: folder for checkpoints.
            report: progress.
            held_out: choices to look at every ``training.validate_steps``.

        Returns:
            The number of steps that this call has made.

        Raises:
            NonFiniteLossError: the loss or its gradient is not finite.
        """
        recipe, main = self.config.training, self.accelerator.is_main_process
        found = checkpoints.load(state)
        first = found.step if found else 0
        if found:
            optimizer_state.load_tensors(self.parameters, self._optimiser.optimizer, _KIND, found.tensors)
        log = JsonlLog(output / FILE, found.metrics_bytes if found else 0) if main else None
        clock = Clock(recipe.checkpoint_steps, recipe.checkpoint_seconds)
        self._prepared.train()
        for step in range(first, recipe.steps):
            row, done = self.step(step), step + 1
            if held_out and recipe.validate_steps and done % recipe.validate_steps == 0:
                row["held_out_accuracy"] = self.accuracy(held_out)
            if log:
                log.add({"step": step, **row}, finite=row)
                if done % max(1, recipe.steps // _LINES) == 0 or "held_out_accuracy" in row:
                    print(f"step {done}: " + ", ".join(f"{name} {row[name]:.4g}" for name in row), flush=True)
            report(done, recipe.steps, "steps")
            if log and done < recipe.steps and clock.due(done):
                tensors = optimizer_state.tensors(self.parameters, self._optimiser.optimizer, _KIND)
                checkpoints.save(state, Checkpoint(done, log.flush(), tensors))
        if log:
            log.close()
        self.accelerator.wait_for_everyone()
        return recipe.steps - first

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step; what it writes about itself, the same in every process."""
        import torch

        recipe, parts = self.config.training, self.accelerator.num_processes
        rate = optimisers.set_rate(self._optimiser.optimizer, recipe, step)
        places = self.stream.places(step * recipe.batch, (step + 1) * recipe.batch)
        factor = self.scale / float(self.stream.weights[places].sum())
        mine = np.array_split(places, parts)[self.accelerator.process_index]
        micro = recipe.micro_batch or len(mine)
        batches = [mine[start : start + micro] for start in range(0, len(mine), micro)]
        total = torch.zeros(len(SUMS), device=self.accelerator.device)
        for number, batch in enumerate(batches):
            torch.manual_seed(_seed(self.config.seed, step, self.accelerator.process_index, number))
            with self._together(last=number == len(batches) - 1):
                losses, scores, labels = self._losses(batch)
                # Processes average their gradients, and the step's loss is a sum over them.
                self.accelerator.backward(losses.sum() * factor * parts)
            total += sums(losses.detach(), scores, labels)
        norm = self._clipped()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.model.after_step()
        loss, correct, preferred, margin = self.accelerator.reduce(total, "sum").tolist()
        return {
            "loss": loss * factor,
            "accuracy": correct / max(preferred, 1.0),
            "margin": margin / max(preferred, 1.0),
            "grad_norm": float(norm),
            "learning_rate": rate,
        }

    def accuracy(self, choices: Choices) -> float:
        """Share of the choices, ties left out, in which the preferred image scores strictly higher."""
        import torch

        accelerator = self.accelerator
        mine = np.array_split(np.arange(len(choices)), accelerator.num_processes)[accelerator.process_index]
        size = self.config.training.micro_batch or self.config.training.batch
        total = torch.zeros(len(SUMS), device=accelerator.device)
        self.model.eval()
        with torch.no_grad():
            for start in range(0, len(mine), size):
                # The model itself: processes with unequal shares must not wait for each other.
                scores, labels = self._scores(self.model, choices, mine[start : start + size])
                total += sums(torch.zeros_like(labels), scores, labels)
        self.model.train()
        _, correct, preferred, _ = accelerator.reduce(total, "sum").tolist()
        return float(correct / max(preferred, 1.0))

    def _losses(self, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted losses [B], scores [B, 2] and labels [B] of some choices."""
        import torch

        scores, labels = self._scores(self._prepared, self.stream.choices, places)
        weights = torch.from_numpy(self.stream.weights[places]).to(scores.device, torch.float32)
        return weights * self.loss.function(scores, labels), scores, labels

    def _scores(self, model: nn.Module, choices: Choices, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        import torch

        device = self.accelerator.device
        tokens = self.model.tokens([choices.captions[place] for place in places])
        pixels = self.pixels.of(choices, places).to(device)
        scores: Tensor = model(pixels, {name: tensor.to(device) for name, tensor in tokens.items()})
        labels = torch.from_numpy(np.where(choices.ties[places], 0.5, 1.0)).to(device, torch.float32)
        return scores, labels

    def _together(self, last: bool) -> AbstractContextManager[object]:
        """Processes exchange gradients at the last micro-batch of a step alone."""
        return nullcontext() if last else self.accelerator.no_sync(self._prepared)

    def _clipped(self) -> Tensor:
        """Global norm of the gradient before clipping."""
        import torch

        most = self.config.training.max_grad_norm
        return torch.nn.utils.clip_grad_norm_(self.parameters.values(), float("inf") if most is None else most)


def _seed(*of: int) -> int:
    return int(hash_of(list(of))[:15], 16)
