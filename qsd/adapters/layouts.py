"""The names of tensors in adapters' files, in the layouts that users have: which layer, and which half of its adapter.

===========================  ==========================================================================================
layout                       names, for the layer ``down_blocks.1.attn1.to_q`` of a network that is called ``unet``
===========================  ==========================================================================================
diffusers                    ``unet.down_blocks.1.attn1.to_q.lora_A.weight``, ``….lora_B.weight``
diffusers before 0.22        ``unet.….to_q.lora.down.weight``, ``….lora.up.weight``, ``….alpha``; or
                             ``….to_q.lora_linear_layer.down.weight``; or ``….processor.to_q_lora.down.weight``
PEFT                         ``base_model.model.down_blocks.1.attn1.to_q.lora_A.weight``, and ``adapter_config.json``
kohya                        ``lora_unet_down_blocks_1_attn1_to_q.lora_down.weight``, ``….lora_up.weight``, ``….alpha``
DoRA, in the first and PEFT  also ``….to_q.lora_magnitude_vector``, the lengths of the rows of W + scale · B A
===========================  ==========================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DOWN, _UP = "down", "up"
MAGNITUDE = "lora_magnitude_vector"
_HALVES = (
    (re.compile(r"(?P<layer>.+)\.lora_(?P<half>A|B)\.weight"), "diffusers"),
    (re.compile(rf"(?P<layer>.+)\.(?P<half>{MAGNITUDE})(\.weight)?"), "diffusers"),
    (re.compile(r"(?P<layer>.+)\.lora\.(?P<half>down|up)\.weight"), "old diffusers"),
    (re.compile(r"(?P<layer>.+)\.lora_linear_layer\.(?P<half>down|up)\.weight"), "old diffusers"),
    (re.compile(r"(?P<layer>.+)\.lora_(?P<half>down|up)\.weight"), "kohya"),
    (re.compile(r"(?P<layer>.+)\.(?P<half>alpha)"), "old diffusers"),
)
_PROCESSOR = re.compile(r"(?P<layer>.+)\.processor\.(?P<target>to_q|to_k|to_v|to_out)_lora\.(?P<half>down|up)\.weight")
_PEFT = "base_model.model."
_REFUSED = (
    (re.compile(r"^(text_encoder(_\d)?\.|lora_te\d?_|te\d?\.)"), "a part for a text encoder"),
    (re.compile(r"\.dora_scale"), "DoRA in kohya's layout"),
    (re.compile(r"\.hada_(w|t)\d"), "LoHa"),
    (re.compile(r"\.lokr_(w|t)\d"), "LoKr"),
    (re.compile(r"\.(oft_|boft_|hra_|vera_|ia3_|lora_embedding_)"), "another kind of adapter than LoRA"),
    (re.compile(r"\.lora_mid\."), "LoCon with a third factor (lora_mid)"),
    (re.compile(r"\.(lora_A|lora_B|lora_down|lora_up|up|down)\.bias$|\.diff_b$"), "a bias"),
    (re.compile(r"\.diff$|\.w_norm$|\.b_norm$|modules_to_save"), "whole weights beside LoRA"),
    (re.compile(r"^bundle_emb\.|string_to_param|emb_params"), "embeddings of words (textual inversion)"),
    (re.compile(r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\."), "a whole checkpoint"),
)


@dataclass(frozen=True)
class Place:
    """What one tensor of an adapter is.

    Attributes:
        layer: name of the layer, dotted, or with underscores in kohya's layout; without the prefix of its layout.
        half: ``down`` (A), ``up`` (B), ``alpha`` or ``MAGNITUDE``.
        layout: name of the layout, for messages.
    """

    layer: str
    half: str
    layout: str

    @property
    def underscored(self) -> bool:
        """True if the layer's name has underscores for dots."""
        return self.layout == "kohya"


def refused_kind(name: str) -> str | None:
    """What a tensor belongs to that adapters of this project do not have, such as ``DoRA``; None otherwise."""
    return next((kind for pattern, kind in _REFUSED if pattern.search(name.removeprefix(_PEFT))), None)


def place_of(name: str, network: str) -> Place | None:
    """What a tensor is.

    Args:
        name: of the tensor in its file.
        network: the pipeline's name for the network, ``unet`` or ``transformer``.

    Returns:
        None: the name is of no layout that is known.
    """
    if match := _PROCESSOR.fullmatch(name):
        target = "to_out.0" if match["target"] == "to_out" else match["target"]
        return Place(_without_prefix(f"{match['layer']}.{target}", network), match["half"], "old diffusers")
    for pattern, layout in _HALVES:
        if match := pattern.fullmatch(name):
            layer, half = match["layer"], {"A": _DOWN, "B": _UP}.get(match["half"], match["half"])
            if layer.startswith(_PEFT):
                return Place(layer.removeprefix(_PEFT), half, "PEFT")
            if kohya := next((start for start in kohya_prefixes(network) if layer.startswith(start)), None):
                return Place(layer.removeprefix(kohya), half, "kohya")
            return Place(_without_prefix(layer, network), half, layout)
    return None


def kohya_prefixes(network: str) -> tuple[str, ...]:
    """How names of layers begin in kohya's layout; the first is written. Its own programs call every network a unet."""
    return tuple(dict.fromkeys((f"lora_{network}_", "lora_unet_")))


def _without_prefix(layer: str, network: str) -> str:
    # Files of a network's own ``save_lora_adapter`` have no prefix.
    return layer.removeprefix(f"{network}.")
