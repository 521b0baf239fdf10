"""Flow-GRPO: a policy gradient with a penalty on the divergence from the base model (``methods/flow_grpo.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qsd.models.adapter import reference
from qsd.training.onpolicy.policy_gradient import MEANS, PolicyGradient, Steps, surrogate
from qsd.training.onpolicy.sampler import Prompts


@dataclass
class ReferencedSteps(Steps):
    """Steps of trajectories, and where the reference would have led on average.

    Attributes:
        reference: mean of each step under the reference, [N, C, h, w], zeros where a step is not used; None before the
            first update needs it.
    """

    reference: Tensor | None = None


def divergence(mean: Tensor, reference_mean: Tensor, std: Tensor) -> Tensor:
    """Kullback–Leibler divergence of two Gaussians with the same σ, mean over the elements, [B] fp32.

        KL = (μ - μ_ref)² / (2 σ²) per element

    Args:
        mean: of the policy's step, [B, C, h, w].
        reference_mean: of the reference's.
        std: σ of both, [B, 1, 1, 1]; a step without noise has no density, and its divergence is 0 without gradient.
    """
    random = std > 0
    squares = (mean - reference_mean).square() / (2 * torch.where(random, std, torch.ones_like(std)) ** 2)
    return torch.where(random, squares, torch.zeros_like(squares)).flatten(1).mean(dim=1)


class PenalizedPolicyGradient(PolicyGradient):
    """Makes steps of better trajectories more probable, and holds every step near the base model's.

    The columns are those of the parent, and ``kl``: the divergence of the used steps, no number without a penalty.
    """

    means = (*MEANS, "kl")  # type: ignore[assignment]  # one more than the parent's, as the engine allows

    def collect(self, prompts: Prompts) -> ReferencedSteps:
        """As the parent; the reference is asked when the first update needs it."""
        return ReferencedSteps(**vars(super().collect(prompts)))

    def accumulate(self, samples: Steps, prompts: Prompts) -> Tensor:
        """Add the gradients of the used steps, in passes of ``training.micro_batch`` of them."""
        assert isinstance(samples, ReferencedSteps)
        measured = torch.zeros(1, 2, device=self.device, dtype=torch.float64)
        if not self.settings.kl_weight:
            return torch.cat([super().accumulate(samples, prompts), measured])
        # With no step to train on, the parent gives the columns of the rewards and what the others are divided by.
        nothing = replace(samples, used=torch.zeros_like(samples.used))
        sums = torch.cat([super().accumulate(nothing, prompts), measured])
        chosen = samples.used.nonzero().flatten()
        means = self._references(samples, prompts)
        for part in self.parts(chosen):
            loss, distance, clipped, penalty = self._trained(samples, prompts, part, means[part])
            sums[0, 0] += loss
            sums[4, 0] += distance
            sums[5, 0] += clipped
            sums[6, 0] += penalty
        sums[3, 0] = sums[4, 1] = sums[5, 1] = sums[6, 1] = len(chosen)
        return sums

    def prepare_later_updates(self, samples: Steps, prompts: Prompts) -> None:
        """The old log-probabilities, and the reference's means in the same passes as before the first update."""
        assert isinstance(samples, ReferencedSteps)
        super().prepare_later_updates(samples, prompts)
        if self.settings.kl_weight:
            self._references(samples, prompts)

    def opening_lines(self) -> Iterator[str]:
        """Also what the weight multiplies."""
        yield from super().opening_lines()
        yield (
            f"penalty: {self.settings.kl_weight:g} times the divergence of a step from the base model's, mean over "
            "elements (method.kl_weight)"
        )

    def _trained(self, samples: Steps, prompts: Prompts, part: Tensor, reference_mean: Tensor) -> Tensor:
        """Add the gradients of some steps; sums over them of loss, |ρ - 1|, clipped steps and divergence, [4]."""
        total = self.settings.prompts_per_step * self.settings.trajectories * len(self.trained)
        mean, std = self._gaussian(samples, prompts, part)
        log_prob = self.sampler.log_prob(samples.outcome[part], mean, std)
        known = torch.isfinite(samples.old[part])
        # The policy that drew them is the present one until its first update, so ρ is exactly 1 then.
        samples.old[part] = torch.where(known, samples.old[part], log_prob.detach())
        log_ratio, advantage, clip = log_prob - samples.old[part], samples.advantage[part], self.settings.ddpo_clip
        penalty = divergence(mean, reference_mean, std)
        loss = surrogate(log_ratio, advantage, clip) + self.settings.kl_weight * penalty
        torch.autograd.backward(loss.sum() / total)
        ratio = torch.exp(log_ratio.detach())
        clipped = torch.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
        columns = (loss.detach(), (ratio - 1).abs(), clipped.float(), penalty.detach())
        return torch.stack([column.sum() for column in columns])

    def _references(self, samples: ReferencedSteps, prompts: Prompts) -> Tensor:
        """Means of the used steps under the reference, kept with the samples: they are the same at every update."""
        if samples.reference is None:
            means = torch.zeros_like(samples.state)
            with torch.no_grad(), reference(self.denoiser.network):
                for part in self.parts(samples.used.nonzero().flatten()):
                    means[part] = self._gaussian(samples, prompts, part)[0]
            samples.reference = means
        return samples.reference

    def _gaussian(self, samples: Steps, prompts: Prompts, part: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of some steps under the present weights."""
        state, index = samples.state[part], samples.index[part]
        prediction = self.sampler.predict(state, index, prompts.rows(samples.place[part]))
        return self.sampler.gaussian(prediction, state, index)
