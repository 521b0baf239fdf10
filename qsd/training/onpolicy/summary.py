"""What an on-policy training tells of itself: ``summary.json`` and the words of its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qsd.adapters.facts import TrainingFacts
from qsd.config.digest import hash_of, location_digest
from qsd.training.metrics import mean_of

if TYPE_CHECKING:
    from qsd.config.schema import ExperimentConfig
    from qsd.training.onpolicy.prompts import PromptStream
    from qsd.training.onpolicy.rewards import LatentReward

LAST_STEPS = 20
"""The summary averages over so many steps at the end."""
_COUNTED = {"passes": "network_passes", "trained_passes": "network_passes_trained", "scored": "reward_calls"}
"""Column -> its name in the summary, as a total."""


def summary_of(
    config: ExperimentConfig,
    settings: Any,
    prompts: int,
    trained: int,
    rows: Sequence[Mapping[str, Any]],
    means: Sequence[str],
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        config: of the training.
        settings: of the method.
        prompts: how many training prompts there are.
        trained: how many numbers the adapter has.
        rows: of ``metrics.jsonl``, N ≥ 1.
        means: columns that are means over a batch.
    """
    steps = config.training.steps
    batches = -(-steps // settings.updates)
    last = rows[-LAST_STEPS:]
    totals = {shown: round(sum(row[name] for row in rows)) for name, shown in _COUNTED.items()}
    return {
        "method": config.method.name,
        "budget": "steps",
        "steps": steps,
        "prompts": prompts,
        "prompts_seen": batches * settings.prompts_per_step,
        "reward": config.reward.model,
        **totals,
        "rewards_not_finite": round(sum(row["not_finite"] for row in rows)),
        "trainable_parameters": trained,
        "last_steps": len(last),
        "mean_of_last_steps": mean_of(last, means),
    }


def facts_of(
    config: ExperimentConfig, settings: Any, stream: PromptStream, reward: LatentReward, summary: Mapping[str, Any]
) -> TrainingFacts:
    """What the adapter's file and card tell of an on-policy training."""
    prompts = location_digest(settings.prompts)
    return TrainingFacts(
        metadata={
            "method": config.method.name,
            "prompts_digest": prompts,
            "reward": config.reward.model,
            "reward_revisions": hash_of(reward.revisions),
        },
        tags=(config.method.name.replace("_", "-"), "on-policy"),
        results=(
            f"method `{config.method.name}`, {summary['steps']} steps, {summary['prompts_seen']} prompts sampled",
            f"{summary['reward_calls']} images scored by `{reward.described}`",
            f"{summary['network_passes']} network passes without gradients, {summary['network_passes_trained']} with",
            f"{summary['trainable_parameters']} trained parameters",
        ),
        data=(
            f"{len(stream)} training prompts and no images: the model was trained on its own samples, which "
            f"`{reward.described}` scored. No person said which image is better. Scores of that reward model say how "
            "well it was optimised, not how good the images are."
        ),
        digests={"the training prompts": prompts},
    )
