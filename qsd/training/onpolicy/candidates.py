"""TailorPO, TailorPO-G and the method like SPO: several outcomes of one sampler step, best against worst.

    for each prompt, for t = T … 1:
        at a ranked step  draw K candidates of x_{t-1} from the same x_t; r_k = r(x̂_0(x_{t-1}^k))          (Eq. 12)
                          winner and loser: the highest and the lowest finite r_k; TailorPO-G moves the winner (Eq. 14)
                          at a trained step the pair is kept; sampling goes on from the winner or from a random one
        at other steps    draw one outcome

All prompts go through a step together, all their candidates in one batch. The pass that ranks a candidate is the one
from which the next step draws, so ranking costs only the passes of the candidates that are not taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qsd.draws import uniforms
from qsd.training.onpolicy.guidance import guide
from qsd.training.onpolicy.preferences import PreferenceMethod, StepPairs
from qsd.training.onpolicy.sampler import Prompts


@dataclass
class Ranked:
    """The candidates of one step of P prompts.

    Attributes:
        best: candidate with the highest finite reward, [P].
        worst: with the lowest.
        used: whether these differ by more than the threshold, [P] bool.
        gap: of their rewards, [P]; 0 where nothing is used.
    """

    best: Tensor
    worst: Tensor
    used: Tensor
    gap: Tensor


def rank(rewards: Tensor, threshold: float, scale: float) -> Ranked:
    """Best and worst of K candidates; rewards that are not finite are never ranked.

    Args:
        rewards: [K, P].
        threshold: a pair is used if the softmax of its two rewards differs by more: tanh(scale · gap / 2) > threshold;
            0: if the rewards differ, whatever the scale.
        scale: of the rewards inside the softmax.
    """
    finite = torch.isfinite(rewards)
    best = rewards.masked_fill(~finite, -math.inf).argmax(dim=0)
    worst = rewards.masked_fill(~finite, math.inf).argmin(dim=0)
    columns = torch.arange(rewards.shape[1], device=rewards.device)
    gap = torch.nan_to_num(rewards[best, columns] - rewards[worst, columns], nan=0.0, posinf=0.0, neginf=0.0)
    used = (finite.sum(dim=0) >= 2) & (gap > 0)
    if threshold:
        used &= torch.tanh(scale * gap / 2) > threshold
    return Ranked(best, worst, used, torch.where(used, gap, torch.zeros_like(gap)))


class CandidatesMethod(PreferenceMethod):
    """Prefers, of several outcomes of a step, the one with the best reward to the one with the worst."""

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.ranked = range(self.sampler.steps) if self.settings.ranked_steps == "all" else self.trained
        self.moves_winners = hasattr(self.settings, "guide_from")
        if self.moves_winners:
            self.reward.require_gradient()

    def collect(self, prompts: Prompts) -> StepPairs:
        """Sample, with candidates at the ranked steps."""
        sampler, pairs, rewards = self.sampler, list[tuple[int, Tensor, Tensor, Tensor, Ranked]](), list[Tensor]()
        latents, prediction = sampler.start(prompts), None
        for step in range(sampler.steps):
            if prediction is None:
                prediction = sampler.sampled(latents, step, prompts)
            mean, std = sampler.gaussian(prediction, latents, step)
            if step not in self.ranked or not bool((std > 0).any()):
                latents, prediction = mean + std * sampler.noise(prompts, step, 0), None
                continue
            outcomes, predictions, scores = self._candidates(prompts, step, mean, std)
            rewards.append(scores.flatten())
            order = rank(scores, self.settings.threshold, self.settings.reward_scale)
            columns = torch.arange(len(prompts), device=sampler.device)
            winner = outcomes[order.best, columns]
            if self.moves_winners and step in self.trained and step + 1 < sampler.steps:
                winner = self._moved(winner, step, std, prompts, order.used)
            if step in self.trained:
                pairs.append((step, latents, winner, outcomes[order.worst, columns], order))
            taken = order.best if self.settings.continue_from == "winner" else self._random(prompts, step)
            latents = winner if self.settings.continue_from == "winner" else outcomes[taken, columns]
            # A moved winner is not what was predicted.
            kept = predictions is not None and not (self.moves_winners and step in self.trained)
            prediction = predictions[taken, columns] if kept and predictions is not None else None
        return self._pairs(pairs, rewards, len(prompts))

    def _candidates(
        self, prompts: Prompts, step: int, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Outcomes [K, P, C, h, w], what the network predicts from them (None at the end), and their rewards [K, P]."""
        sampler, count = self.sampler, self.settings.candidates
        outcomes = torch.stack([mean + std * sampler.noise(prompts, step, number) for number in range(count)])
        flat, predictions = outcomes.flatten(0, 1), None
        clean = flat
        if step + 1 < sampler.steps:
            flat_predictions = sampler.sampled(flat, step + 1, prompts)
            clean = sampler.clean(flat_predictions, flat, step + 1)
            predictions = flat_predictions.view_as(outcomes)
        scores = self.reward.score(clean, prompts.captions * count).view(count, len(prompts))
        return outcomes, predictions, scores

    def _moved(self, winner: Tensor, step: int, std: Tensor, prompts: Prompts, used: Tensor) -> Tensor:
        """The used winners after a move along the gradient of their reward; the others as they are."""
        places = used.nonzero().flatten()
        if not len(places):
            return winner
        sampler, moved = self.sampler, winner.clone()
        noise_length = math.sqrt(math.prod(sampler.shape)) * std[places].flatten()
        for part, length in zip(
            torch.split(places, self.config.training.micro_batch),
            torch.split(noise_length, self.config.training.micro_batch),
            strict=True,
        ):
            index = torch.full_like(part, step + 1)

            def clean(latents: Tensor, index: Tensor = index, part: Tensor = part) -> Tensor:
                return sampler.clean(sampler.predict(latents, index, prompts.rows(part)), latents, index)

            captions = [prompts.captions[place] for place in part.tolist()]
            moved[part], _ = guide(
                winner[part], clean, self.reward, captions, self._move(step) * length, self.settings.r_high
            )
        return moved

    def _move(self, step: int) -> float:
        """How far winners of a step are moved, in lengths of its noise; the cosine rises towards the clean image."""
        first, last = self.settings.guide_from, self.settings.guide_to
        if self.settings.guide_schedule == "constant":
            return float(first)
        return float(first + (last - first) * (1 - math.cos(math.pi * step / (self.sampler.steps - 1))) / 2)

    def _random(self, prompts: Prompts, step: int) -> Tensor:
        """A candidate of each prompt, [P], a function of (prompt id, visit, step, seed)."""
        names = [f"{prompt.prompt_id}\0{visit}" for prompt, visit in zip(prompts.prompts, prompts.visits, strict=True)]
        drawn = uniforms(names, self.config.seed, f"candidate of step {step}")
        return torch.from_numpy((drawn * self.settings.candidates).astype("int64")).to(self.device)

    def _pairs(
        self, pairs: list[tuple[int, Tensor, Tensor, Tensor, Ranked]], rewards: list[Tensor], prompts: int
    ) -> StepPairs:
        place = torch.arange(prompts, device=self.device)
        steps = [torch.full_like(place, step) for step, *_ in pairs]
        return StepPairs(
            index=torch.cat(steps),
            place=place.repeat(len(pairs)),
            state=torch.cat([state for _, state, *_ in pairs]),
            loser_state=None,
            winner=torch.cat([winner for _, _, winner, *_ in pairs]),
            loser=torch.cat([loser for *_, loser, _ in pairs]),
            used=torch.cat([order.used for *_, order in pairs]),
            gap=torch.cat([order.gap for *_, order in pairs]),
            rewards=torch.cat(rewards),
        )
