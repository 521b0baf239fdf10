"""Validation of a data set before it is used: every row that is not a pair, by reason and name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qsd.data.examine import HARMLESS, REASONS, examine_rows
from qsd.data.pairs import PreferencePair, SourceRow
from qsd.data.votes import Judgements
from qsd.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.data.source import PairSource
    from qsd.runtime import Report


@dataclass
class ValidationResult:
    """The result of :func:`validate`: names of refused rows by reason, in the order of the source."""

    rows: int = 0
    pairs: set[str] = field(default_factory=set)
    judgements: Judgements = field(default_factory=Judgements)
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def damaged(self) -> int:
        """Number of refused rows, without harmless ones such as ties."""
        return sum(len(names) for reason, names in self.problems.items() if reason not in HARMLESS)

    @property
    def passed(self) -> bool:
        """True when there are pairs and no damage."""
        return bool(self.pairs) and not self.damaged

    def add(self, row: SourceRow, result: tuple[str, str] | PreferencePair) -> None:
        """Count one row."""
        self.rows += 1
        if not isinstance(result, PreferencePair):
            reason = result[1]
        elif repeated := self.judgements.add(result.pair_id, result.annotator_id):
            reason = repeated
        else:
            self.pairs.add(result.pair_id)
            return
        images = ", ".join(name for name in (row.winner_name, row.loser_name) if name)
        self.problems.setdefault(reason, []).append(f"{row.name} ({images})" if images else row.name)

    def lines(self) -> Iterator[str]:
        """Every problem on a line below its reason, then a summary line."""
        for reason, names in sorted(self.problems.items()):
            yield f"{reason}: {len(names):,} ({REASONS[reason]})"
            if reason not in HARMLESS:
                yield from (f"  {printable(name)}" for name in names)
        yield f"{len(self.pairs):,} pairs in {self.rows:,} rows; {self._summary()}"

    def _summary(self) -> str:
        if self.damaged:
            return f"{self.damaged:,} damaged ({100 * self.damaged / self.rows:.2f} %)"
        return "no damage" if self.pairs else "nothing to train on"


def validate(source: PairSource, threads: int, report: Report) -> ValidationResult:
    """Examine every row of a source; reads and decodes each image once."""
    validation = ValidationResult()
    for row, result in examine_rows(source, 0, len(source), threads):
        validation.add(row, result)
        report(validation.rows, len(source), "rows")
    return validation
