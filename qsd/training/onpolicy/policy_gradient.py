"""DDPO-IS: a policy gradient over the sampler's steps, with clipped importance ratios (``methods/ddpo.py``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qsd.training.onpolicy.method import OnPolicyMethod
from qsd.training.onpolicy.sampler import Prompts
from qsd.training.onpolicy.trajectories import sample

MEANS = ("loss", "reward", "reward_std", "used", "ratio_distance", "clipped")
"""Columns.

    loss             of the steps; a step of a trajectory that is not used counts as 0
    reward           of the final images
    reward_std       standard deviation of the rewards of a prompt's trajectories, mean over prompts
    used             share of the trajectories that are used: finite rewards, not all equal
    ratio_distance   |ρ - 1| of the used steps
    clipped          share of the used steps whose gradient the clip took away
"""
_SMALLEST_STD = 1e-6
"""Rewards of one prompt that differ by less are equal."""


@dataclass
class Steps:
    """N steps of trajectories. Without gradients.

    Attributes:
        index: the step, [N] int64.
        place: the prompt's row, [N] int64.
        state: where it began, [N, C, h, w].
        outcome: where it ended.
        advantage: of its trajectory, [N].
        used: [N] bool.
        old: log-probability under the policy that drew it, [N]; no number where the first update has not been yet.
        rewards: of the trajectories, [R, P].
    """

    index: Tensor
    place: Tensor
    state: Tensor
    outcome: Tensor
    advantage: Tensor
    used: Tensor
    old: Tensor
    rewards: Tensor


def advantages(rewards: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Rewards standardised over the trajectories of each prompt, and which of them can be used.

    Args:
        rewards: [R, P]; entries may be no number.
        clip: advantages are clipped to ± this.

    Returns:
        (A [R, P], used [R, P] bool): A = (r - mean) / std over the finite rewards of a prompt, population std; 0 and
        not used where the reward is not finite, or the prompt has fewer than two finite or only equal rewards.
    """
    finite = torch.isfinite(rewards)
    values = torch.where(finite, rewards, torch.zeros_like(rewards)).double()
    count = finite.sum(dim=0)
    mean = values.sum(dim=0) / count.clamp(min=1)
    centred = torch.where(finite, values - mean, torch.zeros_like(values))
    std = (centred.square().sum(dim=0) / count.clamp(min=1)).sqrt()
    used = finite & (count >= 2) & (std > _SMALLEST_STD)
    standard = torch.where(used, centred / std.clamp(min=_SMALLEST_STD), torch.zeros_like(centred))
    return standard.clamp(-clip, clip).float(), used


def surrogate(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """max(-A ρ, -A clip(ρ, 1 ± clip)) of log ρ, [N] each; PPO's loss."""
    ratio = torch.exp(log_ratio)
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


class PolicyGradient(OnPolicyMethod[Steps]):
    """Makes steps of trajectories with better final images more probable."""

    means = MEANS
    lower = "training.learning_rate or lora.alpha"

    def collect(self, prompts: Prompts) -> Steps:
        """Sample several trajectories of each prompt, from different noise, and score their final images."""
        count = self.settings.trajectories
        made = sample(self.sampler, prompts, count, self.trained, same_start=False)
        rewards = self.reward.score(made.final.flatten(0, 1), prompts.captions * count).view(count, len(prompts))
        advantage, used = advantages(rewards, self.settings.advantage_clip)
        place = torch.arange(len(prompts), device=self.device).repeat(count * len(self.trained))
        states, outcomes = (
            torch.cat([tensors[step].flatten(0, 1) for step in self.trained])
            for tensors in (made.states, made.outcomes)
        )
        index = torch.tensor(self.trained, device=self.device).repeat_interleave(count * len(prompts))
        return Steps(
            index=index,
            place=place,
            state=states,
            outcome=outcomes,
            advantage=advantage.flatten().repeat(len(self.trained)),
            used=used.flatten().repeat(len(self.trained)),
            old=torch.full((len(index),), torch.nan, device=self.device),
            rewards=rewards,
        )

    def accumulate(self, samples: Steps, prompts: Prompts) -> Tensor:
        """Add the gradients of the used steps, in passes of ``training.micro_batch`` of them."""
        sums = torch.zeros(len(MEANS), 2, device=self.device, dtype=torch.float64)
        total = self.settings.prompts_per_step * self.settings.trajectories * len(self.trained)
        chosen, clip = samples.used.nonzero().flatten(), self.settings.ddpo_clip
        for part in self.parts(chosen):
            log_prob = self._log_prob(samples, prompts, part)
            known = torch.isfinite(samples.old[part])
            # The policy that drew them is the present one until its first update, so ρ is exactly 1 then.
            samples.old[part] = torch.where(known, samples.old[part], log_prob.detach())
            log_ratio, advantage = log_prob - samples.old[part], samples.advantage[part]
            loss = surrogate(log_ratio, advantage, clip)
            torch.autograd.backward(loss.sum() / total)
            ratio = torch.exp(log_ratio.detach())
            idle = torch.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
            sums[0, 0] += loss.detach().sum()
            sums[4, 0] += (ratio - 1).abs().sum()
            sums[5, 0] += idle.sum()
        finite = torch.isfinite(samples.rewards)
        spread = torch.stack([_std(row[mask]) for row, mask in zip(samples.rewards.T, finite.T, strict=True)])
        measured = torch.isfinite(spread)
        sums[0, 1] = sums[3, 1] = len(samples.used)
        sums[1, 0], sums[1, 1] = samples.rewards[finite].double().sum(), finite.sum()
        sums[2, 0], sums[2, 1] = spread[measured].double().sum(), measured.sum()
        sums[3, 0] = sums[4, 1] = sums[5, 1] = len(chosen)
        return sums

    def prepare_later_updates(self, samples: Steps, prompts: Prompts) -> None:
        """The log-probabilities of the policy that drew the samples, in the same passes as its first update."""
        with torch.no_grad():
            for part in self.parts(samples.used.nonzero().flatten()):
                samples.old[part] = self._log_prob(samples, prompts, part)

    def _log_prob(self, samples: Steps, prompts: Prompts, part: Tensor) -> Tensor:
        state, index = samples.state[part], samples.index[part]
        prediction = self.sampler.predict(state, index, prompts.rows(samples.place[part]))
        mean, std = self.sampler.gaussian(prediction, state, index)
        return self.sampler.log_prob(samples.outcome[part], mean, std)


def _std(rewards: Tensor) -> Tensor:
    """Population standard deviation; no number without two rewards."""
    return rewards.std(correction=0) if len(rewards) > 1 else rewards.new_tensor(torch.nan)
