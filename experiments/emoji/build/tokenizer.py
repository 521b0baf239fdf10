"""Step 3: CLIP's byte-pair encoding cut to the tokens that the captions use.

Merges that no caption applies are dropped, which changes the tokens of no caption: byte-pair encoding never used
them. All single bytes stay, so any other text can still be encoded.
"""

from __future__ import annotations

import gzip
import itertools
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import regex
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from experiments.emoji.build.world import MAX_TOKENS, World

_END_OF_WORD = "</w>"
_WORDS = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
START, END = "<|startoftext|>", "<|endoftext|>"
_FULL_MERGES = 49_152 - 256 - 2  # its vocabulary less the bytes and the two special tokens


@cache
def full_merges() -> list[tuple[str, str]]:
    """All merges of CLIP's encoding, best first, as shipped by open_clip."""
    packed = files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _FULL_MERGES + 1]
    return [(left, right) for left, right in (line.split() for line in lines)]


def applied_merges(word: str, ranks: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """The merges that byte-pair encoding applies to one word."""
    encoder = bytes_to_unicode()
    parts = [encoder[byte] for byte in word.encode("utf-8")]
    parts[-1] += _END_OF_WORD
    used: set[tuple[str, str]] = set()
    while len(parts) > 1:
        best = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            return used
        used.add(best)
        merged: list[str] = []
        index = 0
        while index < len(parts):
            if tuple(parts[index : index + 2]) == best:
                merged.append(best[0] + best[1])
                index += 2
            else:
                merged.append(parts[index])
                index += 1
        parts = merged
    return used


def cut(captions: list[str]) -> dict[str, Any]:
    """``vocab`` and ``merges`` that encode ``captions`` as the full encoding would."""
    ranks = {pair: rank for rank, pair in enumerate(full_merges())}
    words = {word for caption in captions for word in _WORDS.findall(caption.lower())}
    used = set().union(*(applied_merges(word, ranks) for word in words))
    merges = sorted(used, key=ranks.__getitem__)
    characters = list(bytes_to_unicode().values())
    tokens = [*characters, *(character + _END_OF_WORD for character in characters), *(a + b for a, b in merges)]
    vocab = {token: index for index, token in enumerate([*tokens, START, END])}
    return {"vocab": vocab, "merges": merges}


def create(vocab: dict[str, int], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """The tokenizer that the pipeline and the reward models share; pads with the end token as CLIP's does."""
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=MAX_TOKENS,
    )


def build(world: World) -> CLIPTokenizer:
    """Write the tokenizer's folder, or read it when it is there."""
    folder = world.model / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        captions = pd.read_parquet(world.icons, columns=["caption"])["caption"].tolist()
        create(**cut(captions)).save_pretrained(folder)
        compact(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, CLIPTokenizer)
    return tokenizer


def compact(folder: Path) -> None:
    """Write a tokenizer's JSON without line breaks: it is shipped once for each model that reads it."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def longest(tokenizer: CLIPTokenizer, captions: list[str]) -> int:
    """Tokens of the longest caption, with start and end."""
    return max(len(ids) for ids in tokenizer(captions)["input_ids"])


def folder_of(world: World) -> Path:
    """The folder of the tokenizer."""
    return world.model / "tokenizer"
