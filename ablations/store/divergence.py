"""Trainings that diverged: a result of their settings, so they are not tried again unless a user asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.store.attempts import diverged, latest, outcome
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store

CAUSE = "non-finite"
"""The name of divergence as an argument of ``--cause``."""
_MOST_NAMES = 6


def diverged_stages(store: Store, nodes: Mapping[str, StageNode]) -> dict[str, str]:
    """Key -> reason of every stage in ``nodes`` whose latest attempt diverged.

    Only records are read and no scheduler is asked. ``nodes`` should be stages that are not done: an earlier attempt at
    a finished stage says nothing about its result.
    """
    # One listing per kind: in a plan of ten thousand stages few were ever tried.
    tried = {stage: names_in(store.root / "attempts" / stage) for stage in {node.stage for node in nodes.values()}}
    reasons: dict[str, str] = {}
    for key, node in nodes.items():
        folder = latest(store, node.stage, key) if key in tried[node.stage] else None
        ending = outcome(folder) if folder else None
        if ending is not None and diverged(ending):
            reasons[key] = str(ending["reason"])
    return reasons


def without_result(store: Store, nodes: Mapping[str, StageNode], done: Collection[str]) -> set[str]:
    """Keys of the stages not to run, since they diverged or need a stage that did; ``done`` are the finished stages."""
    left = {key: node for key, node in nodes.items() if key not in done}
    return with_followers(left, diverged_stages(store, left))


def with_followers(nodes: Mapping[str, StageNode], keys: Collection[str]) -> set[str]:
    """``keys`` and every stage that needs one of them, directly or through others; inputs come before their users."""
    followers = set(keys)
    for key, node in nodes.items():
        if not followers.isdisjoint(node.inputs.values()):
            followers.add(key)
    return followers


def notice(sweep: str, labels: Iterable[str]) -> str:
    """One line that names diverged stages and says how to try them again; ``sweep`` is the name of the sweep."""
    names = list(labels)
    shown = "; ".join(names[:_MOST_NAMES])
    more = f"; and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return (
        f"diverged, which is a result and not tried again: {shown}{more} "
        f"('ablate retry {sweep} --cause {CAUSE}' runs it again)"
    )
