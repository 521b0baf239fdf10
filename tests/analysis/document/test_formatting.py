"""How names break into lines, and how numbers are rounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.data.rows import Mark
from analysis.document.formatting import break_lines, format_p, signed
from tests.analysis.document.test_verdict import comparison


def test_names_break_where_words_join():
    lines = break_lines("selection.fraction=0.5,loss=dpo (baseline)", lambda line: len(line) <= 22)
    assert lines == ["selection.fraction=", "0.5,loss=dpo", "(baseline)"]
    assert break_lines("abcdef", lambda line: len(line) <= 4) == ["abcd", "ef"]
    assert break_lines("", lambda line: False) == [""]


@pytest.mark.parametrize(("value", "text"), [(-0.00004, "+0.000"), (-0.0006, "-0.001"), (0.0, "+0.000"), (2, "+2.000")])
def test_nothing_is_less_than_zero_by_rounding(value, text):
    assert signed(value, 3) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0499, "0.0499"), (0.04996, "0.04996"), (0.05, "0.05"), (0.031, "0.031"), (0.0501, "0.05"), (1.0, "1")],
)
def test_no_p_value_is_rounded_to_the_level_that_it_is_below(p, text):
    assert format_p(replace(comparison(), mark=Mark(p, "Holm", p < 0.05))) == text
    assert format_p(None) == format_p(comparison()) == "—"
