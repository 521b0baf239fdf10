"""The reduced architectures: the published ones with fewer and narrower layers; image size and vocabulary are kept."""

from __future__ import annotations

from typing import Any

CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""open_clip's configuration; OpenAI's CLIP has ``quick_gelu`` besides."""

BLIP: dict[str, Any] = {
    "patch_size": 32,
    "image_width": 64,
    "image_layers": 2,
    "image_heads": 4,
    "text_layers": 2,
    "text_mlp": 96,
    "vocabulary": 111,
    "positions": 40,
}
"""Text width and heads stay those of BERT-base: the original's MLP is built for them."""


def bert_vocabulary() -> list[str]:
    """A WordPiece vocabulary of letters, digits and signs; everything else is unknown."""
    singles = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *singles, *pieces]
