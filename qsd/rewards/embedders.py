"""Reward models that have an embedding of an image beside their score: those that are a CLIP.

Read off what a member's ``open`` says that it returns, so that no weights are opened and a new member is in the list by
itself. A field of ``ScorerSpec`` would say the same, but that class is part of the source of every reward model: its
digest, and with it the key of every score, would change.
"""

from __future__ import annotations

from qsd.rewards.scorers import REGISTRY


def embeds(name: str) -> bool:
    """Whether the reward model ``name`` opens as :class:`qsd.rewards.clip.ClipScorer`.

    Raises:
        UserError: no such reward model.
    """
    returned = getattr(REGISTRY.get(name).open, "__annotations__", {}).get("return")
    # The members' files postpone the evaluation of annotations, so most of these are text.
    return (returned if isinstance(returned, str) else getattr(returned, "__name__", "")) == "ClipScorer"


def embedders() -> list[str]:
    """Names of all reward models that can be ``evaluation.embedder``, sorted."""
    return [name for name in REGISTRY.names() if embeds(name)]
