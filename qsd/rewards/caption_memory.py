"""A CLIP scorer that remembers the embeddings of captions, where the same captions are scored again and again.

On-policy training scores the samples of one batch of prompts at every sampler step, with the same captions in the same
order. What is remembered is the embedding of a whole batch of captions, not of a single one: the last bits of an
embedding depend on the batch in which it was computed, so this changes no score.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, cast

from qsd.rewards.clip import ClipScorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

BATCHES = 32
"""Batches that are remembered; 1 MB each for 256 captions and 1,024 numbers per embedding."""


class CaptionMemory(ClipScorer):
    """A CLIP scorer with the same scores, bit by bit, for a text tower that is not trained.

    Args:
        scorer: whose model is used; it stays usable.
        batches: how many batches of captions are remembered, the latest ones.
    """

    def __init__(self, scorer: ClipScorer, batches: int = BATCHES) -> None:
        unit = cast("Literal['cosine', 'logit']", scorer.unit)
        super().__init__(scorer.name, scorer.revision, scorer.model, scorer.preprocess, scorer.tokenize, unit)
        self._batches = batches
        self._remembered: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions -> fp32 unit vectors (N, D), without gradients; see :meth:`ClipScorer.embed_captions`."""
        import torch

        batch = tuple(captions)
        if batch not in self._remembered:
            # A tensor made in inference mode could not take part in a later pass with gradients.
            with torch.inference_mode(False), torch.no_grad():
                self._remembered[batch] = super().embed_captions(captions)
            if len(self._remembered) > self._batches:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(batch)
        return self._remembered[batch]
