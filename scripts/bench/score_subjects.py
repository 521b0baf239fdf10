"""Parts of the scoring benchmarks: real images on disk, a reward model with random weights, and the ways to score."""

from __future__ import annotations

import io
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from qsd.config.load import build, defaults, override
from qsd.data.distinct import distinct
from qsd.data.images import PairImages, decode
from qsd.data.opening import open_source
from qsd.files import read_table
from qsd.rewards.aesthetic import AestheticScorer
from qsd.rewards.clip import ClipScorer
from qsd.rewards.image_reward import ImageRewardScorer
from qsd.rewards.opening import open_reward
from qsd.rewards.requests import requests_of
from qsd.rewards.scorer import Scorer
from qsd.runtime import StageContext, silent
from qsd.scoring.compute import ScoringJob, compute_scores
from qsd.scoring.precision import computing
from qsd.scoring.scorer_runs import ScorerRun, column_of
from qsd.stages.data import run as data
from scripts.parity import full_size
from scripts.parity.sizes import CLIP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMOJI = "experiments/emoji/assets/pairs.parquet"
SIDE = 512
"""Pixels per side of the images: emoji of 64 pixels, enlarged with Pillow's bicubic filter."""
REDUCIBLE = ("hps_v2", "hps_v2.1", "pickscore", "pickscore_cosine", "clip_score")


@dataclass
class Subject:
    """A reward model on a device, and requests of distinct images and captions.

    Attributes:
        scorer: loaded.
        column: its column.
        work: the requests; their images are in a parquet file in Pick-a-Pic's layout.
        folder: for what is written.
    """

    scorer: Scorer
    column: ScorerRun
    work: ScoringJob
    folder: Path

    @property
    def count(self) -> int:
        """Images."""
        return len(self.work.requests)

    def ready(self) -> torch.Tensor:
        """All images as the model takes them, float (N, 3, S, S) on the device."""
        prepare = self.column.preprocess
        images = (self.work.images.image(number) for number in self.work.requests.images[: self.count].tolist())
        return torch.stack([prepare.one(image) for image in images]).to(self.work.device)

    def captions(self, first: int, last: int) -> list[str]:
        """Of the requests ``first`` to ``last - 1``."""
        return self.work.requests.captions_of(first, last)

    def from_files(self, number: int, precision: str = "fp32") -> float:
        """Seconds from files on disk to scores on disk, by the code of the score stage; the model is loaded already."""
        column = replace(self.column, precision=precision)
        work = replace(self.work, root=self.folder / f"scores-{number}-{precision}-{column.batch_size}")
        _wait(work.device)
        begin = time.perf_counter()
        with patch("qsd.scoring.compute.open_reward", lambda *_: self.scorer):
            compute_scores(work, [column], silent)
        seconds = time.perf_counter() - begin
        assert work.scores(column) is not None
        return seconds

    def forward(self, pixels: torch.Tensor, precision: str = "fp32") -> tuple[float, torch.Tensor]:
        """Seconds of the bare forward pass on ready pixels and tokens in the same batches, and the scores."""
        size = self.column.batch_size
        batches = [(first, min(first + size, self.count)) for first in range(0, self.count, size)]
        tokens = [bare_inputs(self.scorer, self.captions(*batch), self.work.device) for batch in batches]
        _wait(self.work.device)
        begin = time.perf_counter()
        with torch.inference_mode(), computing(precision, self.work.device):
            scores = [
                bare(self.scorer, pixels[first:last], given)
                for (first, last), given in zip(batches, tokens, strict=True)
            ]
        _wait(self.work.device)
        return time.perf_counter() - begin, torch.cat(scores).float()


def bare_inputs(scorer: Scorer, captions: list[str], device: str) -> tuple[torch.Tensor, ...]:
    """The tokens of captions on the device; none for a scorer that ignores them.

    A CLIP encodes equal captions, as the two images of a pair have, once in a batch, here as in the stage: tokens of
    the different ones, and which of them is whose.
    """
    if isinstance(scorer, ClipScorer):
        different = list(dict.fromkeys(captions))
        whose = torch.tensor([different.index(caption) for caption in captions])
        return scorer.tokens(different).to(device), whose.to(device)
    if isinstance(scorer, ImageRewardScorer):
        ids, mask = scorer.tokens(captions)
        return ids.to(device), mask.to(device)
    return ()


def bare(scorer: Scorer, pixels: torch.Tensor, tokens: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The model's forward pass alone, and the step from its vectors to one number."""
    if isinstance(scorer, ClipScorer):
        ids, whose = tokens
        image = scorer.model.encode_image(pixels, normalize=True)
        text = scorer.model.encode_text(ids, normalize=True)[whose]
        cosine: torch.Tensor = (image * text).sum(dim=-1)
        return cosine * scorer.model.logit_scale.exp() if scorer.unit == "logit" else cosine
    if isinstance(scorer, ImageRewardScorer):
        vectors: torch.Tensor = scorer.blip(pixels, *tokens)
        return (vectors * scorer.weight).sum(dim=-1) + scorer.bias
    assert isinstance(scorer, AestheticScorer)
    return (scorer.clip.embed_pixels(pixels) * scorer.weight).sum(dim=-1) + scorer.bias


@contextmanager
def architecture(reduced: bool) -> Iterator[None]:
    """Within it, the published CLIP architectures are full size, or have fewer and narrower layers."""
    with ExitStack() as stack:
        for place in ("qsd.rewards.clip_published", "scripts.parity.full_size") if reduced else ():
            for name in ("VIT_H_14", "VIT_L_14"):
                stack.enter_context(patch(f"{place}.{name}", CLIP))
        yield


def subject(name: str, folder: Path, images: int, batch: int, device: str, workers: int) -> Subject:
    """Write weights and images below ``folder`` and load the model; within :func:`architecture`."""
    weights = folder / "weights"
    full_size.write(name, weights)
    pairs = _pictures(folder / "pairs.parquet", (images + 1) // 2)
    places = {"data.path": str(pairs), "reward.weights": str(weights), "device": device}
    unused = {"model.path": "-", "evaluation.prompts": "-", "evaluation.scorers": ["clip_score"]}
    training = {"training.steps": 1, "training.pairs_per_step": 1, "training.learning_rate": 1.0}
    config = build(
        override(defaults(), {**unused, **training, **places, "reward.model": name, "reward.batch_size": batch})
    )
    data_folder = folder / "data"
    data_folder.mkdir()
    data.run(StageContext(config, {}, data_folder))
    table = read_table(data_folder / "pairs.parquet")
    requests = requests_of(table, distinct(table))
    work = ScoringJob(PairImages(open_source(config.data)), requests, folder / "scores", device, workers)
    return Subject(open_reward(name, str(weights), device), column_of(name, config.reward), work, folder)


def original_loop(measured: Subject, calls: int) -> float:
    """Seconds per image of a loop that works like ``hpsv2.img_score.score``.

    The network is made once; each call reads the whole checkpoint with ``torch.load``, copies it into the network,
    opens one image, and scores it in a batch of one. The original also makes a second copy of the checkpoint in
    memory (``mmap`` here saves it, and time) and computes all pairs of images and captions, which are one.
    """
    scorer = measured.scorer
    assert isinstance(scorer, ClipScorer)
    model, device = scorer.model, measured.work.device
    (checkpoint,) = (measured.folder / "weights").glob("*/*.pt")
    numbers = measured.work.requests.images[:calls].tolist()
    begin = time.perf_counter()
    for place, number in enumerate(numbers):
        state = torch.load(checkpoint, map_location=device, weights_only=True, mmap=True)
        model.load_state_dict(state["state_dict"])
        image = decode(measured.work.images.bytes_of(number))
        pixels = measured.column.preprocess.one(image)[None].to(device)
        with torch.inference_mode():
            bare(scorer, pixels, bare_inputs(scorer, measured.captions(place, place + 1), device)).cpu()
    return (time.perf_counter() - begin) / calls


def _pictures(path: Path, pairs: int) -> Path:
    """Pairs of different JPEG files of ``SIDE`` pixels with captions of their own, made of the emoji world's."""
    caption_of: dict[bytes, str] = {}
    for batch in pq.ParquetFile(EMOJI).iter_batches(64, columns=["jpg_0", "jpg_1", "caption"]):
        for row in batch.to_pylist():
            for name in ("jpg_0", "jpg_1"):
                caption_of.setdefault(row[name], f"{row['caption']}, picture {len(caption_of)}")
        if len(caption_of) >= 2 * pairs:
            break
    files = list(caption_of.items())[: 2 * pairs]
    rows = [
        {
            "jpg_0": _enlarged(files[place][0]),
            "jpg_1": _enlarged(files[place + 1][0]),
            "label_0": 1.0,
            "caption": files[place][1],
            "ranking_id": place,
            "user_id": "0",
        }
        for place in range(0, len(files), 2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)
    return path


def _enlarged(file: bytes) -> bytes:
    stream = io.BytesIO()
    decode(file).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
