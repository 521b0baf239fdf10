"""ImageReward computed by its own package: ``ImageReward.load`` and ``score`` on a reduced BLIP.

The package's ViT has two fixed sizes; its builder is replaced by one that makes the same class smaller. The text side
is reduced through its own configuration file. ``bert-base-uncased`` is a folder next to it with the reduced vocabulary.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import ImageReward
import torch
from ImageReward.models.BLIP import blip_pretrain
from ImageReward.models.BLIP.vit import VisionTransformer

from scripts.parity import record
from scripts.parity.pictures import CAPTIONS
from scripts.parity.sizes import BLIP, bert_vocabulary
from scripts.parity.weights import checkpoint, layout_of

MED = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": BLIP["text_mlp"],
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": BLIP["positions"],
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": BLIP["text_layers"],
    "pad_token_id": 0,
    "add_type_embeddings": False,
    "vocab_size": BLIP["vocabulary"],
    "encoder_width": BLIP["image_width"],
    "add_cross_attention": True,
}


def small_vit(_size: str, image_size: int, *_others: object) -> tuple[VisionTransformer, int]:
    """In place of the package's ``create_vit``."""
    width = BLIP["image_width"]
    options = {"embed_dim": width, "depth": BLIP["image_layers"], "num_heads": BLIP["image_heads"]}
    return VisionTransformer(img_size=image_size, patch_size=BLIP["patch_size"], **options), width


def main() -> None:
    """Write the record."""
    blip_pretrain.create_vit = small_vit
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("bert-base-uncased").mkdir()
        Path("bert-base-uncased/vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n", encoding="utf-8")
        Path("bert-base-uncased/config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
        Path("med_config.json").write_text(json.dumps(MED), encoding="utf-8")
        layout = layout_of(ImageReward.ImageReward(med_config="med_config.json").state_dict())
        state = checkpoint(layout)
        state["blip.text_encoder.embeddings.position_ids"] = torch.arange(BLIP["positions"])[None]
        torch.save(state, "ImageReward.pt")
        model = ImageReward.load("ImageReward.pt", device="cpu", med_config="med_config.json")

        def score(image: object, caption: str) -> float:
            return model.score(caption, image)

        with torch.no_grad():
            words = model.blip.tokenizer(CAPTIONS, padding="max_length", truncation=True, max_length=35)
            record.write(
                "image_reward",
                ["image-reward", "transformers", "timm", "fairscale"],
                layout=layout,
                tokens=words["input_ids"],
                scores=record.scores(score),
                native=record.scores(score, native=True),
                pixels=record.pixels(model.preprocess),
            )


if __name__ == "__main__":
    main()
