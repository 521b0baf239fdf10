"""BLIP's image-grounded text encoder: a ViT reads the image, a BERT reads the caption and attends to the image.

Modules are named as the tensors of published BLIP checkpoints (``visual_encoder.blocks.0.attn.qkv.weight``,
``text_encoder.encoder.layer.0.crossattention.self.key.weight``, …), so no conversion of keys is needed.

ViT: pre-norm blocks, LayerNorm eps 1e-6, exact GELU, learned positions, all tokens returned. BERT: post-norm, eps
1e-12; each layer is self-attention over the caption (padding left out), then cross-attention to all image tokens, then
the MLP. Source: Li et al., "BLIP", arXiv 2201.12086; sizes from the published ``med_config.json`` and ViT-L/16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


@dataclass(frozen=True)
class BlipSize:
    """The architecture; the defaults are those of ImageReward: ViT-L/16 at 224 pixels, BERT-base.

    Attributes:
        image_size: pixels per side.
        patch_size: pixels per side.
        image_width: of the ViT's tokens.
        image_layers: of the ViT.
        image_heads: of the ViT.
        text_width: of BERT's tokens.
        text_layers: of BERT.
        text_heads: of BERT.
        text_mlp: inner width of BERT's MLP.
        vocabulary: tokens, BERT's 30,522 and two of BLIP's.
        positions: longest caption that BERT has positions for, in tokens.
    """

    image_size: int = 224
    patch_size: int = 16
    image_width: int = 1024
    image_layers: int = 24
    image_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_mlp: int = 3072
    vocabulary: int = 30524
    positions: int = 512


class Blip(nn.Module):
    """(pixels, caption) -> one vector per caption token, grounded in the image."""

    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.visual_encoder = _ImageEncoder(size)
        self.text_encoder = _TextEncoder(size)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The vector at the first token, [CLS].

        Args:
            pixels: normalised, [N, 3, S, S].
            ids: caption tokens, int64 [N, L].
            mask: true where there is a token and not padding, [N, L].

        Returns:
            Vectors [N, W].
        """
        vectors: Tensor = self.text_encoder(ids, mask, self.visual_encoder(pixels))
        return vectors[:, 0]


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of [N, L, W] over [N, M, W]; ``mask`` [N, M] is true for keys that may be attended to."""
    query, key, value = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value))
    seen = None if mask is None else mask[:, None, None, :].expand(-1, -1, query.shape[2], -1)
    return scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)


class _Patches(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, size.image_width, size.patch_size, stride=size.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        patches: Tensor = self.proj(pixels)
        return patches.flatten(2).transpose(1, 2)


class _ImageAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        attended: Tensor = self.proj(_attend(query, key, value, self.heads))
        return attended


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = self.fc2(gelu(self.fc1(tokens)))
        return changed


class _ImageBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _ImageAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        changed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return changed


class _ImageEncoder(nn.Module):
    """Pixels [N, 3, S, S] -> tokens [N, 1 + patches, W]."""

    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        width = size.image_width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size.image_size // size.patch_size) ** 2, width))
        self.patch_embed = _Patches(size)
        self.blocks = nn.ModuleList(_ImageBlock(width, size.image_heads) for _ in range(size.image_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed(pixels)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed


class _Projections(nn.Module):
    """Query, key and value; keys and values of cross-attention come from the image."""

    def __init__(self, width: int, looked_at: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(looked_at, width)
        self.value = nn.Linear(looked_at, width)


class _Output(nn.Module):
    """Projection, residual, LayerNorm."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, inner: Tensor, tokens: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(inner) + tokens)
        return normed


class _TextAttention(nn.Module):
    def __init__(self, size: BlipSize, looked_at: int) -> None:
        super().__init__()
        self.heads = size.text_heads
        self.self = _Projections(size.text_width, looked_at)
        self.output = _Output(size.text_width, size.text_width)

    def forward(self, tokens: Tensor, looked_at: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = (self.self.query(tokens), self.self.key(looked_at), self.self.value(looked_at))
        attended: Tensor = self.output(_attend(*parts, self.heads, mask), tokens)
        return attended


class _Intermediate(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.dense = nn.Linear(size.text_width, size.text_mlp)


class _TextLayer(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.attention = _TextAttention(size, size.text_width)
        self.crossattention = _TextAttention(size, size.image_width)
        self.intermediate = _Intermediate(size)
        self.output = _Output(size.text_mlp, size.text_width)

    def forward(self, tokens: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        tokens = self.attention(tokens, tokens, mask)
        tokens = self.crossattention(tokens, image)
        changed: Tensor = self.output(gelu(self.intermediate.dense(tokens)), tokens)
        return changed


class _Embeddings(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(size.vocabulary, size.text_width)
        self.position_embeddings = nn.Embedding(size.positions, size.text_width)
        self.LayerNorm = nn.LayerNorm(size.text_width, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings.weight[: ids.shape[1]])
        return normed


class _Layers(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_TextLayer(size) for _ in range(size.text_layers))


class _TextEncoder(nn.Module):
    """Caption tokens and image tokens -> caption tokens [N, L, W]."""

    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.embeddings = _Embeddings(size)
        self.encoder = _Layers(size)

    def forward(self, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        tokens: Tensor = self.embeddings(ids)
        for layer in self.encoder.layer:
            tokens = layer(tokens, mask, image)
        return tokens
