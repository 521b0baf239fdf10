"""The ways to train that are timed: steps of the public script, and of this project's loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from qsd.config.schema import ExperimentConfig
from qsd.data.images import PairImages, pair_image_number
from qsd.data.opening import open_source
from qsd.device import prepare
from qsd.encoding.pixels import to_pixels
from qsd.files import read_table, write_table
from qsd.models.denoiser import Denoiser, load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.runtime import StageContext
from qsd.stages.data import run as data
from qsd.stages.encode import run as encode
from qsd.training.engine import Engine, Recipe
from qsd.training.offpolicy.method import PairsMethod
from scripts.bench.public_step import PublicStep

README, PUBLIC = "public step as its README runs it", "public step without checkpointing"
ONLINE, SHARED = "this loop, reference computed", "this loop, reference found"
WAYS = (README, PUBLIC, ONLINE, SHARED)


class Ways:
    """All of them over the same pairs, as functions that make one step.

    Args:
        config: of the training; the adapter and the precision are those of every way.
        folder: with the artefacts of ``prepare_artefacts``; gets the reference errors that are shared.
    """

    def __init__(self, config: ExperimentConfig, folder: Path) -> None:
        self.config = config
        self.device = torch.device(prepare(config.device, config.threads))
        self.shared = folder / "reference"
        self._inputs = {name: folder / name for name in ("data", "select", "encode")}

    def way(self, name: str) -> Callable[[int], object]:
        """Make one step of a way; the argument is its number."""
        if name in (README, PUBLIC):
            return self._public(checkpointing=name == README)
        engine = self.engine(self.shared if name == SHARED else None)
        engine.method.batches.__enter__()  # for as long as this process lives
        return engine.step

    def engine(self, shared: Path | None) -> Engine[PairsMethod]:
        """The project's; with the folder of shared reference errors, or computing them."""
        denoiser = self._denoiser()
        if self.config.training.gradient_checkpointing:
            denoiser.use_checkpointing()
        method = PairsMethod(self.config, self._inputs, denoiser, shared_errors=shared)
        if self.config.training.compile:
            denoiser.compile()
        return Engine(method, Recipe.of_adapter(method.config.training))

    def fill(self, steps: int) -> None:
        """Have the store hold the reference errors of these steps, as another cell's training leaves it."""
        with self.engine(self.shared).method.batches as batches:
            for number in range(steps):
                batches.take(number)

    def _public(self, checkpointing: bool) -> Callable[[int], object]:
        from peft import LoraConfig

        config = self.config
        rows = read_table(self._inputs["data"] / "pairs.parquet").to_pylist()[: config.training.pairs_per_step]
        images = PairImages(open_source(config.data))
        sides = [
            to_pixels(
                [images.image(pair_image_number(row["source_row"], side)) for row in rows], config.model.resolution
            )
            for side in ("winner", "loser")
        ]
        pixels = torch.cat(sides, dim=1).to(self.device)
        towers = load_text_encoder(config.model.path, self.device).towers
        ids = [
            tower.tokenizer(
                [row["caption"] for row in rows], padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids.to(self.device)
            for tower in towers
        ]
        lora = LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.rank,
            init_lora_weights="gaussian",
            target_modules=list(config.lora.targets),
        )
        step = PublicStep(
            self._denoiser(),
            load_image_encoder(config.model.path, self.device).vae,
            [tower.model for tower in towers],
            lora,
            config.training.learning_rate,
            config.loss.beta / 2,
            config.training.precision,
            checkpointing,
        )
        return lambda number: step(pixels, ids)

    def _denoiser(self) -> Denoiser:
        return load_denoiser(self.config.model.path, self.device, self.config.training.precision)

    def clock(self) -> float:
        """Seconds: on the wall once a GPU has done what it was given; of the processor, all threads, on a CPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def peak_bytes(self) -> int:
        """Of this process: memory of the GPU, or of the whole process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def prepare_artefacts(config: ExperimentConfig, folder: Path) -> None:
    """The stages data and encode, and a selection of all pairs, as folders of these names."""
    inputs: dict[str, Path] = {}
    for name, stage in (("data", data), ("encode", encode)):
        inputs[name] = folder / name
        inputs[name].mkdir()
        stage.run(StageContext(config, inputs, inputs[name]))
    ids = read_table(folder / "data" / "pairs.parquet")["pair_id"]
    columns: dict[str, Any] = {"pair_id": ids, "weight": pa.array(np.ones(len(ids)))}
    (folder / "select").mkdir()
    write_table(folder / "select" / "selected.parquet", pa.table(columns))
