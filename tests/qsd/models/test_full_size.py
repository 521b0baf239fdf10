"""The scripts that run published architectures with random weights, here at the smallest size."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from scripts.full_size import write
from scripts.full_size.architectures import ARCHITECTURES
from scripts.full_size.compare import compare

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages
from tests.qsd.models.smallest import RESOLUTION, counts, smallest


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_as_many_parameters_as_the_published_ones(name: str) -> None:
    assert counts(ARCHITECTURES[name]) == ARCHITECTURES[name].parameters


def test_a_part_of_another_size_is_not_written(tmp_path: Path) -> None:
    wrong = replace(smallest("sd15"), parameters={"unet": 1})
    with pytest.raises(AssertionError, match=r"unet has [0-9,]+ parameters, not 1"):
        write.write(tmp_path, wrong, torch.float32)


@pytest.mark.slow
def test_the_stock_pipeline_draws_the_projects_picture(world: TinyStages, tmp_path: Path) -> None:
    """What the script finds at full size: the difference is rounding with the adapter, and more without."""
    write.write(tmp_path / "model", smallest("sdxl"), torch.bfloat16)
    generation = {"steps": 2, "guidance_scale": 3, "precision": "bf16"}
    (tmp_path / "experiment.yaml").write_text(
        json.dumps({"model": {"resolution": RESOLUTION}, "generation": generation})
    )
    settings = {
        "model__path": str(tmp_path / "model"),
        "model__resolution": RESOLUTION,
        "training__steps": 2,
        "training__learning_rate": 0.1,
        "training__precision": "bf16",
        "evaluation__prompts_per_split": 1,
        **{f"generation__{field}": value for field, value in generation.items()},
    }
    done = world.with_inputs(encode=world.run(encode, tmp_path / "encode", **settings))
    done = done.with_inputs(train=done.run(train, tmp_path / "train", **settings))
    done.run(generate, tmp_path / "generate", **settings)
    differences = compare(tmp_path)
    print(differences)
    assert differences.after.largest <= 6
    assert differences.before.largest > 4 * differences.after.largest
    assert differences.spread > 50
