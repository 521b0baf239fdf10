"""An update of TailorPO as a straightforward loop makes it: prompt by prompt, candidate by candidate, image by image.

Every call of the network has a batch of one: guidance halves, candidates and the reference are calls of their own, each
image is decoded and scored alone, and the call that ranks a winner is not the one that draws its next step, which is
made again. What is computed is what ``CandidatesMethod`` computes, from the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qsd.models.adapter import reference
from qsd.models.attention import training_attention
from qsd.models.precision import autocast_for
from qsd.training.onpolicy.candidates import CandidatesMethod, rank
from qsd.training.onpolicy.sampler import Prompts


@dataclass
class Pair:
    """Two outcomes of a trained step of one prompt.

    Attributes:
        step: of the sampler.
        state: where it begins, [1, C, h, w].
        winner: the better outcome.
        loser: the worse one.
        used: whether their rewards differ.
    """

    step: int
    state: Tensor
    winner: Tensor
    loser: Tensor
    used: bool


class PlainLoop:
    """Updates with the parts of a method: its network, adapter, reward, prompts and loss.

    Args:
        method: with unguided winners, one update on each batch, and sampling that goes on from the winner.
    """

    def __init__(self, method: CandidatesMethod) -> None:
        settings = method.settings
        assert settings.continue_from == "winner", settings
        assert settings.updates == 1, settings
        assert not method.moves_winners
        self._method = method

    def update(self, number: int) -> list[list[Pair]]:
        """Sample the prompts of update ``number`` and add their gradients; the pairs by prompt."""
        method, count = self._method, self._method.settings.prompts_per_step
        chosen, visits = method.stream.at(number * count, (number + 1) * count)
        pairs = []
        with training_attention(method.device, method.config.training.attention):
            for prompt, visit in zip(chosen, visits, strict=True):
                one = method.sampler.prompts([prompt], [visit])
                with torch.no_grad():
                    pairs.append(self._collected(one))
                for pair in pairs[-1]:
                    if pair.used:
                        self._train(one, pair)
        return pairs

    def _collected(self, prompt: Prompts) -> list[Pair]:
        method, sampler, settings = self._method, self._method.sampler, self._method.settings
        latents, pairs = sampler.start(prompt), []
        for step in range(sampler.steps):
            mean, std = sampler.gaussian(self._predict(latents, step, prompt), latents, step)
            if step not in method.ranked or not bool((std > 0).any()):
                latents = mean + std * sampler.noise(prompt, step, 0)
                continue
            outcomes = [mean + std * sampler.noise(prompt, step, number) for number in range(settings.candidates)]
            rewards = torch.stack([self._reward(outcome, step + 1, prompt) for outcome in outcomes])
            order = rank(rewards, settings.threshold, settings.reward_scale)
            winner, loser = outcomes[int(order.best)], outcomes[int(order.worst)]
            if step in method.trained:
                pairs.append(Pair(step, latents, winner, loser, bool(order.used)))
            latents = winner
        return pairs

    def _reward(self, latents: Tensor, step: int, prompt: Prompts) -> Tensor:
        """Eq. 12, [1]."""
        sampler = self._method.sampler
        clean = latents
        if step < sampler.steps:
            clean = sampler.clean(self._predict(latents, step, prompt), latents, step)
        return self._method.reward.score(clean, prompt.captions)

    def _train(self, prompt: Prompts, pair: Pair) -> None:
        method, sampler = self._method, self._method.sampler
        outcomes = pair.winner, pair.loser
        with torch.no_grad(), reference(method.denoiser.network):
            mean, std = sampler.gaussian(self._predict(pair.state, pair.step, prompt), pair.state, pair.step)
            ref_winner, ref_loser = ((outcome - mean).square().mean(dim=(1, 2, 3)) for outcome in outcomes)
        mean, _ = sampler.gaussian(self._predict(pair.state, pair.step, prompt), pair.state, pair.step)
        winner, loser = ((outcome - mean).square().mean(dim=(1, 2, 3)) for outcome in outcomes)
        loss = method.step_loss(winner, loser, ref_winner, ref_loser, std).loss.sum()
        torch.autograd.backward(loss / (method.settings.prompts_per_step * len(method.trained)))

    def _predict(self, latents: Tensor, step: int, prompt: Prompts) -> Tensor:
        """The guided prediction, [1, C, h, w], by one call or two."""
        sampler, method = self._method.sampler, self._method
        times = sampler.times(torch.tensor([step], device=sampler.device))
        with autocast_for(sampler.device.type, method.config.training.precision):
            positive = method.denoiser.predict(latents, times, prompt.conditioning).float()
            if not sampler.guided:
                return positive
            assert sampler._negative is not None
            negative = method.denoiser.predict(latents, times, sampler._negative).float()
        return negative + method.settings.guidance_scale * (positive - negative)
