"""From pairs of sampler steps to gradients: the losses of pairs on log-ratios (TailorPO's Eq. 10, D3PO).

    log ρ(x) = log π_θ(x | state) - log π_ref(x | state) = (|x - μ_ref|² - |x - μ_θ|²) / (2 σ²)        per element
    d = log ρ_w - log ρ_l        L = loss(d)

σ is the same for both policies, so squared distances from the mean take the place of denoising errors, and 1 / (2 σ²)
is the pair's ``scale`` (``qsd.losses.PairErrors``). Log-probabilities are means over the elements of the latents, as in
D3PO's and SPO's code. The reference is the network without its adapter: its distances are computed once for a batch of
samples, however many updates the batch serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qsd.errors import UserError
from qsd.losses import REGISTRY, Loss, PairErrors
from qsd.models.adapter import reference
from qsd.training.methods import settings_of
from qsd.training.onpolicy.method import OnPolicyMethod
from qsd.training.onpolicy.sampler import Prompts

MEANS = ("loss", "reward", "reward_gap", "used", "log_ratio_winner", "log_ratio_loser", "clipped")
"""Columns.

    loss               of the pairs; a pair that is not used counts as 0
    reward             of everything that was scored
    reward_gap         the winner's reward minus the loser's, of the used pairs
    used               share of the pairs that are used: finite, different rewards, above the threshold
    log_ratio_winner   log ρ_w of the used pairs, before clipping
    log_ratio_loser    likewise
    clipped            share of these ratios that were clipped
"""


@dataclass(frozen=True)
class References:
    """What the reference says of N pairs; zeros for pairs that are not used.

    Attributes:
        winner: mean squared distance of the winner from the reference's mean, [N].
        loser: of the loser.
        std: standard deviation of the step, [N, 1, 1, 1].
    """

    winner: Tensor
    loser: Tensor
    std: Tensor


@dataclass
class StepPairs:
    """N pairs of outcomes of sampler steps. Without gradients.

    Attributes:
        index: the step, [N] int64.
        place: the prompt's row, [N] int64.
        state: where the winner's step began, [N, C, h, w].
        loser_state: where the loser's did; None: at the same latents.
        winner: the better outcome, [N, C, h, w].
        loser: the worse one.
        used: which pairs count, [N] bool.
        gap: the winner's reward minus the loser's, [N].
        rewards: everything that was scored, [M].
        references: of these pairs; None before the first update needs them.
    """

    index: Tensor
    place: Tensor
    state: Tensor
    loser_state: Tensor | None
    winner: Tensor
    loser: Tensor
    used: Tensor
    gap: Tensor
    rewards: Tensor
    references: References | None = None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class StepLoss:
    """A loss of pairs with the method's β.

    Attributes:
        loss: as registered.
        settings: of the section ``loss``, β replaced.
        clip: ratios are clipped to 1 ± this; 0: not.
    """

    loss: Loss[Any]
    settings: Any
    clip: float

    @classmethod
    def of(cls, config: Any) -> StepLoss:
        """The loss of a configuration.

        Raises:
            UserError: the loss reads more than the difference of log-ratios.
        """
        usable = {name for name in REGISTRY.names() if fits_steps(REGISTRY.get(name))}
        if config.loss.name not in usable:
            raise UserError(
                f"loss.name {config.loss.name!r} reads more of a pair than method {config.method.name} has of a "
                f"sampler step; use one of {', '.join(sorted(usable))}"
            )
        method = settings_of(config)
        # β of the papers multiplies d itself, that of the losses half of it.
        return cls(REGISTRY.get(config.loss.name), replace(config.loss, beta=2 * method.beta), method.ratio_clip)

    def __call__(self, winner: Tensor, loser: Tensor, ref_winner: Tensor, ref_loser: Tensor, std: Tensor) -> _Values:
        """Loss and log-ratios of squared distances from the mean, [B] each; ``std`` is [B, 1, 1, 1].

        A deterministic step has no probabilities: its log-ratios are 0.
        """
        flat = std.flatten()
        scale = torch.where(flat > 0, 1 / (2 * flat.clamp(min=1e-30) ** 2), torch.zeros_like(flat))
        ratios = scale * (ref_winner - winner), scale * (ref_loser - loser)
        if self.clip:
            winner, loser = (
                torch.where(scale > 0, ref - ratio.clamp(*self.bounds) / scale.clamp(min=1e-30), distance)
                for distance, ref, ratio in zip((winner, loser), (ref_winner, ref_loser), ratios, strict=True)
            )
        errors = PairErrors(winner, loser, ref_winner, ref_loser, scale=scale)
        values = self.loss.function(errors, self.settings)
        return _Values(values, ratios[0].detach(), ratios[1].detach(), self._clipped(ratios))

    @property
    def bounds(self) -> tuple[float, float]:
        """Of a log-ratio."""
        low, high = torch.log(torch.tensor([1 - self.clip, 1 + self.clip], dtype=torch.float64)).tolist()
        return low, high

    def _clipped(self, ratios: tuple[Tensor, Tensor]) -> Tensor:
        """How many of a pair's two ratios were clipped, [B]."""
        if not self.clip:
            return torch.zeros_like(ratios[0])
        low, high = self.bounds
        return sum(((ratio < low) | (ratio > high)).float() for ratio in ratios)  # type: ignore[return-value]


@dataclass(frozen=True)
class _Values:
    loss: Tensor
    winner: Tensor
    loser: Tensor
    clipped: Tensor


def fits_steps(loss: Loss[Any]) -> bool:
    """Whether a loss is a function of d alone, pair by pair: it compares with a reference and couples no pairs."""
    return loss.needs_reference and loss.needs_loser and loss.statistics is None and loss.averages is None


class PreferenceMethod(OnPolicyMethod[StepPairs]):
    """Trains on pairs of sampler steps; a subclass says where they come from."""

    means = MEANS
    lower = "training.learning_rate, method.beta or lora.alpha"

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        self.step_loss = StepLoss.of(config)
        super().__init__(config, *arguments, **options)

    def accumulate(self, samples: StepPairs, prompts: Prompts) -> Tensor:
        """Add the gradients of the used pairs, in passes of ``training.micro_batch`` pairs."""
        sums = torch.zeros(len(MEANS), 2, device=self.device, dtype=torch.float64)
        # The divisor is a function of the settings alone, so that several processes need not agree on it first.
        total = self.settings.prompts_per_step * len(self.trained)
        chosen = samples.used.nonzero().flatten()
        references = self._references(samples, prompts)
        for part in self.parts(chosen):
            winner, loser, _ = self._distances(samples, prompts, part)
            values = self.step_loss(
                winner, loser, references.winner[part], references.loser[part], references.std[part]
            )
            torch.autograd.backward(values.loss.sum() / total)
            sums[0, 0] += values.loss.detach().sum()
            sums[4, 0] += values.winner.sum()
            sums[5, 0] += values.loser.sum()
            sums[6, 0] += values.clipped.sum()
        used, finite = float(len(chosen)), samples.rewards[torch.isfinite(samples.rewards)]
        sums[0, 1] = len(samples)
        sums[1] = torch.stack([finite.double().sum(), torch.tensor(float(len(finite)), device=self.device)])
        sums[2, 0], sums[3, 0] = samples.gap[chosen].double().sum(), used
        sums[3, 1] = len(samples)
        sums[2, 1] = sums[4, 1] = sums[5, 1] = used
        sums[6, 1] = 2 * used
        return sums

    def prepare_later_updates(self, samples: StepPairs, prompts: Prompts) -> None:
        """The reference's distances, in the same passes as before the first update."""
        self._references(samples, prompts)

    def _references(self, samples: StepPairs, prompts: Prompts) -> References:
        """The reference's distances of the used pairs, kept with the samples: it is the same at every update."""
        if samples.references is None:
            zeros = torch.zeros(len(samples), device=self.device)
            found = References(zeros, zeros.clone(), zeros.clone().view(-1, 1, 1, 1))
            with torch.no_grad(), reference(self.denoiser.network):
                for part in self.parts(samples.used.nonzero().flatten()):
                    found.winner[part], found.loser[part], found.std[part] = self._distances(samples, prompts, part)
            samples.references = found
        return samples.references

    def _distances(self, samples: StepPairs, prompts: Prompts, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared distances of winner and loser from the policy's means, [B] each, and the deviation.

        One pass of the network serves both where they begin at the same latents.
        """
        index, place = samples.index[part], samples.place[part]
        if samples.loser_state is None:
            means, std = self._step(samples.state[part], index, prompts, place)
            return _distance(samples.winner[part], means), _distance(samples.loser[part], means), std
        states = torch.cat([samples.state[part], samples.loser_state[part]])
        means, std = self._step(states, index.repeat(2), prompts, place.repeat(2))
        outcomes = torch.cat([samples.winner[part], samples.loser[part]])
        winner, loser = _distance(outcomes, means).chunk(2)
        return winner, loser, std[: len(part)]

    def _step(self, states: Tensor, index: Tensor, prompts: Prompts, place: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.sampler.predict(states, index, prompts.rows(place))
        return self.sampler.gaussian(prediction, states, index)

    def opening_lines(self) -> Any:
        """Also what β multiplies."""
        yield from super().opening_lines()
        name = self.config.loss.name
        if "beta" not in self.step_loss.loss.fields:
            yield f"loss {name}: of the difference of log-ratios, means over elements; it has no beta (none is read)"
            return
        yield (
            f"loss {name}: the difference of log-ratios, means over elements, is multiplied by beta "
            f"{self.settings.beta:g} (method.beta; loss.beta is not read)"
        )


def _distance(outcome: Tensor, mean: Tensor) -> Tensor:
    return (outcome - mean).square().mean(dim=(1, 2, 3))
