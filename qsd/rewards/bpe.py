"""CLIP's full vocabulary, as the families of published CLIP scorers cut captions into tokens.

All use the same 49,408 tokens, which open_clip ships, so nothing is downloaded. They differ in cleaning: open_clip and
OpenAI repair mis-decoded text (ftfy) and HTML entities first, transformers does not. They also differ in padding (0 or
the end token), which affects no score: the text tower is causal and read at the first end token.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import CLIPTokenizer

    Tokenize = Callable[[Sequence[str], int], Tensor]
    """(N captions, context length L) -> token ids, int64 [N, L]; longer captions are cut and keep their end token."""

_START, _END = "<|startoftext|>", "<|endoftext|>"


def as_open_clip(captions: Sequence[str], length: int) -> Tensor:
    """Token ids as open_clip makes them, int64 [N, length], padded with 0."""
    ids: Tensor = _open_clip()(list(captions), context_length=length)
    return ids


def as_openai(captions: Sequence[str], length: int) -> Tensor:
    """Token ids as OpenAI's CLIP makes them: open_clip's, but for the spelling of the special tokens in a caption."""
    spelt = [caption.replace(_START, "<start_of_text>").replace(_END, "<end_of_text>") for caption in captions]
    return as_open_clip(spelt, length)


def as_transformers(captions: Sequence[str], length: int) -> Tensor:
    """Token ids as transformers' CLIP processor makes them, int64 [N, length], padded with the end token."""
    return tokenize_with(_transformers())(captions, length)


def tokenize_with(tokenizer: CLIPTokenizer) -> Tokenize:
    """A transformers tokenizer as a function of captions and context length."""

    def tokenize(captions: Sequence[str], length: int) -> Tensor:
        encoded = tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        ids: Tensor = encoded["input_ids"]
        return ids

    return tokenize


@cache
def _open_clip() -> Callable[..., Tensor]:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer: Callable[..., Tensor] = SimpleTokenizer()
    return tokenizer


@cache
def _transformers() -> CLIPTokenizer:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    words = SimpleTokenizer()
    named = {"<start_of_text>": _START, "<end_of_text>": _END}
    vocabulary = {named.get(token, token): number for token, number in words.encoder.items()}
    merges = [pair for pair, _ in sorted(words.bpe_ranks.items(), key=lambda item: item[1])]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=_END)
