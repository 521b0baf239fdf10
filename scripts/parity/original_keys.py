"""open_clip's CLIP layout -> transformers' one, to write checkpoints as PickScore and OpenAI publish them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "logit_scale": "logit_scale",
}
STEMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def to_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of an open_clip CLIP under transformers' names; the inverse of ``qsd.rewards.clip_keys``."""
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name)
        stem, _, kind = name.rpartition(".")
        if match:
            below = f"{'vision' if match[1] else 'text'}_model.encoder.layers.{match[2]}."
            if match[3] == "attn.in_proj":
                for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                    renamed[f"{below}self_attn.{letter}_proj.{match[4]}"] = part.contiguous()
            else:
                renamed[f"{below}{PARTS[match[3]]}.{match[4]}"] = tensor
        elif name in ("visual.proj", "text_projection"):
            renamed["visual_projection.weight" if name == "visual.proj" else f"{name}.weight"] = tensor.T.contiguous()
        elif stem in STEMS:
            renamed[f"{STEMS[stem]}.{kind}"] = tensor
        else:
            renamed[WHOLE[name]] = tensor
    return renamed
