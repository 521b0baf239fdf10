"""Which scorers are no independent judges of a cell, and why: they made or were what it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.ensemble import members_of
from qsd.rewards.scorers import REGISTRY
from qsd.stages.select.spec import uses_scores
from qsd.training.methods import method_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qsd.stages.stage_spec import Values

SELECTED = "selected the training pairs"
LABELLED = "labelled the training pairs"
OPTIMISED = "was the reward of the training"
LABELLED_TIES = "labelled the training pairs whose scores tie"
_SHARES = "shares a backbone with"


def conflicts(values: Values) -> dict[str, list[str]]:
    """Each of ``evaluation.scorers`` that is no independent judge of a trained cell -> the reasons, as phrases.

    A scorer that shares its backbone with one that ranked or labelled the pairs, or was the reward of an on-policy
    training, moves together with it, so its verdict is no second opinion. Injected label flips read scores as well, but
    only to measure.
    """
    if values["adapter"] == "none":
        return {}
    involved = _involved(values)
    conflicting: dict[str, list[str]] = {}
    for scorer in values["evaluation.scorers"]:
        reasons = [phrase for name, phrase in involved if name == scorer]
        backbone = REGISTRY.get(scorer).backbone
        if not reasons and backbone:
            reasons = [
                f"{_SHARES} {name}, which {phrase}"
                for name, phrase in involved
                if REGISTRY.get(name).backbone == backbone
            ]
        if reasons:
            conflicting[scorer] = reasons
    return conflicting


def is_own_reward(reasons: Iterable[str]) -> bool:
    """Whether a scorer with these reasons is what a cell was optimised for, so that its scores should rise.

    One that only shares a backbone with such a scorer, or only labelled ties, is neither that nor independent.
    """
    return any(reason != LABELLED_TIES and not reason.startswith(_SHARES) for reason in reasons)


def split_reason(reason: str) -> tuple[str, str]:
    """(the scorer that shares the judge's backbone, what that did), or ("", what the judge itself did)."""
    if not reason.startswith(_SHARES):
        return "", reason
    name, _, did = reason.removeprefix(f"{_SHARES} ").partition(", which ")
    return name, did


def default_primary(evaluation_scorers: list[str], cells: Sequence[Values]) -> str:
    """The scorer that decides where a sweep names none: the first that took part in no training.

    Where there is no such scorer, the first of all: every table then says why it is no independent judge.
    """
    direct = {name for values in cells for name, _ in _involved(values)}
    return next((name for name in evaluation_scorers if name not in direct), evaluation_scorers[0])


def _involved(values: Values) -> list[tuple[str, str]]:
    """(reward model, what it did in the training)."""
    if method_of(values).on_policy:
        return [(name, OPTIMISED) for name in members_of(values["reward.model"], values["reward.members"])]
    relabels = values["data.relabel"] == "scores"
    ranks = uses_scores(values)
    members = members_of(values["reward.model"], values["reward.members"]) if ranks or relabels else []
    involved = [(name, SELECTED) for name in members] if ranks else []
    involved += [(name, LABELLED) for name in members] if relabels else []
    return involved + [(name, LABELLED_TIES if relabels else LABELLED) for name in values["data.labelled_by"] or []]
