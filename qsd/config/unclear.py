"""Numbers of YAML 1.1 that mean another number than they show. Apart, because checks need no YAML library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unclear:
    """A scalar such as ``00123``, of which YAML 1.1 makes another number than it shows; no field takes it.

    It is shown in messages as it is written, with what to write instead.
    """

    text: str

    @property
    def in_quotes(self) -> str:
        """What to write where text is wanted: as a number it would lose its zeros or underscores."""
        return f"{self._written}; put it in quotes: '{self._written}'"

    @property
    def _written(self) -> str:
        return self.text if len(self.text) <= 24 else f"{self.text[:21]}..."

    def __repr__(self) -> str:
        sign, digits = ("-", self.text[1:]) if self.text[0] == "-" else ("", self.text.removeprefix("+"))
        plain = f"{sign}{int(digits)}" if digits.isdecimal() and len(digits) <= 24 else "a plain number"
        return f"{self._written} (write {plain}, or put it in quotes where text is meant)"
