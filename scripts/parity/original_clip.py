"""PickScore, CLIP score and LAION's aesthetic score by the code that their authors publish, on reduced CLIPs.

* PickScore: transformers 4.27 (``CLIPModel``, ``CLIPProcessor``), the lines of its README.
* CLIP score: the same ``CLIPModel`` with OpenAI's activation, and OpenAI's own preprocessing and tokens.
* Aesthetics: the predictor's MLP as the ``image-reward`` package has it, on those embeddings, divided by their norms.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import clip
import torch
from ImageReward.models.AestheticScore import MLP
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

from scripts.parity import record
from scripts.parity.pictures import CAPTIONS
from scripts.parity.sizes import CLIP
from scripts.parity.weights import checkpoint, layout_of


def reduced(activation: str) -> CLIPModel:
    """A ``CLIPModel`` with random weights."""
    vision, text = CLIP["vision_cfg"], CLIP["text_cfg"]
    towers = {
        "vision_config": {
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        "text_config": {
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
        },
    }
    for tower in towers.values():
        tower.update(hidden_act=activation, projection_dim=CLIP["embed_dim"])
    model = CLIPModel(CLIPConfig(projection_dim=CLIP["embed_dim"], **towers))
    model.load_state_dict(checkpoint(layout_of(model.state_dict())), strict=False)
    return model.eval()


def processor() -> CLIPProcessor:
    """The published processor: CLIP's vocabulary, shorter side 224, centre crop."""
    words = clip.simple_tokenizer.SimpleTokenizer()
    merges = [" ".join(pair) for pair, _ in sorted(words.bpe_ranks.items(), key=lambda item: item[1])]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(words.encoder), encoding="utf-8")
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        tokenizer = CLIPTokenizerFast(f"{folder}/vocab.json", f"{folder}/merges.txt")
    # As in the published tokenizer.json: a caption that spells a special token gets that token.
    end = "<|endoftext|>"
    tokenizer.add_special_tokens({"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end})
    return CLIPProcessor(CLIPImageProcessor(), tokenizer)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by their norms."""
    return vectors / torch.norm(vectors, dim=-1, keepdim=True)


@torch.no_grad()
def pickscore() -> None:
    """Scores in both conventions."""
    model, process = reduced("gelu"), processor()
    options = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}

    def cosine(image: Image.Image, caption: str) -> torch.Tensor:
        seen = unit(model.get_image_features(**process(images=image, **options)))
        read = unit(model.get_text_features(**process(text=caption, **options)))
        return (read @ seen.T)[0]

    def pixels(image: Image.Image) -> torch.Tensor:
        return process(images=image, return_tensors="pt")["pixel_values"][0]

    record.write(
        "pickscore",
        ["transformers"],
        layout=layout_of(model.state_dict()),
        tokens=[process(text=caption, **options)["input_ids"][0].tolist() for caption in CAPTIONS],
        cosine=record.scores(cosine),
        logit=record.scores(lambda image, caption: model.logit_scale.exp() * cosine(image, caption)),
        native=record.scores(cosine, native=True),
        pixels=record.pixels(pixels),
    )


@torch.no_grad()
def clip_score_and_aesthetics() -> None:
    """The two scorers on OpenAI's CLIP."""
    model, preprocess = reduced("quick_gelu"), clip.clip._transform(224)
    head = MLP(CLIP["embed_dim"])
    head_layout = layout_of(head.state_dict())
    head.load_state_dict(checkpoint(head_layout))
    head.eval()

    def embed(image: Image.Image) -> torch.Tensor:
        return unit(model.get_image_features(preprocess(image)[None]))

    def cosine(image: Image.Image, caption: str) -> torch.Tensor:
        tokens = clip.tokenize(caption, truncate=True)
        return (embed(image) * unit(model.get_text_features(tokens))).sum()

    layout = layout_of(model.state_dict())
    record.write(
        "clip_score",
        ["transformers", "clip-anytorch"],
        layout=layout,
        scores=record.scores(cosine),
        native=record.scores(cosine, native=True),
        pixels=record.pixels(preprocess),
    )
    aesthetic = record.scores(lambda image, _caption: head(embed(image)))
    record.write("aesthetic_v2", ["transformers", "image-reward"], layout=head_layout, clip=layout, scores=aesthetic)


if __name__ == "__main__":
    pickscore()
    clip_score_and_aesthetics()
