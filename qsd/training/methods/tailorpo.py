"""TailorPO (Ren et al. 2025, arXiv 2502.01667): the best of several outcomes of one sampler step is preferred.

All candidates of a step begin at the same noisy latents, are ranked by the reward of the clean image that the network
predicts from them (the paper's Eq. 12), and the winner is trained against the loser (Eq. 10). Sampling goes on from the
winner. No code was published, and the text that could be read gives neither β nor learning rate, batch size, sampler
steps or guidance: β, sampler, eta and guidance are those of SPO's code (RockeyCoss/SPO), two candidates and five evenly
spread steps are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from qsd.training.methods import Candidates, MethodSpec, Preferences, Sampling
from qsd.training.methods._cost import candidate_passes
from qsd.training.methods._equal import idle_candidates, same_steps

DEFAULTS = {
    "beta": 10.0,
    "ratio_clip": 0.0,
    "candidates": 2,
    "continue_from": "winner",
    "ranked_steps": "trained",
    "threshold": 0.0,
    "trained_steps": 5,
    "skipped_steps": 0,
}


@dataclass
class Settings(Candidates, Preferences, Sampling):
    """No settings of its own."""


METHOD = MethodSpec(
    "qsd.training.onpolicy.candidates:CandidatesMethod",
    Settings,
    defaults=DEFAULTS,
    passes=candidate_passes,
    idle=idle_candidates,
    same=same_steps,
)
