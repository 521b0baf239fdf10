"""ImageReward's model as one trainable module, and the folder of such a model that this project has trained.

    r = MLP(BLIP(image, caption)),    ψ = (r - mean) / std

The MLP is five linear layers with dropout and without activations, as ImageReward's (``ImageReward/ImageReward.py``
of THUDM/ImageReward: dropout 0.2, 0.2, 0.1 behind the first three). Mean and std are those of r on the training images.

Folder::

    config.json        {"blip": {...}, "head": [...], "preprocess": {...}, "tokens": 20, "mean": …, "std": …,
                        "tokenizer": "../clip_emoji/tokenizer"}   the tokenizer's folder, relative to this one
    model.safetensors  weights, fp16 or fp32; always computed in fp32

Caption tokens begin with the tokenizer's start token, whose vector the MLP reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from qsd.errors import UserError, reason
from qsd.rewards.blip import Blip, BlipSize
from qsd.rewards.folder import load_weights, named_folder, open_tokenizer, read_config, save_weights
from qsd.rewards.preprocess import Preprocess
from qsd.vocabulary import check_tokenizer_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import CLIPTokenizer

HEAD = (1024, 128, 64, 16)
"""Inner widths of ImageReward's MLP."""

_DROPOUT = (0.2, 0.2, 0.1)
_LARGEST = 3.4e38
"""Of fp32."""


class BlipReward(nn.Module):
    """(pixels, caption) -> one number. Tensors are named as in ImageReward's checkpoint.

    Raises:
        UserError: ``head`` has not four widths.
    """

    def __init__(self, size: BlipSize, head: Sequence[int] = HEAD) -> None:
        super().__init__()
        if len(head) != len(HEAD):
            raise UserError(f"head is {list(head)}; the MLP of a BLIP-shaped reward model has {len(HEAD)} inner widths")
        self.size, self.head = size, tuple(head)
        self.blip = Blip(size)
        self.mlp = _Mlp((size.text_width, *head, 1))

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Rewards [N] before normalisation; for the arguments see :meth:`qsd.rewards.blip.Blip.forward`."""
        return self.rewards(self.blip(pixels, ids, mask))

    def rewards(self, vectors: Tensor) -> Tensor:
        """Rewards [N] of vectors [N, W] at the first caption token."""
        values: Tensor = self.mlp.layers(vectors)
        return values[:, 0]


class _Mlp(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(len(widths) - 1):
            layers.append(nn.Linear(widths[number], widths[number + 1]))
            if number < len(_DROPOUT):
                layers.append(nn.Dropout(_DROPOUT[number]))
        self.layers = nn.Sequential(*layers)


@dataclass(frozen=True)
class BlipFolder:
    """The contents of a folder's ``config.json``.

    Attributes:
        preprocess: of images.
        tokens: longest caption, start and end included; longer ones are cut.
        mean: of r on the training images.
        std: of r on the training images, above 0.
        tokenizer: folder of a transformers CLIPTokenizer, relative to the reward model's.
    """

    preprocess: Preprocess
    tokens: int
    mean: float
    std: float
    tokenizer: str


def save(folder: Path, model: BlipReward, about: BlipFolder, half: bool = True) -> None:
    """Write a reward model's folder; ``half`` stores the weights as fp16. Same weights, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"blip": asdict(model.size), "head": list(model.head), **asdict(about)}
    save_weights(folder / "model.safetensors", model.state_dict(), half)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[BlipReward, BlipFolder, CLIPTokenizer]:
    """The trainable model in fp32 on the CPU, the folder's configuration, and its tokenizer.

    Raises:
        UserError: a missing or damaged file, a field that is missing or out of range, or weights that do not fit.
    """
    config = read_config(folder, ("blip", "head", "preprocess", "tokens", "mean", "std", "tokenizer"))
    path = folder / "config.json"
    try:
        size = BlipSize(**config["blip"])
    except TypeError as error:
        raise UserError(f"{path}: blip: {str(error).removeprefix('BlipSize.__init__() ')}") from None
    tokens, mean, std = (_number(path, config, name) for name in ("tokens", "mean", "std"))
    about = BlipFolder(Preprocess.from_config(config["preprocess"]), tokens, mean, std, config["tokenizer"])
    tokenizer = open_tokenizer(named_folder(folder, config, "tokenizer"))
    if not all(type(value) is int and value > 0 for value in asdict(size).values()):
        raise UserError(f"{path}: blip has fields that are no whole numbers above 0")
    if not (0 < about.tokens <= size.positions and about.std > 0 and len(tokenizer) <= size.vocabulary):
        raise UserError(
            f"{path}: tokens {about.tokens} must be 1 to blip.positions {size.positions}, std {about.std} above 0, and "
            f"the tokenizer's {len(tokenizer)} tokens at most blip.vocabulary {size.vocabulary}"
        )
    check_tokenizer_rows(tokenizer, size.vocabulary, str(folder / about.tokenizer))
    try:
        model = BlipReward(size, config["head"])
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{path}: blip and head make no network ({reason(error)})") from None
    load_weights(folder / "model.safetensors", model)
    return model, about, tokenizer


def _number(path: Path, config: dict[str, Any], name: str) -> Any:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or (name == "tokens" and int(value) != value):
        raise UserError(f"{path}: {name} is {value!r}; it must be {'a whole' if name == 'tokens' else 'a'} number")
    if not abs(value) < _LARGEST:
        raise UserError(f"{path}: {name} is {value!r}; rewards are computed in fp32, which has no such number")
    return value
