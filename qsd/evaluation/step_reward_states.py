"""States x_t of the sampler, the reward that Eq. 12 gives them, and the final rewards of many rollouts from each.

    estimate   r(c, x̂_0(x_t))                                            (TailorPO, arXiv 2502.01667, Eq. 12)
    truth      E[r(c, x_0) | c, x_t], the mean over rollouts from x_t to the end, each with noise of its own

Two states are drawn from every x_{t+1}, as TailorPO draws them, so that the order of a pair of candidates can be
compared. Noise is a function of (prompt id, visit, step, candidate, seed) alone: candidates 0 and 1 lead to the two
states, 0 alone to the state before them, and rollout r from state k has the candidate number 2 (r + 1) + k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from qsd.evaluation.step_reward_table import CANDIDATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qsd.training.onpolicy.sampler import Prompts, Sampler


class Reward(Protocol):
    """Scores clean latents (``qsd.training.onpolicy.rewards.LatentReward``)."""

    def score(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        """Rewards [B] of latents [B, C, h, w]."""


@torch.no_grad()
def measure(
    sampler: Sampler,
    reward: Reward,
    prompts: Prompts,
    steps_left: int,
    rollouts: int,
    advanced: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Estimate and rollouts of two states of each prompt.

    Args:
        sampler: with the policy.
        reward: of clean latents.
        prompts: P of them, with their visits.
        steps_left: sampler steps from the states to the clean image, 1 … steps - 1.
        rollouts: R from each state.
        advanced: called after every step.

    Returns:
        (estimates [2, P], rewards of the rollouts [2, P, R]), fp32. Where the last step is deterministic and is all
        that is left, the rollouts are one, and its reward is repeated.
    """
    begin = sampler.steps - steps_left
    states = _states(sampler, prompts, begin, advanced)
    prediction = sampler.sampled(states, begin, prompts)
    captions = prompts.captions * CANDIDATES
    estimates = reward.score(sampler.clean(prediction, states, begin), captions)
    mean, std = sampler.gaussian(prediction, states, begin)
    distinct = rollouts if steps_left > 1 or bool((std > 0).any()) else 1
    # Rows are ordered [rollout, candidate, prompt]; the first step of all rollouts from a state has one prediction.
    latents = (mean + std * _noise(sampler, prompts, begin, distinct).view(distinct, *mean.shape)).flatten(0, 1)
    for step in range(begin + 1, sampler.steps):
        advanced()
        mean, std = sampler.gaussian(sampler.sampled(latents, step, prompts), latents, step)
        latents = mean + std * _noise(sampler, prompts, step, distinct)
    rewards = reward.score(latents, captions * distinct).view(distinct, CANDIDATES, len(prompts))
    advanced()
    return estimates.view(CANDIDATES, len(prompts)), rewards.permute(1, 2, 0).expand(-1, -1, rollouts)


def passes(sampler: Sampler, prompts: int, steps_left: int, rollouts: int) -> int:
    """Images that go through the network in :func:`measure`, guidance halves counted each."""
    of_prompt = sampler.steps - steps_left + CANDIDATES * (1 + rollouts * (steps_left - 1))
    return prompts * of_prompt * (2 if sampler.guided else 1)


def _states(sampler: Sampler, prompts: Prompts, begin: int, advanced: Callable[[], None]) -> Tensor:
    """The states at which step ``begin`` ≥ 1 begins, [2 P, C, h, w]; rows are ordered [candidate, prompt]."""
    latents = sampler.start(prompts)
    for step in range(begin):
        advanced()
        mean, std = sampler.gaussian(sampler.sampled(latents, step, prompts), latents, step)
        numbers = range(CANDIDATES) if step == begin - 1 else range(1)
        latents = torch.cat([mean + std * sampler.noise(prompts, step, number) for number in numbers])
    return latents


def _noise(sampler: Sampler, prompts: Prompts, step: int, rollouts: int) -> Tensor:
    """The noise of a step of all rollouts, [R · 2 · P, C, h, w]."""
    return torch.cat(
        [sampler.noise(prompts, step, number) for number in range(CANDIDATES, CANDIDATES * (rollouts + 1))]
    )
