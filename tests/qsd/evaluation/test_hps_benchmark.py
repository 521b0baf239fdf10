"""The benchmark's numbers by hand, and what is refused rather than shifted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qsd.config.schema import EvaluationConfig
from qsd.data.prompts import read_prompts
from qsd.data.style_lists import STYLES, read_styles
from qsd.errors import UserError
from qsd.evaluation.hps_benchmark import image_paths, summarise
from qsd.evaluation.hps_published import NOTE, PUBLISHED, lines

if TYPE_CHECKING:
    from pathlib import Path


def test_mean_and_population_deviation_of_ten_groups_in_order() -> None:
    # Groups of two, in order: (0.20, 0.22) five times, then (0.30, 0.32) five times: group means 21 and 31.
    anime = [0.20, 0.22] * 5 + [0.30, 0.32] * 5
    result = summarise({"anime": anime, "photo": [0.1] * 10})
    assert result.styles["anime"].mean == pytest.approx(26.0, abs=1e-12)
    assert result.styles["anime"].std == pytest.approx(5.0, abs=1e-12)  # with n - 1 it would be 5.27
    assert result.styles["photo"].std == pytest.approx(0.0, abs=1e-12)
    assert result.overall == pytest.approx((20 * 26.0 + 10 * 10.0) / 30, abs=1e-12)  # over images, not over styles
    assert [(style.images) for style in result.styles.values()] == [20, 10]


def test_the_order_of_the_file_makes_the_groups() -> None:
    mixed = [0.20, 0.30] * 10  # every group has one of each: no spread, while the sorted list has the largest
    assert summarise({"anime": mixed}).styles["anime"].std == pytest.approx(0.0, abs=1e-12)
    assert summarise({"anime": sorted(mixed)}).styles["anime"].std == pytest.approx(5.0, abs=1e-12)


def test_eight_hundred_prompts_make_groups_of_eighty() -> None:
    scores = [0.25] * 720 + [0.35] * 80  # nine groups of 25 and one of 35
    style = summarise({"anime": scores}).styles["anime"]
    assert style.mean == pytest.approx(26.0, abs=1e-9)
    assert style.std == pytest.approx(3.0, abs=1e-9)  # sqrt(0.9 * 1 + 0.1 * 81)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "at least one style"),
        ({"anime": []}, "anime: 0 images make no 10 equal groups"),
        ({"anime": [0.2] * 799}, "anime: 799 images make no 10 equal groups; give a multiple of 10"),
        ({"anime": [0.2] * 9 + [float("nan")]}, "anime: the score of image 00009 is nan; 1 are not finite"),
    ],
)
def test_what_makes_no_result_is_refused(scores: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        summarise(scores)


def write_styles(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for style in (*STYLES, "drawbench"):
        (folder / f"{style}.json").write_text(json.dumps([f"{style} {number}" for number in range(count)]))
    return folder


def test_prompts_by_style_in_the_order_of_the_file(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "benchmark")
    prompts = read_styles(folder)
    assert list(prompts) == list(STYLES)
    assert prompts["photo"] == ["photo 0", "photo 1", "photo 2"]
    assert list(read_styles(folder, ["drawbench"])) == ["drawbench"]
    with pytest.raises(UserError, match=r"no prompts of style 'painting' \(did you mean 'paintings'\?\)"):
        read_styles(folder, ["painting"])
    (folder / "anime.json").write_text('["a", " "]')
    with pytest.raises(UserError, match=r"anime\.json: prompt 1 is empty"):
        read_styles(folder)
    (folder / "anime.json").write_text("[]")
    with pytest.raises(UserError, match=r"anime\.json: no prompts"):
        read_styles(folder)
    (folder / "anime.json").write_text('["a", {"prompt": "b"}]')
    with pytest.raises(UserError, match=r"anime\.json:1: must be a list of texts"):
        read_styles(folder)


def test_the_folder_of_styles_serves_as_prompts_of_an_evaluation(tmp_path: Path) -> None:
    folder = write_styles(tmp_path / "benchmark")
    evaluation = EvaluationConfig(str(folder), ["photo", "anime"], 2, ["judge_emoji"])
    prompts = [(prompt.prompt_id, prompt.caption, prompt.split) for prompt in read_prompts(evaluation)]
    assert prompts == [
        ("photo/00000", "photo 0", "photo"),
        ("photo/00001", "photo 1", "photo"),
        ("anime/00000", "anime 0", "anime"),
        ("anime/00001", "anime 1", "anime"),
    ]
    with pytest.raises(UserError, match="a folder without"):
        read_prompts(EvaluationConfig(str(tmp_path), ["photo"], 2, ["judge_emoji"]))


def test_a_missing_image_is_an_error_and_no_shift(tmp_path: Path) -> None:
    prompts = read_styles(write_styles(tmp_path / "benchmark"))
    images = tmp_path / "images"
    for style in STYLES:
        (images / style).mkdir(parents=True)
        for number in range(3):
            (images / style / f"{number:05d}.jpg").write_bytes(b"x")
    (images / "a folder that is no style").mkdir()
    paths = image_paths(images, prompts)
    assert list(paths) == list(STYLES)
    assert paths["photo"][2] == images / "photo" / "00002.jpg"
    (images / "photo" / "00001.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 12 images are missing \(photo/00001\.jpg\); .*shift the groups"):
        image_paths(images, prompts)


def test_published_rows_stand_below_the_own_one() -> None:
    own = summarise({style: [0.30] * 10 for style in STYLES})
    shown = list(lines("mine", own, "v2.1"))
    assert shown[1].split() == ["mine", *(["30.00", "(std", "0.00)"] * 4), "30.00"]
    assert [line.split("  ")[0] for line in shown[2:-1]] == list(PUBLISHED["v2.1"])
    assert shown[-1] == NOTE
    assert NOTE not in list(lines("mine", own, "v2.0"))
    assert len(list(lines("mine", summarise({"noto": [0.3] * 10}), "v2.1"))) == 2


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_averages_are_those_of_their_styles(version: str) -> None:
    for model, (*styles, average) in PUBLISHED[version].items():
        assert sum(styles) / len(STYLES) == pytest.approx(average, abs=0.0101), model
