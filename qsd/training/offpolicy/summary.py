"""What a training on pairs tells of itself: ``summary.json``, the words of its model card, what β multiplies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsd.adapters.facts import TrainingFacts
from qsd.config.schema import ExperimentConfig
from qsd.encoding.store import EncodedPairs
from qsd.files import file_digest
from qsd.losses import REGISTRY
from qsd.training.metrics import mean_of
from qsd.training.offpolicy.batches import PairStream
from qsd.training.offpolicy.columns import COLUMNS

LAST_STEPS = 20
"""The summary averages over so many steps at the end."""
_LOSS_TAGS = {"dpo": "diffusion-dpo", "sft": "fine-tuning"}
_LABELS = {
    "human": "People said which image of each pair is better.",
    "simulated": "**The preference labels are simulated**: a program said which image is better, not a person.",
}


def summary_of(
    config: ExperimentConfig, stream: PairStream, trained: int, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        config: of the training, with its true number of steps.
        stream: the training pairs.
        trained: how many numbers the adapter has.
        rows: of ``metrics.jsonl``, N ≥ 1.
    """
    last = rows[-LAST_STEPS:]
    final = {"final_beta": last[-1]["beta"]} if "beta" in last[-1] else {}
    pairs_seen = config.training.steps * config.training.pairs_per_step
    return {
        "loss": config.loss.name,
        "beta": _beta(config),
        "effective_beta": _effective_beta(config),
        **final,
        "budget": config.training.budget,
        "steps": config.training.steps,
        "pairs": len(stream),
        "pairs_without_encoding": stream.missing,
        "pairs_seen": pairs_seen,
        "epochs": pairs_seen / len(stream),
        "trainable_parameters": trained,
        "last_steps": len(last),
        "mean_of_last_steps": mean_of(last, COLUMNS),
    }


def facts_of(
    config: ExperimentConfig, inputs: Mapping[str, Path], settings: Mapping[str, Any], summary: Mapping[str, Any]
) -> TrainingFacts:
    """What the adapter's file and card tell of a training on pairs; ``summary`` is that of ``summary_of``.

    Raises:
        UserError: an input is missing or damaged.
    """
    labels = config.data.labels
    data_digest = EncodedPairs(inputs["encode"]).data_digest
    selection_digest = file_digest(inputs["select"] / "selected.parquet")
    return TrainingFacts(
        metadata={"data_digest": data_digest, "labels": labels, "selection_digest": selection_digest},
        tags=_tags(summary["loss"], labels),
        results=tuple(_results(summary)),
        data=_data(summary["pairs"], labels, settings.get("data.flip_fraction", 0), settings.get("data.only")),
        digests={"all pairs": data_digest, "the selected pairs": selection_digest},
    )


def beta_convention(config: ExperimentConfig) -> str:
    """The loss, and the factor that multiplies a difference of mean errors inside it, in a line."""
    factor, beta = _effective_beta(config), _beta(config)
    if factor is None:
        return f"loss {config.loss.name}: no beta"
    stated = "" if beta is None else f"beta {beta:g} in the convention of the Diffusion-DPO code (beta/2), so "
    return (
        f"loss {config.loss.name}: {stated}the difference of mean errors per element is multiplied by {factor:g} "
        "(docs/losses.md)"
    )


def schedule_line(config: ExperimentConfig) -> str:
    """What an automatic β follows, in a line."""
    loss = config.loss
    return (
        f"loss.beta_schedule automatic: beta starts at {loss.beta:g} and is then 2 log 4 over the running mean of |d| "
        f"(decay {loss.beta_decay:g} per step), between {loss.beta / loss.beta_range:g} and "
        f"{loss.beta * loss.beta_range:g}"
    )


def _effective_beta(config: ExperimentConfig) -> float | None:
    """What multiplies a difference of errors inside the loss; None for a loss that has no such factor."""
    factor = REGISTRY.get(config.loss.name).factor
    return factor(config.loss) if factor else None


def _beta(config: ExperimentConfig) -> float | None:
    """β, for a loss that reads it."""
    return config.loss.beta if "beta" in REGISTRY.get(config.loss.name).fields else None


def _tags(loss: str, labels: str) -> tuple[str, ...]:
    simulated = ["simulated-preferences"] if labels == "simulated" else []
    return (_LOSS_TAGS.get(loss, f"{loss}-loss"), *simulated)


def _results(summary: Mapping[str, Any]) -> list[str]:
    """What came of the settings, in sentences."""
    results = [
        f"loss `{summary['loss']}`{_stated_beta(summary['beta'], summary['effective_beta'])}{_final_beta(summary)}",
        f"{summary['steps']} steps, {summary['pairs_seen']} pairs seen, {summary['epochs']:.3g} epochs",
        f"{summary['trainable_parameters']} trained parameters",
    ]
    accuracy = summary["mean_of_last_steps"].get("implicit_accuracy")
    if accuracy is not None:
        results.append(
            f"implicit accuracy on the training pairs of the last {summary['last_steps']} steps: {accuracy:.3f}"
        )
    return results


def _stated_beta(beta: float | None, factor: float | None) -> str:
    """β and the factor that it makes, where the loss reads β."""
    if beta is None:
        return ""
    half = "β/2 = " if factor == beta / 2 else ""
    return f", beta {beta:g}: {half}{factor:g} multiplies the difference of mean errors"


def _final_beta(summary: Mapping[str, Any]) -> str:
    """Where an automatic β ended."""
    final = summary.get("final_beta")
    return "" if final is None else f"; beta was automatic and ended at {final:g}"


def _data(pairs: int, labels: str, flipped: float, only: str | None) -> str:
    """The pairs in a paragraph.

    ``flipped`` is the percent of labels that were flipped on purpose, ``only`` the column of ``data.only``.
    """
    used = f" Only rows of the data whose column `{only}` is true were used." if only else ""
    noise = f" {flipped:g} % of the labels were then flipped on purpose." if flipped else ""
    return f"{pairs} preference pairs. {_LABELS[labels]}{used}{noise}"
