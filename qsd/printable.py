"""Text of other people, in a form that can be printed: it changes neither a terminal nor the order of a line."""

from __future__ import annotations

import re

# Control characters (escape sequences of terminals begin with one), line and paragraph separators, marks that turn the
# direction of writing, and halves of surrogate pairs, which no file can hold.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with every character that is not to be printed as its escape, such as ``\x1b``; ``keep`` stays."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def is_printable(text: str) -> bool:
    """True if :func:`printable` changes nothing."""
    return _UNPRINTABLE.search(text) is None


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
