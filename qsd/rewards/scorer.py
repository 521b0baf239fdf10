"""The interface of all reward models: ψ(image, caption) -> one float, with name, revision and unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor


class Scorer(Protocol):
    """A loaded reward model. Scores compare only within one name and revision.

    They are fp32 numbers, computed in fp32 unless the caller says otherwise (``qsd.scoring.precision``).
    """

    name: str
    """As in the registry."""
    revision: str
    """Digest of the weights and the code."""
    unit: str
    """Of the score, for example ``cosine``."""

    @property
    def resolution(self) -> int:
        """Side of the square input, in pixels; images of any size are accepted. 0: they are not resized."""

    def score(self, images: Sequence[Image.Image | Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Scores [N] of N images with their captions; a batch of N equals N batches of one.

        An image may be given as the pixels (3, S, S) that the reward model's own preprocessing has made of it
        (``Preprocess.one``), on any device.
        """

    def score_tensor(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores [N] of float pixels [N, 3, H, W] in [0, 1]; with gradients if the member is ``differentiable``."""
