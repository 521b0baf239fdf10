"""Like SPO (Liang et al. 2024, arXiv 2406.04314; RockeyCoss/SPO), without its trained scorer of noisy states.

SPO draws several candidates at every step, takes best and worst where the softmax of their scores differs enough,
continues from a random one, and clips the ratios to the reference; the defaults are its code's. Its scorer is a model
trained on noisy latents. Here the same reward model as everywhere scores the predicted clean image, so this is a
baseline like SPO, and not SPO.
"""

from __future__ import annotations

from dataclasses import dataclass

from qsd.training.methods import Candidates, MethodSpec, Preferences, Sampling
from qsd.training.methods._cost import candidate_passes
from qsd.training.methods._equal import idle_candidates, same_steps


@dataclass
class Settings(Candidates, Preferences, Sampling):
    """No settings of its own."""


METHOD = MethodSpec(
    "qsd.training.onpolicy.candidates:CandidatesMethod",
    Settings,
    defaults={
        "beta": 10.0,
        "ratio_clip": 0.1,
        "candidates": 4,
        "continue_from": "random",
        "ranked_steps": "all",
        "threshold": 0.3,
        "trained_steps": 0,
        "skipped_steps": 4,
    },
    passes=candidate_passes,
    idle=idle_candidates,
    same=same_steps,
)
