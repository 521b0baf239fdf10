"""Which steps of the sampler are trained."""

from __future__ import annotations

from qsd.errors import UserError


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
