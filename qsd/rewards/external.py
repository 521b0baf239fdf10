"""A judge in a process of its own: another interpreter with other packages, or a server. Nothing of it is imported.

Folder of such a reward model::

    config.json   {"name": "HPSv3", "version": "1", "unit": "reward", "weights": "<SHA-256 of its weights>"}
    run.json      {"command": ["/envs/hpsv3/bin/python", "judge.py"]}   or   {"url": "http://localhost:8000/score"}
                  and perhaps "batch_size", "timeout_s", "start_timeout_s"

``config.json`` says which judge it is, and makes the revision; ``run.json`` says how to reach it here, and changes no
key. The judge must say the same four things of itself when it starts, or nothing is scored by it.

A request is ``{"id": 7, "items": [{"image": "<PNG in base64>", "caption": "..."}, …]}``, its answer ``{"id": 7,
"scores": [0.3, null, …]}``, a number for each item, or null where the judge has none; or ``{"id": 7, "error": "..."}``.
A score that is missing is no number (NaN): it is counted and listed as such, and its pair or image is left out. A
command gets a request as one line on its standard input and answers with one line (``external_process.py``); a server
gets it as the body of a POST (``external_http.py``).
"""

from __future__ import annotations

import base64
import io
import math
import shutil
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.rewards.external_settings import RUN, Channel, RunSettings, read_settings, shown
from qsd.rewards.folder import read_config
from qsd.rewards.native_size import NativeSize
from qsd.rewards.precomputed import STATED
from qsd.rewards.scorers import ScorerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

NATIVE = NativeSize()
CONFIG = "config.json"
STATEMENT = ("name", "version", "unit", "weights")
"""What ``config.json`` has, and what the judge says of itself."""
_HEX = frozenset("0123456789abcdef")


class ExternalScorer:
    """A judge elsewhere as a reward model. See :class:`qsd.rewards.scorer.Scorer`.

    Args:
        stated: what ``config.json`` says of it.
        settings: how it is reached.
        channel: the connection.

    Raises:
        UserError: the judge does not start, or says something else of itself than ``config.json``.
    """

    def __init__(self, stated: Mapping[str, str], settings: RunSettings, channel: Channel) -> None:
        self.name = stated["name"]
        self.revision = stated["version"]
        self.unit = stated["unit"]
        self.resolution = NATIVE.size
        self._what = f"judge '{stated['name']}' ({settings.place})"
        self._batch = settings.batch_size
        self._channel = channel
        self._requests = 0
        self._check_statement(stated, settings)

    def score(self, images: Sequence[Image.Image | Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Scores of images and their captions, float32 (N,); NaN where the judge has none.

        Args:
            images: of any sizes; or their RGB values, uint8 (3, H, W).
            captions: one per image.

        Raises:
            UserError: the judge fails, is too slow, or does not answer with one number or null for each image.
            ValueError: not as many captions as images.
        """
        import numpy as np

        if len(images) != len(captions):
            raise ValueError(f"{len(images)} images but {len(captions)} captions")
        scores: list[float] = []
        for start in range(0, len(images), self._batch):
            part = slice(start, start + self._batch)
            items = [
                {"image": _as_png(image), "caption": caption}
                for image, caption in zip(images[part], captions[part], strict=True)
            ]
            scores += self._ask(items)
        return np.array(scores, np.float32)

    def score_tensor(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores [N] of float pixels [N, 3, H, W] in [0, 1], rounded to 8 bits; without gradients.

        Raises:
            UserError: as :meth:`score`.
        """
        import torch

        rounded = (pixels.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        return torch.from_numpy(self.score(list(rounded), captions)).to(pixels.device)

    def _check_statement(self, stated: Mapping[str, str], settings: RunSettings) -> None:
        said = self._channel.statement()
        if not isinstance(said, dict) or any(key not in said for key in STATEMENT):
            raise UserError(
                f"{self._what}: must first say {', '.join(STATEMENT)} as a JSON object, not {shown(said)}; see "
                "docs/reward_models.md"
            )
        for key in STATEMENT:
            if said[key] != stated[key]:
                raise UserError(
                    f"{self._what}: says its {key} is {shown(said[key])}, but {settings.place.with_name(CONFIG)} has "
                    f"{shown(stated[key])}; correct the one that is wrong (another judge needs scores of its own)"
                )

    def _ask(self, items: list[dict[str, str]]) -> list[float]:
        self._requests += 1
        answer = self._channel.ask({"id": self._requests, "items": items})
        if not isinstance(answer, dict):
            raise UserError(f"{self._what}: the answer must be a JSON object, not {shown(answer)}")
        if "error" in answer:
            raise UserError(f"{self._what}: {shown(answer['error'], 300)}")
        if answer.get("id") != self._requests:
            raise UserError(f"{self._what}: the answer has id {shown(answer.get('id'))}, not {self._requests}")
        scores = answer.get("scores")
        if not isinstance(scores, list) or len(scores) != len(items):
            found = f"{len(scores)} of them" if isinstance(scores, list) else shown(scores)
            raise UserError(f"{self._what}: 'scores' must be a list of {len(items)} numbers, not {found}")
        return [self._number(place, score, len(items)) for place, score in enumerate(scores)]

    def _number(self, place: int, score: Any, count: int) -> float:
        if score is None:
            return math.nan
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise UserError(
                f"{self._what}: score {place + 1} of {count} must be a finite number, or null where there is none, not "
                f"{shown(score)}"
            )
        return float(score)


def open_scorer(folder: Path, device: str) -> ExternalScorer:
    """Start the judge of a folder, or reach its server.

    Args:
        folder: with ``config.json`` and ``run.json``.
        device: torch device, given to a command in the environment variable ``QSD_DEVICE``.

    Raises:
        UserError: a missing or damaged file, or as :class:`ExternalScorer`.
    """
    stated, settings = read_statement(folder), read_settings(folder)
    if settings.url:
        from qsd.rewards.external_http import HttpChannel

        return ExternalScorer(stated, settings, HttpChannel(stated["name"], settings))
    from qsd.rewards.external_process import ProcessChannel

    return ExternalScorer(stated, settings, ProcessChannel(stated["name"], settings, device))


def read_statement(folder: Path) -> dict[str, str]:
    """Which judge it is, from ``config.json``.

    Raises:
        UserError: a missing or damaged file, an empty text, a further key, or weights that are no digest.
    """
    path, config = folder / CONFIG, read_config(folder, STATEMENT)
    if further := sorted(config.keys() - set(STATEMENT)):
        raise UserError(f"{path}: unknown key '{further[0]}'; it has {', '.join(STATEMENT)}, all else is in {RUN}")
    empty = [key for key in STATEMENT if not isinstance(config[key], str) or not config[key].strip()]
    if empty:
        raise UserError(f"{path}: {', '.join(empty)} must be a text that is not empty")
    if len(config["weights"]) != 64 or set(config["weights"]) - _HEX:
        raise UserError(
            f"{path}: weights is {shown(config['weights'])}; it must be the SHA-256 of the judge's weights, 64 hex "
            "digits in lower case"
        )
    return config


def check_judge(folder: Path) -> None:
    """Check the files of a judge without starting it, and that its program is there.

    Raises:
        UserError: as :func:`read_statement` and :func:`read_settings`, or no such program.
    """
    read_statement(folder)
    settings = read_settings(folder)
    if settings.command and not any(map(shutil.which, (str(folder / settings.command[0]), settings.command[0]))):
        raise UserError(f"{settings.place}: command: no program {settings.command[0]}; correct it, or install it")


def external_spec(folder: str) -> ScorerSpec:
    """The registry's entry of a judge in a process of its own; ``folder`` below ``reward.weights`` has its files."""
    return ScorerSpec(
        open=open_scorer,
        folder=folder,
        unit=STATED,
        preprocess=NATIVE,
        differentiable=False,
        reads=((CONFIG,),),
    )


def _as_png(image: Image.Image | Tensor) -> str:
    """An image as PNG in base64, without loss."""
    import torch
    from PIL import Image as Pillow

    pixels = image if isinstance(image, torch.Tensor) else NATIVE.one(image)
    stream = io.BytesIO()
    Pillow.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy()).save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")
