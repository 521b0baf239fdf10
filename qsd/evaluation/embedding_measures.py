"""Measures of a cell's images that no score of a single image can give, and that show what a reward does to a model.

With e the embedding of an image by ``evaluation.embedder``, and a distance in [0, 2]::

    d(a, b)          = 1 - cos(a, b)
    diversity        = mean over j != i of d(e_i, e_j)                   images i, j of one prompt
    distance_to_base = d(e of the trained cell, e of the base model)     same prompt, same initial noise

The mean of ``diversity`` over the images of a prompt is the mean distance of the pairs of them. Neither measure is
better when it is higher: a model that repeats itself loses diversity, and so does one that has learned what is asked.

Planning and tables import this module, so numpy is imported where it is used. Its source is part of the revision of
``diversity``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIVERSITY = "diversity"
DISTANCE_TO_BASE = "distance_to_base"
MEASURES = (DIVERSITY, DISTANCE_TO_BASE)
"""Names of the measures, in the column ``scorer`` of scores and in tables; no reward model may have one of them."""
UNIT = "1 - cosine"


def measures_of(embedder: str | None, adapter: str) -> tuple[str, ...]:
    """The measures of a cell: none without an embedder; the base model has no distance to itself.

    Args:
        embedder: ``evaluation.embedder``.
        adapter: ``trained``, or ``none`` for the base model.
    """
    if embedder is None:
        return ()
    return (DIVERSITY,) if adapter == "none" else MEASURES


def distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine of vectors [..., D] of any length above 0, in [0, 2]; the shapes broadcast.

    For unit vectors this is half the squared length of their difference, which is exactly 0 for equal vectors and
    keeps the digits of small distances. Not a number where a vector is zero or not finite.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):
        units = [
            vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
            for vectors in (left.astype(np.float64), right.astype(np.float64))
        ]
        halves: NDArray[np.float64] = ((units[0] - units[1]) ** 2).sum(axis=-1) / 2
    return halves


def diversity(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean distance of each image of one prompt to the others, [I] for vectors [I, D].

    Raises:
        ValueError: fewer than two images, which planning refuses.
    """
    count = len(vectors)
    if count < 2:
        raise ValueError(f"diversity needs at least two images of a prompt, not {count}")
    means: NDArray[np.float64] = distances(vectors[:, None], vectors[None]).sum(axis=1) / (count - 1)
    return means
