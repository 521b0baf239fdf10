"""Other people's text in a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qsd.printable import is_printable, printable


def test_escapes() -> None:
    assert printable("a\x1b[31m\x9b\n\u202e\ud83d b") == r"a\x1b[31m\x9b\x0a\u202e\ud83d b"
    assert printable("a\nb", keep="\n") == "a\nb"
    for harmless in ("a b", "naïve café", "日本", "\u00a0", "\U0001f468\u200d\U0001f469"):
        assert is_printable(harmless)
        assert printable(harmless) == harmless


@given(st.text(st.characters()))
def test_what_is_printed_can_be_written_and_moves_no_cursor(text: str) -> None:
    shown = printable(text)
    assert is_printable(shown)
    assert not any(ord(character) < 32 for character in shown)
    shown.encode()
