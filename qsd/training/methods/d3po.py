"""D3PO (Yang et al. 2023, arXiv 2311.13231; yk7333/d3po): every step of the better of two trajectories is preferred.

Both begin at the same noise and part by the noise of the steps. ``labels: trajectory`` gives every step the label of
the final images, as D3PO does; ``step`` ranks the two states after each step by the reward of the clean image that is
predicted from them, which is the first of TailorPO's changes. β, clipping and eta are those of the published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.training.methods import MethodPasses, MethodSpec, Preferences, Sampling
from qsd.training.methods._cost import placed, trajectory_passes
from qsd.training.methods._equal import idle_sampling, same_steps

if TYPE_CHECKING:
    from qsd.training.methods import Values


@dataclass
class Labels:
    """What says which of two states is the better one."""

    labels: str = meaning(
        "trajectory", "of each step's pair: by the final images, or step by step", choices=("trajectory", "step")
    )


@dataclass
class Settings(Labels, Preferences, Sampling):
    """Those of all preferences, and the labels."""


def _passes(values: Values) -> MethodPasses:
    scored = len(placed(values)) if values["method.labels"] == "step" else 1
    return trajectory_passes(values, trajectories=2, reference=True, scored=scored)


METHOD = MethodSpec(
    "qsd.training.onpolicy.trajectories:PreferredTrajectories",
    Settings,
    defaults={"beta": 0.1, "ratio_clip": 0.1, "trained_steps": 0, "skipped_steps": 0},
    passes=_passes,
    idle=idle_sampling,
    same=same_steps,
)
