"""What a step of the on-policy methods costs, in passes of the network.

Sampling, scores and the passes of the reference are shared by all updates on a batch of samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.training.methods import MethodPasses, setting
from qsd.training.onpolicy.placement import trained_steps

if TYPE_CHECKING:
    from qsd.training.methods import Values


def candidate_passes(values: Values) -> MethodPasses:
    """Candidates of one state: every step is drawn once, and each further candidate of a ranked step takes a pass."""
    prompts, steps, guided, updates = _sizes(values)
    trained, candidates = placed(values), setting(values, "candidates")
    ranked = range(steps) if setting(values, "ranked_steps") == "all" else trained
    # The pass that ranks the winner is the one that draws from it; after the last step nothing is predicted.
    further = (candidates - 1) * sum(step < steps - 1 for step in ranked)
    return MethodPasses(
        forward=guided * prompts * (steps + further + len(trained)) / updates,
        trained=guided * prompts * len(trained),
        calls=(steps + len(ranked) + len(trained)) / updates + len(trained),
        scored=prompts * candidates * len(ranked) / updates,
        together=prompts * candidates,
    )


def trajectory_passes(values: Values, trajectories: int, reference: bool, scored: int) -> MethodPasses:
    """Whole trajectories of each prompt, trained at some of their steps.

    Args:
        values: a flat configuration.
        trajectories: of each prompt.
        reference: whether the loss compares with the base model.
        scored: images of each trajectory that are scored.
    """
    prompts, steps, guided, updates = _sizes(values)
    images, trained = prompts * trajectories, len(placed(values))
    return MethodPasses(
        forward=guided * images * (steps + reference * trained) / updates,
        trained=guided * images * trained,
        calls=(steps + reference * trained) / updates + trained,
        scored=images * scored / updates,
        together=images,
    )


def placed(values: Values) -> list[int]:
    """The steps of the sampler that are trained."""
    names = ("sampler_steps", "trained_steps", "skipped_steps", "placement")
    return trained_steps(*(setting(values, name) for name in names))


def _sizes(values: Values) -> tuple[int, int, int, int]:
    """Prompts of a step, steps of the sampler, passes for each sample, and updates for each batch of samples."""
    guided = 2 if values["method.guidance_scale"] > 1 else 1
    return values["method.prompts_per_step"], values["method.sampler_steps"], guided, values["method.updates"]
