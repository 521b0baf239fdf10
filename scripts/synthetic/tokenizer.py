"""A tokenizer that needs no files: for pipelines and scorers with random weights."""

from __future__ import annotations

from itertools import islice, product

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


def byte_tokenizer(max_tokens: int, size: int | None = None) -> CLIPTokenizer:
    """CLIP's byte tokens: one token per byte, at most `max_tokens` with start and end.

    Args:
        max_tokens: longest caption.
        size: of the vocabulary, filled up with pairs of bytes; None merges nothing.
    """
    letters = list(bytes_to_unicode().values())
    single = [*letters, *(f"{letter}</w>" for letter in letters)]
    pairs = [] if size is None else list(islice(product(letters, letters), size - len(single) - 2))
    tokens = [*single, *(first + second for first, second in pairs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=max_tokens)
