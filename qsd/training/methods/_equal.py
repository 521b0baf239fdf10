"""Settings of on-policy methods that make no difference: equal trainings have equal keys and equal model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.training.methods import setting

if TYPE_CHECKING:
    from qsd.training.methods import Values


def idle_sampling(values: Values) -> set[str]:
    """Of every on-policy method: what is said of watched prompts without any, and the placement of all steps."""
    idle = set() if values["method.watched_prompts"] else {"watched_split", "watchers"}
    return idle | ({"placement"} if _trains_all(values) else set())


def idle_candidates(values: Values) -> set[str]:
    """Of methods with candidates: the scale of rewards of which any difference counts, and which steps are ranked."""
    idle = idle_sampling(values)
    if not setting(values, "threshold"):
        idle.add("reward_scale")
    if _trains_all(values) and not setting(values, "skipped_steps"):
        idle.add("ranked_steps")
    return idle


def same_steps(values: Values) -> dict[str, Any]:
    """All steps that may be trained are 0, and not their number."""
    return {"trained_steps": 0} if _trains_all(values) else {}


def _trains_all(values: Values) -> bool:
    """Whether every step after the skipped ones is trained."""
    count = setting(values, "trained_steps")
    return not count or bool(count == values["method.sampler_steps"] - setting(values, "skipped_steps"))
