"""TailorPO-G: TailorPO whose winner is moved along the gradient of its reward before it is trained (Eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.config.fields import meaning
from qsd.training.methods import Candidates, MethodPasses, MethodSpec, Preferences, Sampling
from qsd.training.methods._cost import candidate_passes, placed
from qsd.training.methods._equal import idle_candidates, same_steps
from qsd.training.methods.tailorpo import DEFAULTS

if TYPE_CHECKING:
    from qsd.training.methods import Values


@dataclass
class Guidance:
    """How far winners are moved."""

    guide_from: float = meaning(0.1, "length of the move at the first step, in lengths of that step's noise", above=0)
    guide_to: float = meaning(0.2, "and at the last step (guide_schedule cosine)", above=0)
    guide_schedule: str = meaning(
        "cosine", "from guide_from to guide_to over the sampler's steps; or guide_from", choices=("cosine", "constant")
    )
    r_high: float | None = meaning(
        None, "above all rewards, in their unit; the move is along the gradient of -(r_high - r)^2; null: of r"
    )


@dataclass
class Settings(Guidance, Candidates, Preferences, Sampling):
    """Those of TailorPO, and the guidance."""


def _passes(values: Values) -> MethodPasses:
    """Each winner of a trained step is predicted and scored once more, with a gradient to its latents.

    After its move it is predicted again, because sampling continues from there.
    """
    plain = candidate_passes(values)
    guided = 2 if values["method.guidance_scale"] > 1 else 1
    steps = [step for step in placed(values) if step + 1 < values["method.sampler_steps"]]
    moved = values["method.prompts_per_step"] * len(steps) / values["method.updates"]
    return MethodPasses(
        plain.forward + guided * moved,
        plain.trained + guided * moved,
        plain.calls + 3 * len(steps) / values["method.updates"],
        plain.scored + moved,
        plain.together,
    )


def _same(values: Values) -> dict[str, Any]:
    """A cosine from a number to itself is constant."""
    flat = values["method.guide_from"] == values["method.guide_to"]
    return {**same_steps(values), **({"guide_schedule": "constant"} if flat else {})}


def _idle(values: Values) -> set[str]:
    """A constant move has no other length at the last step."""
    constant = "constant" in (values["method.guide_schedule"], _same(values).get("guide_schedule"))
    return idle_candidates(values) | ({"guide_to"} if constant else set())


METHOD = MethodSpec(
    "qsd.training.onpolicy.candidates:CandidatesMethod",
    Settings,
    defaults=DEFAULTS,
    passes=_passes,
    idle=_idle,
    same=_same,
)
