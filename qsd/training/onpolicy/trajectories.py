"""D3PO: two trajectories of each prompt that begin at the same noise; every trained step of them is a pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qsd.training.onpolicy.candidates import rank
from qsd.training.onpolicy.preferences import PreferenceMethod, StepPairs
from qsd.training.onpolicy.sampler import Prompts, Sampler


@dataclass
class Trajectories:
    """R trajectories of P prompts, at the trained steps only.

    Attributes:
        states: where a trained step begins, step -> [R, P, C, h, w].
        outcomes: where it ends.
        clean: the clean latents predicted from there, step -> [R, P, C, h, w].
        final: the clean latents at the end, [R, P, C, h, w].
    """

    states: dict[int, Tensor]
    outcomes: dict[int, Tensor]
    clean: dict[int, Tensor]
    final: Tensor


def sample(sampler: Sampler, prompts: Prompts, count: int, trained: list[int], same_start: bool) -> Trajectories:
    """Sample ``count`` trajectories of each prompt, all of them in one batch.

    Args:
        sampler: with the policy.
        prompts: P of them.
        count: R.
        trained: the steps to keep.
        same_start: whether the trajectories of a prompt begin at the same noise.
    """
    shape = (count, len(prompts), *sampler.shape)
    latents = torch.cat([sampler.start(prompts, 0 if same_start else number) for number in range(count)])
    states, outcomes, clean = dict[int, Tensor](), dict[int, Tensor](), dict[int, Tensor]()
    for step in range(sampler.steps):
        prediction = sampler.sampled(latents, step, prompts)
        if step - 1 in trained:
            clean[step - 1] = sampler.clean(prediction, latents, step).view(shape)
        mean, std = sampler.gaussian(prediction, latents, step)
        noise = torch.cat([sampler.noise(prompts, step, number) for number in range(count)])
        following = mean + std * noise
        if step in trained:
            states[step], outcomes[step] = latents.view(shape), following.view(shape)
        latents = following
    final = latents.view(shape)
    if sampler.steps - 1 in trained:
        clean[sampler.steps - 1] = final
    return Trajectories(states, outcomes, clean, final)


class PreferredTrajectories(PreferenceMethod):
    """Prefers the steps of the trajectory with the better final image, or the better state step by step."""

    def collect(self, prompts: Prompts) -> StepPairs:
        """Sample two trajectories of each prompt and rank them."""
        made = sample(self.sampler, prompts, 2, self.trained, same_start=True)
        if self.settings.labels == "step":
            scores = {step: self._rewards(made.clean[step], prompts) for step in self.trained}
        else:
            scores = dict.fromkeys(self.trained, self._rewards(made.final, prompts))
        place = torch.arange(len(prompts), device=self.device)
        orders = {step: rank(scores[step], 0.0, 1.0) for step in self.trained}

        def rows(tensors: dict[int, Tensor], chosen: str) -> Tensor:
            return torch.cat([tensors[step][getattr(orders[step], chosen), place] for step in self.trained])

        distinct = list(scores.values()) if self.settings.labels == "step" else [scores[self.trained[0]]]
        return StepPairs(
            index=torch.cat([torch.full_like(place, step) for step in self.trained]),
            place=place.repeat(len(self.trained)),
            state=rows(made.states, "best"),
            loser_state=rows(made.states, "worst"),
            winner=rows(made.outcomes, "best"),
            loser=rows(made.outcomes, "worst"),
            used=torch.cat([orders[step].used for step in self.trained]),
            gap=torch.cat([orders[step].gap for step in self.trained]),
            rewards=torch.cat([of_step.flatten() for of_step in distinct]),
        )

    def _rewards(self, clean: Tensor, prompts: Prompts) -> Tensor:
        """Rewards [R, P] of clean latents [R, P, C, h, w]."""
        return self.reward.score(clean.flatten(0, 1), prompts.captions * len(clean)).view(len(clean), len(prompts))
