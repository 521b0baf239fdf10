"""The stages data and select of a tiny world, done; what encode, train, generate and evaluate are tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from qsd.files import read_table, write_table
from qsd.models.denoiser import load_denoiser
from qsd.runtime import silent
from qsd.stages.data import run as data
from qsd.stages.encode import run as encode
from qsd.training.engine import Engine, Recipe
from qsd.training.offpolicy.method import PairsMethod
from qsd.training.processes import Processes
from tests.qsd import tiny_pipeline, tiny_world

PAIRS = 12


@dataclass(frozen=True)
class TinyStages:
    """Folders of a tiny world."""

    root: Path
    artefacts: dict[str, Path]

    def config(self, **settings: Any) -> Any:
        """An experiment on this world; dots in names are written as two underscores."""
        usual = {
            "model__path": str(self.root / "model"),
            "model__resolution": tiny_pipeline.RESOLUTION,
            "evaluation__prompts": str(self.root / "prompts.csv"),
            "training__steps": 4,
            "training__pairs_per_step": 4,
            "training__micro_batch": 4,
            "training__learning_rate": 1e-3,
            "lora__rank": 2,
            "generation__steps": 3,
        }
        return tiny_world.config(self.root / "pairs.parquet", self.root / "rewards", **{**usual, **settings})

    def run(self, stage: Any, output: Path, report: Any = silent, **settings: Any) -> Path:
        """Run a stage module on this world; returns ``output``."""
        stage.run(tiny_world.context(self.config(**settings), output, report, **self.artefacts))
        return output

    def with_inputs(self, **folders: Path) -> TinyStages:
        """The same world with other artefacts."""
        return TinyStages(self.root, {**self.artefacts, **folders})


def trainer(
    world: TinyStages, processes: Processes | None = None, shared: Path | None = None, **settings: Any
) -> Engine[PairsMethod]:
    """An engine with the method of pairs as the stage makes it, with its fresh adapter."""
    config = world.config(**settings)
    denoiser = load_denoiser(config.model.path, torch.device("cpu"), config.training.precision)
    method = PairsMethod(config, world.artefacts, denoiser, processes, shared)
    return Engine(method, Recipe.of_adapter(method.config.training))


def select(folder: Path, pair_ids: list[str], weights: list[float] | None = None) -> Path:
    """The artefact of a select stage that keeps these pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {
        "pair_id": pa.array(pair_ids, pa.string()),
        "quality": pa.array([0.0] * len(pair_ids), pa.float64()),
        "weight": pa.array(weights or [1.0] * len(pair_ids), pa.float64()),
        "rank": pa.array(range(len(pair_ids)), pa.int32()),
    }
    write_table(folder / "selected.parquet", pa.table(columns))
    return folder


def pair_ids(world: TinyStages) -> list[str]:
    """All pairs of the world, in the order of the source."""
    return [str(name) for name in read_table(world.artefacts["data"] / "pairs.parquet")["pair_id"].to_pylist()]


def make(root: Path) -> TinyStages:
    """Pipeline, reward models, data, a selection of all pairs, their encoding, prompts."""
    tiny_pipeline.save(root / "model")
    tiny_world.write_rewards(root / "rewards")
    tiny_world.write_rows(root / "pairs.parquet", tiny_world.good_rows(PAIRS))
    lines = [
        "prompt_id,caption,split",
        *(f"p{n},prompt {n},{'seen' if n % 3 == 0 else 'evaluation'}" for n in range(9)),
    ]
    (root / "prompts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    world = TinyStages(root, {})
    world = world.with_inputs(data=world.run(data, root / "data"))
    world = world.with_inputs(select=select(root / "select", pair_ids(world)))
    return world.with_inputs(encode=world.run(encode, root / "encode"))
