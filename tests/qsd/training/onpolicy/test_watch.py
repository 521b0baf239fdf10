"""The words about watched prompts: what has moved, and what is said where scores are no numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qsd.training.jsonl_log import JsonlLog
from qsd.training.onpolicy.watch import Watch, warning

COLUMNS = ("", "_change", "_change_se")


def row(**scores: tuple[float, float, float]) -> dict[str, Any]:
    """A row as the log gives it back: each score with its change and the standard error of that."""
    numbers = {
        f"{name}{column}": each for name, all_ in scores.items() for column, each in zip(COLUMNS, all_, strict=True)
    }
    return JsonlLog(None, 0).add({"steps": 5, "prompts": 4, **numbers})


def described(**scores: tuple[float, float, float]) -> str:
    """What a watch with one judge says of a row."""
    watch = object.__new__(Watch)
    watch._judges = {"judge": None}  # type: ignore[dict-item]
    return watch.describe(row(**scores))


def test_scores_with_their_changes() -> None:
    text = described(reward=(0.5, 0.25, 0.1), judge=(2.0, -1.0, 0.3))
    assert text == (
        "on 4 watched prompts: reward 0.5 (+0.25 ± 0.1), judge 2 (-1 ± 0.3); the reward has risen while judge fell: a "
        "sign of reward hacking"
    )


def test_a_symptom_that_falls_is_no_sign_of_hacking() -> None:
    """Less high-frequency texture is not worse."""
    rising, falling = (0.5, 0.25, 0.1), (2.0, -1.0, 0.3)
    assert warning(row(reward=rising, texture=falling), ["texture"]) == ""
    both = warning(row(reward=rising, texture=falling, judge_emoji=falling), ["texture", "judge_emoji"])
    assert "while judge_emoji fell" in both


NOTHING = (math.nan, math.nan, math.nan)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (NOTHING, "judge: no finite score"),
        ((math.inf, 0.1, 0.2), "judge: no finite score"),
        ((2.0, math.nan, math.nan), "judge 2 (no prompt has a finite score here and under the base model)"),
        ((2.0, -1.0, math.nan), "judge 2 (-1, without a standard error: one prompt has finite scores)"),
    ],
)
def test_scores_that_are_no_numbers_are_said_in_words(judge: tuple[float, float, float], words: str) -> None:
    assert described(reward=(0.5, 0.25, 0.1), judge=judge).endswith(f"reward 0.5 (+0.25 ± 0.1), {words}")


def test_no_score_at_all() -> None:
    assert described(reward=NOTHING, judge=NOTHING) == (
        "on 4 watched prompts: reward: no finite score, judge: no finite score"
    )


@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_no_number_is_no_sign_of_hacking(missing: float | None) -> None:
    rising = {"reward": 1.0, "reward_change": 1.0, "reward_change_se": 0.1}
    fallen = {"judge": 1.0, "judge_change": -1.0, "judge_change_se": 0.1}
    assert warning({**rising, **fallen}, ["judge"])
    for name in ("judge_change", "judge_change_se", "reward_change", "reward_change_se"):
        assert not warning({**rising, **fallen, name: missing}, ["judge"])
