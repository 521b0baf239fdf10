"""The z-score among the images of a prompt: removes differences between prompts that score high or low in general."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.normalizations import Normalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def per_prompt_z(scores: NDArray[np.float64], prompts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(ψ - mean of its prompt) / population std of its prompt; 0 for a prompt with one score, or with equal ones.

    A prompt with two different scores has z = ±1 however far apart they are, so on data with one pair per prompt only
    the scorer's choice remains. The size of z is informative from three images per prompt on. Not in [0, 1]:
    ``product`` refuses it.
    """
    import numpy as np

    _, prompt, count = np.unique(prompts, return_inverse=True, return_counts=True)
    mean = np.bincount(prompt, weights=scores)[prompt] / count[prompt]
    centred = scores - mean
    deviation = np.sqrt(np.bincount(prompt, weights=centred**2) / count)[prompt]
    lowest, highest = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(lowest, prompt, scores)
    np.maximum.at(highest, prompt, scores)
    differs = (highest > lowest)[prompt] & (deviation > 0)
    return np.where(differs, centred / np.where(differs, deviation, 1.0), 0.0)


NORMALIZATION = Normalization(per_prompt_z)
