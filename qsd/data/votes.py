"""Several judgements of one caption and two images: which are votes, which are copies, and what the votes decide."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qsd.data.pairs import pair_id

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTED = ("soft", "each")
"""Values of ``data.votes`` that keep both opinions and weigh them."""
WEIGHT = "vote_weight"
"""The column of ``pairs.parquet`` with the weights, where there are any."""

REASONS = {
    "repeated_vote": "another person made the same choice before: counted as a vote, and no damage",
    "outvoted": "more people chose the other image of these two: no damage",
    "drawn_vote": "as many people chose one image as the other: a tie, and no damage",
}
"""Reason why a judgement is no pair of its own -> its explanation."""


class Judgements:
    """The judgements of a data set, one after the other; it keeps ids only."""

    def __init__(self) -> None:
        self._first: dict[str, str | None] = {}
        self._others: dict[str, set[str | None]] = {}

    def add(self, pair: str, annotator: str | None) -> str | None:
        """Count a judgement; why it is no pair of its own, or None.

        Args:
            pair: id of caption, winner and loser.
            annotator: who chose, or None if that is not known.

        Returns:
            ``repeated_vote`` if another annotator made the same choice; ``duplicate_pair`` if the same one did, or if
            both are unknown; None for the first.
        """
        if pair not in self._first:
            self._first[pair] = annotator
            return None
        others = self._others.setdefault(pair, {self._first[pair]})
        if annotator in others:
            return "duplicate_pair"
        others.add(annotator)
        return "repeated_vote"

    def votes(self, pair: str) -> int:
        """How many people made a choice: the unknown ones together count as one."""
        return len(self._others.get(pair, ())) or int(pair in self._first)

    def lost(self, caption: str, winner: str, loser: str) -> str | None:
        """``outvoted`` or ``drawn_vote`` for a choice that the votes for the opposite one refute; else None."""
        against = self.votes(pair_id(caption, loser, winner))
        if not against:
            return None
        votes = self.votes(pair_id(caption, winner, loser))
        return "drawn_vote" if votes == against else "outvoted" if votes < against else None

    def weight(self, caption: str, winner: str, loser: str, votes: str) -> float:
        """How much a choice counts in the loss: its number of votes (``each``), or their share (``soft``, in (0, 1]).

        With ``soft`` the two opinions about a caption and two images together weigh 1: their loss is that of a soft
        label, p · L(winner, loser) + (1 - p) · L(loser, winner), p the share of the votes.
        """
        own = self.votes(pair_id(caption, winner, loser))
        return float(own) if votes == "each" else own / (own + self.votes(pair_id(caption, loser, winner)))

    def annotators(self) -> Iterator[str]:
        """The known annotators, once for each choice that they made."""
        for pair, first in self._first.items():
            yield from (one for one in self._others.get(pair, (first,)) if one is not None)

    def counts(self) -> Counter[int]:
        """Number of votes -> how many choices have so many."""
        return Counter(self.votes(pair) for pair in self._first)
