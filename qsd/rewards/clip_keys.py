"""Key conversion: transformers' CLIP layout -> open_clip's, so that one architecture computes both.

===========================================  =====================================================
transformers                                 open_clip
===========================================  =====================================================
``logit_scale``                              same
``visual_projection.weight`` (D, W)          ``visual.proj`` (W, D), transposed
``text_projection.weight`` (D, W)            ``text_projection`` (W, D), transposed
``vision_model.embeddings.class_embedding``  ``visual.class_embedding``
``….embeddings.patch_embedding.weight``      ``visual.conv1.weight``
``….embeddings.position_embedding.weight``   ``visual.positional_embedding``, ``positional_embedding``
``….pre_layrnorm``, ``….post_layernorm``     ``visual.ln_pre``, ``visual.ln_post``
``….embeddings.token_embedding.weight``      ``token_embedding.weight``
``….final_layer_norm``                       ``ln_final``
``….encoder.layers.N.`` of image and text    ``visual.transformer.resblocks.N.``, ``transformer.resblocks.N.``
``self_attn.{q,k,v}_proj``                   ``attn.in_proj_weight`` and ``_bias``, the three stacked
``self_attn.out_proj``                       ``attn.out_proj``
``layer_norm1``, ``layer_norm2``             ``ln_1``, ``ln_2``
``mlp.fc1``, ``mlp.fc2``                     ``mlp.c_fc``, ``mlp.c_proj``
===========================================  =====================================================

``….embeddings.position_ids``, a constant that old versions saved, is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_WHOLE = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_NORMS = {
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "text_model.final_layer_norm": "ln_final",
}
_TOWERS = {"vision_model": "visual.transformer", "text_model": "transformer"}
_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_IN_LAYER = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a transformers CLIP under open_clip's names; unknown names are kept, for the loader to refuse.

    Raises:
        UserError: an attention without all of query, key and value.
    """
    import torch

    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if name.endswith("embeddings.position_ids"):
            continue
        if name in _TRANSPOSED:
            converted[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif stem in _NORMS:
            converted[f"{_NORMS[stem]}.{kind}"] = tensor
        elif match := _IN_LAYER.fullmatch(name):
            tower, number, part, kind = match.groups()
            below = f"{_TOWERS[tower]}.resblocks.{number}."
            if part == "self_attn.q_proj":
                others = [name.replace("q_proj", letter) for letter in ("k_proj", "v_proj")]
                if missing := [other for other in others if other not in state]:
                    raise UserError(f"CLIP in transformers' layout: tensor {missing[0]} is missing")
                converted[f"{below}attn.in_proj_{kind}"] = torch.cat([tensor, *(state[other] for other in others)])
            elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
                converted[f"{below}{_PARTS.get(part, part)}.{kind}"] = tensor
        else:
            converted[_WHOLE.get(name, name)] = tensor
    return converted
