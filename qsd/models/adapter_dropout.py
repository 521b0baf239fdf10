"""Dropout of a LoRA adapter whose draws belong to pairs, as all other draws of a training do.

    x → x · keep / (1 - p)        keep = hash(pair, layer, place in x) ≥ p        before A, in a step's training passes

PEFT's own dropout draws from a generator with a state, so that a mask would depend on everything drawn before it. Here
it is a function of (pair id, draw index, seed, layer, element): a resumed training, other micro-batches, several
processes and a forward pass that gradient checkpointing repeats all draw the same masks. Winner and loser of a pair
share theirs, as they share time and noise. Nothing is left out in passes of the reference (which has no adapter), of
moving averages, in validation and in generation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_WORD = 0xFFFFFFFF
# Multipliers of 32-bit mixing (odd, with good avalanche).
_MIX, _MIX_AGAIN = 0x7FEB352D, 0x846CA68B


class DropoutSwitch:
    """Switches the dropout of all layers of an adapter on, for some pairs; it begins switched off.

    Attributes:
        keys: one number per pair, [B] int64 on the device of the network; None: nothing is left out.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None

    @contextmanager
    def on(self, keys: Tensor | None) -> Iterator[None]:
        """Inside, the masks are those of ``keys``; the backward pass must be inside too, as it may repeat the forward.

        Args:
            keys: [B] int64; images of a forward pass are those of these pairs, once or several times in this order.
                None switches dropout off.
        """
        before, self.keys = self.keys, keys
        try:
            yield
        finally:
            self.keys = before


class PairDropout(nn.Module):
    """The dropout of one layer.

    Args:
        share: p, of elements that are left out.
        layer: the layer's dotted name, so that layers have different masks.
        switch: of all layers.
        device: of the network.
    """

    def __init__(self, share: float, layer: str, switch: DropoutSwitch, device: torch.device) -> None:
        super().__init__()
        self.share = share
        self.switch = switch
        number = int.from_bytes(
            hashlib.blake2b(layer.encode(), digest_size=4, person=b"qsd dropout").digest(), "little"
        )
        # A tensor and no number: a compiled block serves all layers that are alike.
        self.register_buffer("layer", torch.tensor(number, device=device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [n B, ...] with elements left out, in its type."""
        keys = self.switch.keys
        if keys is None:
            return x
        return x.masked_fill(self._dropped(x, keys), 0.0) / (1 - self.share)

    def extra_repr(self) -> str:
        """The share."""
        return f"p={self.share}"

    def _dropped(self, x: Tensor, keys: Tensor) -> Tensor:
        """Which elements are left out, bool in the shape of x; the same for all images of a pair."""
        pairs, last = len(keys), x.shape[-1]
        rows = math.prod(x.shape[1:-1])
        layer: Any = self.layer
        of_pair = _mixed(_mixed(keys & _WORD) ^ (keys >> 32 & _WORD) ^ layer)
        of_row = _mixed(of_pair[:, None] + torch.arange(rows, device=x.device) & _WORD)
        of_column = _mixed(torch.arange(last, device=x.device) + layer & _WORD)
        number = (of_row[..., None].int() ^ of_column.int()).mul(_MIX)
        number = (number ^ ((number >> 15) & 0x1FFFF)).mul(_signed(_MIX_AGAIN))
        number = number ^ ((number >> 16) & 0xFFFF)
        dropped = number < round(self.share * 2**32) - 2**31
        images = dropped.expand(len(x) // pairs, *dropped.shape)
        return images.reshape(x.shape)


def put_dropout(network: nn.Module, name: str) -> None:
    """Replace PEFT's dropout of an adapter by one whose draws belong to pairs.

    Args:
        network: with the adapter.
        name: of the adapter.
    """
    switch = DropoutSwitch()
    for layer, module in network.named_modules():
        dropouts: Any = getattr(module, "lora_dropout", {})
        usual: Any = dict(dropouts.items()).get(name)
        if isinstance(usual, nn.Dropout):
            dropouts[name] = PairDropout(usual.p, layer, switch, next(module.parameters()).device)


def dropout_switch(network: nn.Module) -> DropoutSwitch:
    """The switch of a network's adapter; one that switches nothing where the adapter has no dropout."""
    return next((item.switch for item in network.modules() if isinstance(item, PairDropout)), DropoutSwitch())


def _mixed(numbers: Tensor) -> Tensor:
    """A hash of numbers of 32 bits, each in int64; of the same kind."""
    numbers = (numbers ^ (numbers >> 16)) * _MIX & _WORD
    numbers = (numbers ^ (numbers >> 15)) * _MIX_AGAIN & _WORD
    return numbers ^ (numbers >> 16)


def _signed(word: int) -> int:
    """The number of int32 with these bits."""
    return word - 2**32 if word >= 2**31 else word
