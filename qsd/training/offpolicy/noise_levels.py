"""The law of the diffusion time in training: how often each amount of noise is drawn.

A pair's uniform draw u becomes another number in [0, 1], which the diffusion process turns into its time: 0 is the
clean image and 1 is pure noise. As a function of the draw alone it keeps common random numbers: equal draws give equal
times in every cell.

    uniform          u
    logit_normal     sigmoid(Φ⁻¹(u))           (Esser et al. 2024, arXiv 2403.03206, location 0, scale 1)
    then the shift   s u / (1 + (s - 1) u)     s = 1 changes nothing

The shift adds log s to the logit, so that it is also the location of the logit-normal law. A flow model's σ *is* this
number. For a DDPM it is the share of the timesteps, t / T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy.special import expit, ndtri

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qsd.config.schema import TrainingConfig


def noise_levels(uniform: NDArray[np.float64], training: TrainingConfig) -> NDArray[np.float64]:
    """Noise levels [B] in [0, 1] by the law that ``training.noise_law`` and ``training.noise_shift`` name.

    Args:
        uniform: [B] in [0, 1), one draw per pair.
        training: the recipe; under its defaults the draws are returned unchanged.
    """
    levels = uniform
    if training.noise_law == "logit_normal":
        levels = expit(ndtri(levels))
    shift = training.noise_shift
    return levels if shift == 1 else shift * levels / (1 + (shift - 1) * levels)
