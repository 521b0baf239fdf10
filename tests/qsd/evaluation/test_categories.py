"""Categories of prompts travel from the prompts file through generate and evaluate, and change no other file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qsd.errors import UserError
from qsd.evaluation.categories import FILE, read_categories
from qsd.stages.evaluate import run as evaluate
from qsd.stages.generate import run as generate
from tests.qsd import tiny_pipeline, tiny_world
from tests.qsd.tiny_stages import TinyStages

PROMPTS = [("0", "a sun", "Sky"), ("1", "a moon", "Sky"), ("2", "a cat", "")]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def evaluated(world: TinyStages, prompts: Path, output: Path) -> list[dict[str, bytes]]:
    """The files of stages generate and evaluate of the base model for a prompts file."""
    settings = {"adapter": "none", "evaluation__prompts": str(prompts), "evaluation__splits": ["evaluation"]}
    images = world.run(generate, output / "generate", **settings)
    scores = world.with_inputs(generate=images).run(evaluate, output / "evaluate", **settings)
    return [files(images), files(scores)]


@pytest.mark.slow
def test_both_stages_write_them_and_nothing_else_changes(tmp_path: Path) -> None:
    tiny_pipeline.save(tmp_path / "model")
    tiny_world.write_rewards(tmp_path / "rewards")
    world = TinyStages(tmp_path, {})
    rows = [f"{number},{caption},evaluation" for number, caption, _ in PROMPTS]
    (tmp_path / "bare.csv").write_text("\n".join(["prompt_id,caption,split", *rows]) + "\n")
    divided = [f"{row},{category}" for row, (*_, category) in zip(rows, PROMPTS, strict=True)]
    (tmp_path / "divided.csv").write_text("\n".join(["prompt_id,caption,split,category", *divided]) + "\n")
    bare = evaluated(world, tmp_path / "bare.csv", tmp_path / "bare")
    assert not any(FILE in of_stage for of_stage in bare)
    for without, of_stage in zip(bare, evaluated(world, tmp_path / "divided.csv", tmp_path / "divided"), strict=True):
        assert json.loads(of_stage.pop(FILE)) == {"0": "Sky", "1": "Sky"}
        assert of_stage == without


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    assert read_categories(tmp_path) == {}
    for content in ("", "[]", '{"0": 1}'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(UserError, match=r"categories\.json: not a category for each prompt id"):
            read_categories(tmp_path)
