"""Reward hacking is watched: fixed prompts are drawn and scored while an on-policy method trains.

The images begin at the noise of the evaluation's images and are drawn without noise between the steps, so that they
differ by the adapter alone. The reward and the judges of ``method.watchers`` score them, beside the same images of the
base model. ``validation.jsonl`` gets, for each of them, the mean score and its difference from the base model's with
the standard error over prompts; ``samples/step-00050.png`` and, at the end, ``strip.png`` show the images.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qsd.config.schema import ExperimentConfig
from qsd.data.prompts import read_splits
from qsd.draws import initial_latents
from qsd.errors import UserError
from qsd.files import write_bytes
from qsd.models.adapter import reference
from qsd.rewards.opening import open_reward
from qsd.rewards.roles import is_judge
from qsd.training.onpolicy.rewards import LatentReward
from qsd.training.onpolicy.sampler import Prompts, Sampler

REWARD = "reward"
SHOWN = 8
"""Watched prompts in a strip of images."""
CLEAR = 2.0
"""A mean that is so many standard errors from zero has moved."""
FOLDER = "samples"


class Watch:
    """The watched prompts.

    Args:
        sampler: with the adapter.
        reward: that is optimised.
        config: of the cell.
        settings: watched_prompts, watched_split, watchers.

    Raises:
        UserError: no such prompts, or a judge that cannot be opened.
    """

    def __init__(self, sampler: Sampler, reward: LatentReward, config: ExperimentConfig, settings: Any) -> None:
        self._sampler, self._reward = sampler, reward
        path, split = Path(config.evaluation.prompts), settings.watched_split
        try:
            found = read_splits(path, [split], settings.watched_prompts)
        except UserError as error:
            raise UserError(f"{error} (method.watched_split; method.watched_prompts: 0 watches none)") from None
        self._prompts: Prompts = sampler.prompts(found, [0] * len(found))
        ids = [prompt.prompt_id for prompt in found]
        noise = initial_latents(ids, [0] * len(ids), config.generation.seed, sampler.shape)
        self._start = torch.from_numpy(noise).to(sampler.device)
        names = [name for name in settings.watchers or [] if name != config.reward.model]
        self._judges = {name: open_reward(name, config.reward.weights, sampler.device.type) for name in names}
        self._base: tuple[dict[str, np.ndarray[Any, Any]], list[Image.Image]] | None = None
        self._folder: Path | None = None

    def keep_images(self, output: Path) -> None:
        """Images go to the folder ``samples`` of ``output``."""
        self._folder = output / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)

    def row(self, done: int) -> dict[str, float]:
        """The row of ``validation.jsonl`` after ``done`` steps; writes the images.

        Names: ``reward``, ``reward_change``, ``reward_change_se``, and the same of each judge.
        """
        scores, images = self._measured()
        base, base_images = self._of_base()
        row: dict[str, float] = {"steps": done, "prompts": len(self._prompts)}
        for name, values in scores.items():
            change = values - base[name]
            change = change[np.isfinite(change)]
            row[name] = _mean(values[np.isfinite(values)])
            row[f"{name}_change"] = _mean(change)
            error = float(change.std(ddof=1) / math.sqrt(len(change))) if len(change) > 1 else math.nan
            row[f"{name}_change_se"] = error
        if self._folder is not None:
            write_bytes(self._folder / f"step-{0:05d}.png", _row_of_images(base_images))
            write_bytes(self._folder / f"step-{done:05d}.png", _row_of_images(images))
        return row

    def describe(self, row: Mapping[str, Any]) -> str:
        """Every score with its change from the base model's, and a warning where they part."""
        parts = [described(name, row) for name in (REWARD, *self._judges)]
        return f"on {row['prompts']} watched prompts: {', '.join(parts)}{warning(row, list(self._judges))}"

    def write_strip(self, output: Path) -> None:
        """``strip.png``: the watched images of every row of the log below one another, the base model's first."""
        rows = [Image.open(path) for path in sorted((output / FOLDER).glob("step-*.png"))]
        if not rows:
            return
        strip = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
        top = 0
        for row in rows:
            strip.paste(row, (0, top))
            top += row.height
        write_bytes(output / "strip.png", _png(strip))

    def _of_base(self) -> tuple[dict[str, np.ndarray[Any, Any]], list[Image.Image]]:
        """Scores and images of the base model, computed once per process."""
        if self._base is None:
            with reference(self._sampler.denoiser.network):
                self._base = self._measured()
        return self._base

    def _measured(self) -> tuple[dict[str, np.ndarray[Any, Any]], list[Image.Image]]:
        with torch.no_grad():
            clean = self._sampler.images(self._start, self._prompts)
            images = _pictures(self._reward.pixels(clean))
            captions = self._prompts.captions
            scores = {REWARD: self._reward.score(clean, captions).double().cpu().numpy()}
            for name, judge in self._judges.items():
                scores[name] = judge.score(images, captions).astype(np.float64)
        return scores, images


def described(name: str, row: Mapping[str, Any]) -> str:
    """A score of a row with its change from the base model's; what is no finite number is said in words.

    Args:
        name: of the score.
        row: as :meth:`Watch.row` gives it, or as the log keeps it, with None in place of what is not finite.
    """
    score, change, error = (_finite(row[column]) for column in (name, f"{name}_change", f"{name}_change_se"))
    if score is None:
        return f"{name}: no finite score"
    if change is None:
        return f"{name} {score:.4g} (no prompt has a finite score here and under the base model)"
    if error is None:
        return f"{name} {score:.4g} ({change:+.4g}, without a standard error: one prompt has finite scores)"
    return f"{name} {score:.4g} ({change:+.4g} ± {error:.2g})"


def warning(row: Mapping[str, Any], watchers: list[str]) -> str:
    """A clause that says so where the reward has risen and judges have fallen; empty otherwise.

    A watcher that is no judge, such as ``texture``, does not count: no value of it is better than another. Risen and
    fallen mean: by more than ``CLEAR`` standard errors over the watched prompts. With one training this says nothing
    about other seeds.
    """

    def moved(name: str) -> float:
        change, error = _finite(row[f"{name}_change"]), _finite(row[f"{name}_change_se"])
        return change / error if change is not None and error else 0.0

    fallen = [name for name in watchers if is_judge(name) and moved(name) < -CLEAR]
    if moved(REWARD) <= CLEAR or not fallen:
        return ""
    return f"; the reward has risen while {' and '.join(fallen)} fell: a sign of reward hacking"


def _finite(value: float | None) -> float | None:
    """The number if it is finite."""
    return value if value is not None and math.isfinite(value) else None


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _pictures(pixels: Tensor) -> list[Image.Image]:
    """PIL images of pixels [B, 3, H, W] in [0, 1]."""
    rounded = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in rounded]


def _row_of_images(images: list[Image.Image]) -> bytes:
    """PNG of the first images side by side."""
    shown = images[:SHOWN]
    row = Image.new("RGB", (sum(image.width for image in shown), shown[0].height))
    left = 0
    for image in shown:
        row.paste(image, (left, 0))
        left += image.width
    return _png(row)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
