"""Test accuracy of reward models: the published protocols by hand, and against other forms of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd import cli_rewards
from qsd.data.annotators import agreement
from qsd.data.problems import Problems
from qsd.errors import UserError
from qsd.reward_training import accuracy
from qsd.reward_training.evaluate import ReadRanks, best_threshold, result, scored
from qsd.reward_training.groups import RankedImages, Refused, protocol_of, read_groups
from qsd.reward_training.report import accuracy_lines
from tests.qsd import tiny_choices, tiny_lists
from tests.qsd.tiny_world import picture, write_rewards


def test_hps_accuracy_by_hand() -> None:
    ranks = [1.0, 2.5, 2.5, 4.0]
    assert accuracy.ranking_accuracy([9, 5, 6, 1], ranks) == 1.0
    assert accuracy.ranking_accuracy([9, 6, 5, 1], ranks) == 1.0, "pairs of equal rank are right either way"
    assert accuracy.ranking_accuracy([1, 5, 6, 9], ranks) == pytest.approx(1 / 6), "but for the tie all are wrong"
    assert accuracy.ranking_accuracy([9, 1, 6, 5], ranks) == pytest.approx(5 / 6)


def test_equal_scores_count_as_listed() -> None:
    assert accuracy.ranking_accuracy([0, 0, 0], [1, 2, 3]) == 1.0
    assert accuracy.ranking_accuracy([0, 0, 0], [3, 2, 1]) == 0.0
    assert accuracy.ranking_accuracy([1, 0, 0], [3, 1, 2]) == pytest.approx(1 / 3)


def test_image_reward_accuracy_by_hand() -> None:
    assert accuracy.strict_counts([3, 2, 1], [1, 2, 3]) == (3, 3)
    assert accuracy.strict_counts([3, 3, 1], [1, 2, 3]) == (2, 3), "equal scores are wrong"
    assert accuracy.strict_counts([3, 1, 2], [1, 2, 2]) == (2, 2), "equal ranks are left out"
    assert accuracy.strict_counts([3, 1], [2, 2]) == (0, 0)


def test_image_reward_accuracy_is_over_pairs_and_hps_table_over_groups() -> None:
    labels = ReadRanks([[1, 2], [1, 2, 3], [1, 1]], [[], [], []], Problems())
    scores = [np.array([0.0, 1.0]), np.array([2.0, 1.0, 0.0]), np.array([0.0, 1.0])]
    measured = result(Fixed({}), scores, labels, "image_reward")  # type: ignore[arg-type]
    assert measured.accuracy == pytest.approx(3 / 4), "three of four pairs, all groups together"
    assert measured.over_groups == pytest.approx(1 / 2), "one group wrong, one right, one without unequal ranks"
    lines = list(accuracy_lines({"fixed": measured}, labels, "image_reward"))
    assert any("over pairs" in line and "over groups" in line and "equal scores" in line for line in lines)
    assert any("75.00%" in line and "50.00%" in line for line in lines)


def test_pickscore_accuracy_by_hand() -> None:
    labels = [1.0, 0.0, 0.5, 0.5, 1.0]
    predicted = [0.9, 0.8, 0.52, 0.9, 0.52]
    assert accuracy.tied_accuracy(predicted, labels, 0.0) == pytest.approx((1 + 0 + 0.5 + 0.5 + 1) / 5)
    assert accuracy.tied_accuracy(predicted, labels, 0.1) == pytest.approx((1 + 0 + 1 + 0.5 + 0.5) / 5)


@given(st.data())
def test_published_forms_agree(data: st.DataObject) -> None:
    """The published loops over places, written independently."""
    count = data.draw(st.integers(2, 6))
    scores = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    ranks = data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    order = sorted(range(count), key=lambda place: -scores[place])
    places = [order.index(place) for place in range(count)]
    inversions = told = right = 0
    for i, j in itertools.combinations(range(count), 2):
        inversions += (places[i] > places[j] and ranks[i] < ranks[j]) or (places[i] < places[j] and ranks[i] > ranks[j])
        told += ranks[i] != ranks[j]
        right += (ranks[i] > ranks[j] and scores[i] < scores[j]) or (ranks[i] < ranks[j] and scores[i] > scores[j])
    assert accuracy.ranking_accuracy(scores, ranks) == pytest.approx(1 - inversions / (count * (count - 1) / 2))
    assert accuracy.strict_counts(scores, ranks) == (right, told)


@pytest.mark.parametrize("ranks", [[1, 2, 3], [1, 1, 2, 3], [2, 2, 2], [1.25, 2.5, 3.75, 2.5]])
def test_chance_is_the_mean_over_all_orders(ranks: list[float]) -> None:
    reached = [accuracy.ranking_accuracy(order, ranks) for order in itertools.permutations(range(len(ranks)))]
    assert accuracy.chance(ranks) == pytest.approx(np.mean(reached))


def test_annotators_by_hand() -> None:
    people = [[1, 2, 3], [1, 2, 3], [3, 2, 1]]
    mean = [5 / 3, 2, 7 / 3]
    assert accuracy.against_the_rank(people, mean) == pytest.approx((1 + 1 + 0) / 3)
    # The others of the first are one each way, a tie everywhere, so all right; of the last two alike, so all wrong.
    assert accuracy.against_the_others(people) == pytest.approx((1 + 1 + 0) / 3)
    assert accuracy.against_the_others(people[:1]) is None
    # Of three pairs of people two disagree on every pair of images.
    assert agreement(people) == pytest.approx(1 / 3)
    assert agreement(people[:1]) is None


@given(st.data())
def test_agreement_is_the_accuracy_of_one_annotator_against_another(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    places = st.permutations(range(count))
    people = data.draw(st.lists(places, min_size=2, max_size=5))
    against = [
        accuracy.ranking_accuracy([-place for place in one], other) for one, other in itertools.combinations(people, 2)
    ]
    assert agreement(people) == pytest.approx(np.mean(against))


class Fixed:
    """A scorer that knows its scores by caption, one list per group."""

    name, revision, unit, resolution = "fixed", "", "logit", 32

    def __init__(self, scores: dict[str, list[float]]) -> None:
        self.scores = {caption: iter(values) for caption, values in scores.items()}

    def score(self, images: list, captions: list[str]) -> np.ndarray:
        return np.array([next(self.scores[caption]) for caption in captions], dtype=np.float32)


def test_groups_are_averaged_and_refused_ones_counted(tmp_path: Path) -> None:
    groups = [
        RankedImages("a", "a", [picture(0), picture(1)], [1, 2]),
        Refused("b", "missing_image"),
        RankedImages("c", "c", [picture(2), picture(3), picture(4)], [1, 2, 2], [[1, 2, 3], [2, 3, 1]]),
    ]
    fixed = Fixed({"a": [1, 0], "c": [0, 1, 1]})
    scores, labels = scored(fixed, iter(groups), 2, 0.5, "some groups")  # type: ignore[arg-type]
    assert labels.problems.ids == {"missing_image": ["b"]}
    measured = result(fixed, scores, labels, "hps_v2")  # type: ignore[arg-type]
    assert measured.accuracy == pytest.approx((1 + 1 / 3) / 2)
    assert (measured.groups, measured.equal_scores, labels.ties) == (2, 1, 1)
    with pytest.raises(UserError, match=r"1 of 3 refused.*missing_image 1 \(b\)"):
        scored(Fixed({"a": [1, 0], "c": [0, 1, 1]}), iter(groups), 2, 0.02, "some groups")  # type: ignore[arg-type]


def test_pairs_with_ties_by_probability() -> None:
    labels = ReadRanks([[1, 2], [1, 1], [2, 1]], [[], [], []], Problems())
    scores = [np.array([1.0, 0.0]), np.array([0.0, 0.01]), np.array([0.0, 1.0])]
    fixed = Fixed({})
    assert result(fixed, scores, labels, "pairs").accuracy == pytest.approx(2.5 / 3)  # type: ignore[arg-type]
    assert result(fixed, scores, labels, "pairs", 0.1).accuracy == 1.0  # type: ignore[arg-type]
    assert best_threshold(fixed, scores, labels) == 0.1  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than two images"):
        result(fixed, [np.zeros(3)], ReadRanks([[1, 2, 3]], [[]], Problems()), "pairs")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rank": [1, 2, 3]}, "uneven_lists"),
        ({"raw_annotations": [{"rank": [1]}]}, "uneven_lists"),
        ({"rank": [1, "2", 3, 4]}, "label_out_of_range"),
        ({"image_path": ["a.jpg"], "rank": [1]}, "single_image"),
        ({"image_path": ["none.jpg"] * 4}, "missing_image"),
        ({"image_path": ["../../etc/passwd"] * 4}, "path_outside_folder"),
        ({"prompt": " "}, "empty_caption"),
    ],
)
def test_damaged_groups_are_named(tmp_path: Path, change: dict, reason: str) -> None:
    path = tiny_choices.write_groups(tmp_path, count=2)
    items = json.loads(path.read_text())
    path.write_text(json.dumps([items[0], {**items[1], **change}]))
    good, bad = read_groups(path)
    assert isinstance(good, RankedImages)
    assert len(good.annotations) == 3
    assert bad == Refused("item-1", reason)


def test_a_cut_off_image_is_found(tmp_path: Path) -> None:
    path = tiny_choices.write_groups(tmp_path, count=1)
    name = json.loads(path.read_text())[0]["image_path"][2]
    (tmp_path / "test" / name).write_bytes(picture(5)[:200])
    assert list(read_groups(path)) == [Refused("item-0", "corrupt_image")]


def test_layouts_and_their_protocols(tmp_path: Path) -> None:
    pairs = tiny_lists.some_pairs(4)
    written = {
        "hps_v2": tiny_lists.hpd_test(tmp_path / "h", pairs),
        "image_reward": tiny_lists.rankings(tmp_path / "i", pairs),
        "pairs": tiny_lists.hpd_train(tmp_path / "p", pairs),
    }
    for protocol, path in written.items():
        assert protocol_of(path) == protocol
        groups = [group for group in read_groups(path) if isinstance(group, RankedImages)]
        assert [group.caption for group in groups] == [pair.caption for pair in pairs]
        for group, pair in zip(groups, pairs, strict=True):
            assert group.files[int(np.argmin(group.ranks))] == pair.winner


def test_ties_among_pairs_are_read_with_their_images(tmp_path: Path) -> None:
    path = tiny_lists.hpd_train(tmp_path, tiny_lists.some_pairs(3))
    items = json.loads(path.read_text())
    items[1]["human_preference"] = [0.5, 0.5]
    path.write_text(json.dumps(items))
    groups = list(read_groups(path))
    assert [group.ranks for group in groups if isinstance(group, RankedImages)] == [[1, 2], [1, 1], [1, 2]]


def test_the_published_list_of_hpd_v2_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys and types as published: places from 0 under ``annotation``, hashes as signed integers, a permutation."""
    path = tiny_lists.hpd_published(tmp_path)
    first, second = (group for group in read_groups(path) if isinstance(group, RankedImages))
    assert first.annotations == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 1, 3, 0]]
    assert (first.ranks, second.ranks) == ([0, 1, 3, 2], [2, 3, 1, 0])
    weights = write_rewards(tmp_path / "rewards")
    cli_rewards.accuracy(["clip_emoji"], path, weights, device="cpu")
    printed = capsys.readouterr().out
    assert "2 groups, 12 pairs in them, 0 of equal rank" in printed
    assert "one annotator          75.00%  against the rank of all" in printed
    assert "55.56%  against another annotator" in printed


@pytest.mark.parametrize(("people", "message"), [([{"ranks": [1]}], "'annotation' or 'rank'; it has ranks"), ({}, "")])
def test_annotations_of_another_layout_are_refused_with_their_keys(
    tmp_path: Path, people: object, message: str
) -> None:
    path = tiny_choices.write_groups(tmp_path, count=2)
    items = json.loads(path.read_text())
    path.write_text(json.dumps([items[0], {**items[1], "raw_annotations": people}]))
    with pytest.raises(UserError, match=f"item 1: .*{message}"):
        list(read_groups(path))


def test_the_command_prints_all_that_bounds_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_rewards(tmp_path / "rewards")
    path = tiny_choices.write_groups(tmp_path / "data", count=3)
    cli_rewards.accuracy(["clip_emoji", "judge_emoji"], path, weights, device="cpu")
    printed = capsys.readouterr().out
    assert "3 groups, 18 pairs in them" in printed
    for words in (
        "clip_emoji ",
        "judge_emoji ",
        "a random order",
        "one annotator",
        "against the rank of all",
        "against the mean place given by the others",
        "against another annotator",
    ):
        assert words in printed
    pairs = tiny_lists.hpd_train(tmp_path / "pairs", tiny_lists.some_pairs(4))
    cli_rewards.accuracy(["clip_emoji"], pairs, weights, validation=pairs, device="cpu")
    printed = capsys.readouterr().out
    assert "clip_emoji: threshold 0" in printed
    assert "protocol pairs" in printed
    with pytest.raises(UserError, match="belong to protocol pairs, not to hps_v2"):
        cli_rewards.accuracy(["clip_emoji"], path, weights, threshold=0.1)
    with pytest.raises(UserError, match="did you mean"):
        cli_rewards.accuracy(["clip_emoji"], path, weights, protocol="hps")
