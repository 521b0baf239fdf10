"""How names break into lines."""

from __future__ import annotations

from analysis.document.formatting import break_lines


def test_names_break_where_words_join():
    lines = break_lines("selection.fraction=0.5,loss=dpo (baseline)", lambda line: len(line) <= 22)
    assert lines == ["selection.fraction=", "0.5,loss=dpo", "(baseline)"]
    assert break_lines("abcdef", lambda line: len(line) <= 4) == ["abcd", "ef"]
    assert break_lines("", lambda line: False) == [""]
