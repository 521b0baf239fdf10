"""Is all there that a sweep needs here? One line per check: ok, warn or fail, with how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        level: ok, warn (it will run, but look at it) or fail (it will not run).
        check: what was looked at.
        text: what was seen.
        mend: how to mend it; empty if all is well.
    """

    level: str
    check: str
    text: str
    fix: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """The findings of all checks, one by one; a check that finds a mistake of the user fails with its message."""
    for name, check in checks:
        try:
            yield from check()
        except UserError as error:
            yield Finding(FAIL, name, str(error))


def line(finding: Finding) -> str:
    """A finding for a person."""
    return f"{finding.level:4}  {finding.check}: {finding.text}" + (f"\n      -> {finding.fix}" if finding.fix else "")


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    return asdict(finding)
