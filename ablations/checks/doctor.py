"""Findings of the checks of ``ablate doctor``: one line each with ok, warn or fail, and how to fix the problem."""

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
    """The outcome of one check.

    Attributes:
        level: ok, warn (a sweep will run, but should be checked) or fail (it will not run).
        check: name of what was checked.
        text: what the check found.
        fix: how to fix the problem; empty if there is none.
    """

    level: str
    check: str
    text: str
    fix: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """The findings of all checks, one by one; a check that raises a ``UserError`` fails with its message."""
    for name, check in checks:
        try:
            yield from check()
        except UserError as error:
            yield Finding(FAIL, name, str(error))


def line(finding: Finding) -> str:
    """A finding as text for the terminal."""
    return f"{finding.level:4}  {finding.check}: {finding.text}" + (f"\n      -> {finding.fix}" if finding.fix else "")


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    return asdict(finding)
