"""Refused rows, counted by reason and listed by id, so that nothing is silently replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHOWN = 3


class Problems:
    """Ids by reason, in the order in which they were found."""

    def __init__(self) -> None:
        self.ids: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count one id under ``reason`` (snake case)."""
        self.ids.setdefault(reason, []).append(name)

    def count(self, but: Iterable[str] = ()) -> int:
        """Number of ids, without those under the reasons in ``but``."""
        left_out = set(but)
        return sum(len(ids) for reason, ids in self.ids.items() if reason not in left_out)

    def write(self, path: Path) -> None:
        """``{reason: {"count": n, "ids": [...]}}``, reasons sorted."""
        write_json(path, {reason: {"count": len(ids), "ids": ids} for reason, ids in sorted(self.ids.items())})

    def check_bound(
        self,
        what: str,
        total: int,
        most: float,
        harmless: Iterable[str] = (),
        setting: str = "data.max_rejected_fraction",
    ) -> None:
        """Fail if more than the share ``most`` of ``total`` was refused, not counting ``harmless`` reasons.

        ``setting`` is the field that sets the bound, for the message.

        Raises:
            UserError: with the counts and the first ids of every reason.
        """
        left_out = set(harmless)
        refused = self.count(left_out)
        if refused <= most * total:
            return
        reasons = "; ".join(
            f"{reason} {len(ids)} ({', '.join(ids[:SHOWN])}{', …' if len(ids) > SHOWN else ''})"
            for reason, ids in sorted(self.ids.items())
            if reason not in left_out
        )
        raise UserError(
            f"{what}: {refused} of {total} refused ({100 * refused / max(total, 1):.2f} %), more than "
            f"{setting} allows ({100 * most:g} %): {reasons}"
        )
