"""Passes that train nothing: their operations are counted, and their memory decides how many pairs one pass takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from qsd.models.adapter_dropout import DropoutSwitch
from qsd.models.attention import training_attention
from qsd.models.denoiser import Denoiser
from qsd.training.memory import chosen_micro_batch
from qsd.training.offpolicy.batches import PairStream
from qsd.training.offpolicy.denoising_errors import model_errors, trained_errors


@dataclass(frozen=True)
class TrialPass:
    """Passes of the first pairs of a stream.

    Attributes:
        denoiser: with the adapter.
        stream: the pairs.
        parameters: of the adapter, by name.
        dropout: of the adapter.
        needs_loser: whether the loss does.
        precision: of the passes.
    """

    denoiser: Denoiser
    stream: PairStream
    parameters: Mapping[str, nn.Parameter]
    dropout: DropoutSwitch
    needs_loser: bool
    precision: str

    def train(self, pairs: int) -> None:
        """With gradients, which are not kept."""
        batch = self.stream.batch(0, pairs, self.denoiser.network.device)
        with self.dropout.on(batch.dropout_keys):
            winner, loser = trained_errors(self.denoiser, batch, self.needs_loser, self.precision)
            # Not backward(): that would leave gradients in the parameters.
            torch.autograd.grad(winner.sum() + loser.sum(), list(self.parameters.values()), allow_unused=True)

    def forward(self, pairs: int) -> None:
        """Without gradients."""
        with torch.no_grad():
            model_errors(self.denoiser, self.stream.batch(0, pairs, self.denoiser.network.device), self.precision)

    def micro_batch(self, most: int, attention: str) -> int:
        """What ``training.micro_batch: 0`` stands for: how many of ``most`` pairs fit into the free memory.

        Args:
            most: pairs of a step in this process.
            attention: kernels of the training.
        """
        device = self.denoiser.network.device
        # Gradients and AdamW's two moments, which are made in the first step.
        state = 3 * sum(parameter.nbytes for parameter in self.parameters.values())
        with training_attention(device, attention):
            return chosen_micro_batch(device, most, self.train, state)
