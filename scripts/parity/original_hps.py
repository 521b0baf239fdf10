"""HPS v2 computed by its own package: ``hpsv2.img_score.score`` on a reduced ViT, with and without antialiasing.

The package has one architecture and first downloads its base model; the reduced one is put where ``score`` looks for
the model that it has already made. Its checkpoint is read by ``score`` itself, at every call, as always.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torchvision.transforms import functional

from scripts.parity import record
from scripts.parity.pictures import CAPTIONS
from scripts.parity.sizes import CLIP
from scripts.parity.weights import checkpoint, layout_of


def _add_vocabulary() -> None:
    """Copy the vocabulary that the wheel opens on import but does not contain; open_clip has the same file."""
    name = "bpe_simple_vocab_16e6.txt.gz"
    source, package = (Path(find_spec(module).origin).parent for module in ("open_clip", "hpsv2"))
    shutil.copy(source / name, package / "src" / "open_clip" / name)


class _Functional:
    """torchvision's functions, with the default for antialiasing that they had up to 0.16."""

    def __getattr__(self, name: str) -> object:
        function = getattr(functional, name)
        return partial(function, antialias=False) if name == "resize" else function


def main() -> None:
    """Write the record."""
    _add_vocabulary()
    from hpsv2 import img_score
    from hpsv2.src.open_clip import get_tokenizer, model, transform

    network = model.CLIP(**CLIP, output_dict=True)
    layout = layout_of(network.state_dict())
    preprocess = transform.image_transform(224, is_train=False, resize_longest_max=True)
    img_score.model_dict.update(model=network, preprocess_val=preprocess)
    values = {"layout": layout, "tokens": get_tokenizer("ViT-H-14")(CAPTIONS).tolist()}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "HPS_v2_compressed.pt")
        torch.save({"epoch": 1, "name": "reduced", "state_dict": checkpoint(layout)}, path)

        def score(image: object, caption: str) -> float:
            return img_score.score(image, caption, cp=path)[0]

        for name, functions in (("antialias", functional), ("no_antialias", _Functional())):
            transform.F = functions
            values[name] = {"scores": record.scores(score), "pixels": record.pixels(preprocess)}
            values[name]["native"] = record.scores(score, native=True)
    record.write("hps_v2", ["hpsv2", "open_clip_torch"], **values)


if __name__ == "__main__":
    main()
