"""Guidance of TailorPO-G: the preferred sample is moved along the gradient of its step reward before it is trained.

    Eq. 14   x_{t-1}⁺ = x_{t-1} - η_t ∇ (r_high - r_t(c, x_{t-1}))²,    r_t(c, x) = r(c, x̂_0(x))

The gradient goes through the reward model, the VAE and the network. As written, the length of the step has the unit of
the reward squared and changes with the gradient's size, by orders of magnitude between reward models and steps. Here
Eq. 14 gives the direction, and the length is the caller's: some share of the length of the step's noise, σ_t √(C h w),
so that one setting fits every reward. 0.15 of it works (a prototype on the emoji world); no value is published.

The direction is that of plain ascent as long as r < r_high. Above, Eq. 14 pushes the reward *down* to r_high, so an
``r_high`` below a reward that is met is refused; None is plain ascent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from qsd.errors import UserError


class DifferentiableReward(Protocol):
    """What guidance asks of a reward (:class:`qsd.training.onpolicy.rewards.LatentReward`)."""

    def require_gradient(self) -> None:
        """Refuse a reward without a gradient (``UserError``)."""

    def score_with_gradient(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        """Rewards [B] of clean latents [B, C, h, w], differentiable in them."""


def guide(
    sample: Tensor,
    predict_x0: Callable[[Tensor], Tensor],
    reward: DifferentiableReward,
    captions: Sequence[str],
    step_size: float | Tensor,
    r_high: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Move samples towards a higher step reward; in the caller's ``no_grad`` as well.

    Args:
        sample: x_{t-1}, [B, C, h, w].
        predict_x0: from samples to predicted clean latents of the same shape, sample by sample: no entry of the batch
            may have an influence on another one's.
        reward: of clean latents.
        captions: one per sample.
        step_size: length of the move in the space of the samples (Euclidean norm), one number or [B].
        r_high: in the unit of the reward, at least every reward that is met; a sample that has reached it stays.
            None: the direction of plain ascent.

    Returns:
        (guided samples [B, C, h, w] without gradients, their rewards [B] before the move). A sample whose reward or
        gradient is not finite stays where it is, and its reward is returned as no number; so one whose gradient is 0
        stays, with its reward.

    Raises:
        UserError: ``r_high`` is below a reward, or the reward has no gradient.
    """
    reward.require_gradient()
    with torch.enable_grad():
        state = sample.detach().clone().requires_grad_(True)
        rewards = reward.score_with_gradient(predict_x0(state), captions)
        scores = rewards.detach()
        aim = 1.0 if r_high is None else _aim(scores, r_high)
        (gradient,) = torch.autograd.grad((aim * rewards).sum(), state)
    length = gradient.flatten(1).norm(dim=1)
    finite = scores.isfinite() & length.isfinite()
    factor = torch.where(finite & (length > 0), step_size / length, torch.zeros_like(length))
    # Zero times an infinite gradient would be no number.
    move = factor.view(-1, *[1] * (sample.dim() - 1)) * gradient.where(finite.view(-1, *[1] * (sample.dim() - 1)), 0.0)
    return sample.detach() + move.to(sample.dtype), scores.where(finite, torch.nan)


def _aim(scores: Tensor, r_high: float) -> Tensor:
    """The factor 2 (r_high - r), [B], of ∇r in the negative gradient of (r_high - r)²; it is no part of the graph."""
    finite = scores[scores.isfinite()]
    if len(finite) and float(finite.max()) > r_high:
        raise UserError(
            f"r_high is {r_high:g}, but a sample has the reward {float(finite.max()):.6g}: guidance would lower it; "
            "set r_high above all rewards, or to null for the direction of plain ascent"
        )
    return 2 * (r_high - scores)
