"""Every published scorer once at full size, with random weights in the published layout: time and memory.

    .venv/bin/python -m scripts.parity.full_size NAME [IMAGES]

Writes a checkpoint into a temporary folder, reads it through the real loading code and scores some images.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from qsd.rewards.blip import Blip, BlipSize
from qsd.rewards.clip import create
from qsd.rewards.clip_published import VIT_H_14, VIT_L_14
from qsd.rewards.scorers import REGISTRY
from scripts.parity.original_keys import to_transformers
from scripts.parity.pictures import noise
from scripts.parity.sizes import bert_vocabulary


def random_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights for a model on the meta device: small matrices, norms near one."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.02 + (tensor.ndim == 1 and name.endswith("weight"))
        for name, tensor in model.state_dict().items()
    }


def head() -> dict[str, torch.Tensor]:
    """The five linear layers of ImageReward and of LAION's predictor."""
    widths = [(0, 768, 1024), (2, 1024, 128), (4, 128, 64), (6, 64, 16), (7, 16, 1)]
    weights = {f"layers.{number}.weight": torch.randn(high, low) / low**0.5 for number, low, high in widths}
    return weights | {f"layers.{number}.bias": torch.zeros(high) for number, _low, high in widths}


def write(name: str, root: Path) -> None:
    """The published files of the reward model ``name``, below ``root``."""
    spec = REGISTRY.get(name)
    folder = root / spec.folder
    folder.mkdir(parents=True)
    large = name.startswith(("hps", "pickscore"))
    with torch.device("meta"):
        model = Blip(BlipSize()) if name == "image_reward" else create(VIT_H_14 if large else VIT_L_14)
    if name.startswith("hps"):
        torch.save({"state_dict": random_state(model)}, folder / spec.files[0].file)
    elif name.startswith("pickscore"):
        save_file(to_transformers(random_state(model)), folder / "model.safetensors")
    elif name == "image_reward":
        state = {f"blip.{key}": value for key, value in random_state(model).items()}
        torch.save(state | {f"mlp.{key}": value for key, value in head().items()}, folder / "ImageReward.pt")
        (folder / "vocab.txt").write_text("\n".join(bert_vocabulary()), encoding="utf-8")
    else:
        (root / "clip_score").mkdir(exist_ok=True)
        save_file(to_transformers(random_state(model)), root / "clip_score" / "model.safetensors")
        if name == "aesthetic_v2":
            torch.save(head(), folder / "aesthetic-model.pth")


def main() -> None:
    """Print one line."""
    from PIL import Image

    name, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
    images = [Image.fromarray(noise(512, 512 + 8 * place)) for place in range(count)]
    captions = [f"a picture of number {place}" for place in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(name, root)
        size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
        start = time.perf_counter()
        spec = REGISTRY.get(name)
        scorer = spec.open(root / spec.folder, "cpu")
        loaded = time.perf_counter()
        values = scorer.score(images, captions)
        scored = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert len(values) == count
    assert all(value == value for value in values.tolist())
    print(
        f"{name}: files {size / 2**30:.2f} GiB, load {loaded - start:.1f} s, {(scored - loaded) / count:.2f} s per "
        f"image ({torch.get_num_threads()} threads), peak {peak:.1f} GiB with the writing of the files"
    )


if __name__ == "__main__":
    main()
