"""Which steps of the sampler are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def trained_steps(steps: int, count: int, skipped: int, placement: str) -> list[int]:
    """Indices of the trained steps, ascending; step 0 begins at pure noise.

    ``uniform`` puts them at the middles of ``count`` equal parts of the steps that may be trained, as evenly as whole
    numbers allow.

    Args:
        steps: of the sampler.
        count: how many are trained; 0: all that may be.
        skipped: so many at the beginning are never trained.
        placement: ``uniform``, ``first`` or ``last`` of the others.

    Raises:
        UserError: more steps to train than there are.
    """
    free = steps - skipped
    count = count or max(free, 1)
    if count > free:
        raise UserError(
            f"method.trained_steps is {count}, but {steps} sampler steps without the first {skipped} "
            f"(method.skipped_steps) are {max(free, 0)}; train fewer, or sample in more"
        )
    if placement == "first":
        return list(range(skipped, skipped + count))
    if placement == "last":
        return list(range(steps - count, steps))
    return [skipped + (2 * number + 1) * free // (2 * count) for number in range(count)]


def check_noise(trained: Sequence[int], deviations: Sequence[float]) -> list[int]:
    """The trained steps that bring no noise: they have one outcome, whose probability no policy can change.

    Args:
        trained: steps of the sampler.
        deviations: standard deviation of every step.

    Raises:
        UserError: all of them bring none, so that there is nothing to train.
    """
    noiseless = [step for step in trained if not deviations[step] > 0]
    if len(noiseless) == len(trained):
        chosen = ", ".join(str(step) for step in noiseless)
        raise UserError(
            f"method.trained_steps and method.placement choose step {chosen} of 0 to {len(deviations) - 1}, which "
            "brings no noise: sampling with this model ends there at clean latents, so there is one outcome and none "
            "to prefer; train more steps, or earlier ones"
        )
    return noiseless
