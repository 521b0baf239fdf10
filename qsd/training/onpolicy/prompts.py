"""The training prompts of on-policy methods: which of them a step samples, and that none of them is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.once_per_process import OncePerProcess
from qsd.data.prompts import Prompt, read_splits
from qsd.draws import epoch_order
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from qsd.stages.stage_spec import Values

CALIBRATION_PROMPTS = 256
"""Training prompts whose images by the base model put an ensemble's members on one scale."""
_FIELD = "method.prompts"


@OncePerProcess
def training_prompts(path: str, splits: tuple[str, ...]) -> tuple[Prompt, ...]:
    """The prompts of some splits of a file; read once per process.

    Raises:
        UserError: a missing or damaged file, or a split that it does not have.
    """
    return tuple(read_splits(Path(path), splits, field=_FIELD))


@OncePerProcess
def _held_out(path: str, splits: tuple[str, ...]) -> tuple[Prompt, ...]:
    return tuple(read_splits(Path(path), splits))


def check_apart(values: Values) -> None:
    """Training prompts must be no evaluation and no watched prompts, by what they say and not by their ids.

    Raises:
        UserError: a caption is in both, without regard to case and spaces.
    """
    splits = list(values["evaluation.splits"])
    if values["method.watched_prompts"]:
        splits.append(values["method.watched_split"])
    held_out = _held_out(values["evaluation.prompts"], tuple(dict.fromkeys(splits)))
    known = {_content(prompt): prompt for prompt in held_out}
    shared = [
        (prompt, known[_content(prompt)])
        for prompt in training_prompts(values["method.prompts"], tuple(values["method.splits"]))
        if _content(prompt) in known
    ]
    if shared:
        ours, theirs = shared[0]
        raise UserError(
            f"{values['method.prompts']}: {len(shared)} training prompts are also held-out prompts of "
            f"{values['evaluation.prompts']}, the first {ours.prompt_id!r} ({ours.caption!r}), there "
            f"{theirs.prompt_id!r} of split {theirs.split!r}; take them out, or change method.splits, "
            "evaluation.splits or method.watched_split"
        )


def _content(prompt: Prompt) -> str:
    return " ".join(prompt.caption.casefold().split())


class PromptStream:
    """An endless, randomly accessible stream of training prompts.

    Position p is prompt ``order(epoch)[p mod N]`` of epoch ``p div N``. The epoch is also the visit: how often the
    prompt was sampled before, so its noise depends on (prompt id, visit, seed) alone.

    Args:
        prompts: N ≥ 1 of them.
        seed: of the training.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self.prompts = list(prompts)
        self._seed = seed
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def at(self, start: int, stop: int) -> tuple[list[Prompt], list[int]]:
        """The prompts at positions ``start`` to ``stop - 1``, and their visits."""
        places = [divmod(position, len(self)) for position in range(start, stop)]
        return [self.prompts[self._order_of(epoch)[place]] for epoch, place in places], [epoch for epoch, _ in places]

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order([prompt.prompt_id for prompt in self.prompts], self._seed, epoch)
        return self._order[1]
