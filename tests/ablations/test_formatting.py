"""Times, sizes and counts in words: one way each, for plans, logs and tables."""

from __future__ import annotations

import pytest

from ablations.formatting import format_bytes, format_count, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (65, "1 min 05 s"),
        (101, "1 min 41 s"),
        (599, "9 min 59 s"),
        (600, "10 min"),
        (3569, "59 min"),
        (3590, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (172_799, "2 d 0 h"),
        (450_000, "5 d 5 h"),
    ],
)
def test_a_time_has_one_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_counts_and_sizes() -> None:
    assert [format_count(number, "stage") for number in (0, 1, 2, 1200)] == [
        "0 stages",
        "1 stage",
        "2 stages",
        "1,200 stages",
    ]
    assert format_count(1, "stage that needs", "stages that need") == "1 stage that needs"
    assert format_count(2, "stage that needs", "stages that need") == "2 stages that need"
    assert [format_bytes(count) for count in (999, 1000, 2e12)] == ["999 B", "1 kB", "2.0 TB"]
