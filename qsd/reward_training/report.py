"""What the commands print about accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qsd.reward_training.evaluate import PROTOCOLS, ReadRanks, Result

_TESTED = {
    "accuracy": "the trained reward model",
    "ceiling": "the reward model that simulated the annotators: the ceiling",
    "one_annotator_against_rank": "one annotator against the rank of all, own ranking included",
    "one_annotator_against_others": "one annotator against the mean place given by the others",
    "one_annotator_against_another": "one annotator against another",
    "chance": "a random order, on average",
}


def summary_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """A finished training in a few lines."""
    if "held_out_accuracy" in summary:
        before, after = summary["held_out_accuracy_before"], summary["held_out_accuracy"]
        yield f"held-out choices scored right: {before:.2%} before, {after:.2%} after, of {summary['held_out_choices']}"
    test = summary.get("test")
    if test:
        left_out = f" ({test['left_out']:.0f} damaged ones left out)" if test.get("left_out") else ""
        yield f"test accuracy (HPS v2's protocol) on {test['groups']:.0f} groups{left_out}:"
        for name, words in _TESTED.items():
            if name in test:
                yield f"  {test[name]:7.2%}  {words}"


def accuracy_lines(results: Mapping[str, Result], labels: ReadRanks, protocol: str) -> Iterator[str]:
    """A table of reward models, and what the data set itself allows.

    ``labels`` are those of the data set, the same for every reward model.
    """
    yield f"protocol {protocol}: {PROTOCOLS[protocol]}"
    yield f"{len(labels.ranks):,} groups, {labels.pairs:,} pairs in them, {labels.ties:,} of equal rank"
    for reason, names in sorted(labels.problems.ids.items()):
        yield f"  left out, {reason}: {len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
    yield from _accuracies(results)
    if protocol != "hps_v2":
        return
    yield f"{'a random order':<20}{labels.chance():9.2%}  (mean)"
    annotators = labels.annotators()
    if annotators is not None:
        yield f"{'one annotator':<20}{annotators.against_rank:9.2%}  against the rank of all, own ranking included"
        yield f"{'':<20}{annotators.against_others:9.2%}  against the mean place given by the others"
        yield f"{'':<20}{annotators.against_another:9.2%}  against another annotator"


def _accuracies(results: Mapping[str, Result]) -> Iterator[str]:
    """The table of reward models, the best first."""
    ordered = sorted(results.items(), key=lambda item: -item[1].accuracy)
    if all(result.over_groups is None for _, result in ordered):
        yield f"{'reward model':<20}{'accuracy':>9}  equal scores"
        for name, result in ordered:
            yield f"{name:<20}{result.accuracy:9.2%}  {result.equal_scores:,}"
        return
    yield "over pairs: all groups' pairs together, as ImageReward's own test; over groups: mean, as HPS v2's table"
    yield f"{'reward model':<20}{'over pairs':>11}{'over groups':>13}  equal scores"
    for name, result in ordered:
        yield f"{name:<20}{result.accuracy:11.2%}{result.over_groups or 0.0:13.2%}  {result.equal_scores:,}"
