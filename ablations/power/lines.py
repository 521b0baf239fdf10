"""The power of a plan as lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.formatting import format_count, format_duration
from ablations.power.summary import MOST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OTHERS = "other stages"
_PRICED = {"train": "trainings", "generate": "generation", "evaluate": "evaluation"}
"""Kinds of stages whose price is given on its own; the others are one part."""


def power_lines(power: Mapping[str, Any], sweep: str) -> Iterator[str]:
    """What a plan can detect, from where this is known, and a warning if earlier differences were smaller.

    Args:
        power: of ``ablations.power.summary.power_summary``.
        sweep: name, for the command in the warning.
    """
    if power["unknown"]:
        yield f"smallest detectable difference: {power['unknown']}"
        return
    by = f"{format_count(power['seeds'], 'seed')} x {format_count(power['prompts'], 'prompt')}"
    known = f"variances: {power['origin']}"
    if power["holm"] is None:
        why = "with one training seed nothing is marked" if power["seeds"] < 2 else "the variances do not allow one"
        yield f"smallest detectable difference: none with {by}, because {why}"
        return
    yield (
        f"smallest detectable difference: {_number(power['alone'])} for one comparison, "
        f"{_number(power['holm'])} {_with_holm(power)}"
    )
    reached = ", if the last look is reached" if power["looks"] else ""
    yield f"  marked with a chance of 80 % under {power['scorer']} with {by}{reached}; {known}"
    largest = power["largest_found"]
    if largest is not None:
        yield (
            f"warning: this sweep can miss a difference as large as the largest that earlier sweeps found, "
            f"{_number(largest['difference'])} ({largest['cell']} in {largest['sweep']}); "
            f"'ablate plan {sweep} --detect {_number(largest['difference'])}' shows what would detect it"
        )


def detect_lines(power: Mapping[str, Any]) -> Iterator[str]:
    """The cheapest sweeps that detect a wanted difference.

    Args:
        power: of ``ablations.power.summary.power_summary``, with "detect": {"difference", "alone", "holm"}.
    """
    wanted = power["detect"]
    yield f"to detect a true difference of {_number(wanted['difference'])} with a chance of 80 %, at the lowest price:"
    for title, option in (("for one comparison", wanted["alone"]), (_with_holm(power), wanted["holm"])):
        yield f"  {title}: {_option(option, power['prompts_available'])}"
    if "seeds" in wanted["holm"]:
        seeds, prompts = wanted["holm"]["seeds"], wanted["holm"]["prompts"]
        yield f"  for the latter, list {seeds} 'seeds' and set 'evaluation.prompts_per_split: {prompts}'"


def _option(option: Mapping[str, Any], available: int) -> str:
    prompts = format_count(available, "prompt")
    if "seeds" not in option:
        if option["smallest"] is None:
            return f"not possible with {prompts}"
        return f"not within {MOST_SEEDS} seeds x {prompts}, which detect {_number(option['smallest'])}"
    seconds: Mapping[str, float] = option["seconds"]
    parts = {title: seconds[stage] for stage, title in _PRICED.items() if stage in seconds}
    parts[_OTHERS] = sum(spent for stage, spent in seconds.items() if stage not in _PRICED)
    listed = ", ".join(f"{title} {format_duration(spent)}" for title, spent in parts.items())
    gpu_hours = f", {option['gpu_hours']:,.1f} GPU-hours" if option["gpu_hours"] else ""
    total = format_duration(sum(seconds.values()))
    return f"{option['seeds']} seeds x {option['prompts']} of {prompts}, {total} of stages ({listed}){gpu_hours}"


def _with_holm(power: Mapping[str, Any]) -> str:
    count = power["comparisons"]
    return f"with Holm over {format_count(count, 'comparison')}" + (f" (level 0.05/{count})" if count > 1 else "")


def _number(value: float) -> str:
    return f"{value:.3g}"
