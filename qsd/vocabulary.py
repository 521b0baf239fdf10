"""A tokenizer against the text model that it belongs to, from their files alone: no torch, no tokenizer is made.

A tokenizer without its vocabulary still makes ids of any caption: the same few for all of them. Without its merges it
spells captions out. Nothing fails then, and every image is drawn for another text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError, reason
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_PADDING = 127
"""Rows of an embedding that may have no token: sizes are rounded up to a multiple of 128."""
_WORD_END = "</w>"


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer knows.

    Attributes:
        tokens: token -> id, with those that were added.
        added: tokens that are found as they are, not put together, such as the start and the end.
        merges: pairs of tokens that are put together; None where the tokenizer works in another way.
    """

    tokens: dict[str, int]
    added: frozenset[str]
    merges: frozenset[str] | None


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary in a tokenizer's folder: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

    Returns:
        None: the folder has a vocabulary in another form (``*.model``), which only its library reads.

    Raises:
        UserError: no folder, no vocabulary in it, or a damaged one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: the tokenizer is missing; copy or fetch the whole model again")
    whole, words, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            return parse_tokenizer(json.loads(whole.read_bytes()))
        if words.is_file() and merges.is_file():
            lines = merges.read_text(encoding="utf-8").splitlines()
            joined = frozenset(line.replace(" ", "") for line in lines if line and not line.startswith("#version"))
            return Vocabulary(dict(json.loads(words.read_bytes())), _added(folder), joined)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder}: damaged tokenizer ({type(error).__name__}: {reason(error)})") from None
    if any(folder.glob("*.model")):
        return None
    missing = [path.name for path in (words, merges) if not path.is_file()]
    raise UserError(f"{folder}: no vocabulary: neither tokenizer.json nor {' and '.join(missing)}; fetch it again")


def parse_tokenizer(content: Any) -> Vocabulary:
    """The content of a ``tokenizer.json``.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    model = content["model"]
    added = {str(entry["content"]): int(entry["id"]) for entry in content.get("added_tokens") or []}
    stored = model["vocab"]
    # Unigram models have a list of (token, score), the others a dictionary.
    tokens = {str(pair[0]): number for number, pair in enumerate(stored)} if isinstance(stored, list) else dict(stored)
    merges = None
    if model.get("type") == "BPE":
        pairs: Iterable[Any] = model["merges"]
        merges = frozenset(pair.replace(" ", "") if isinstance(pair, str) else "".join(pair) for pair in pairs)
    return Vocabulary({**tokens, **added}, frozenset(added), merges)


def check_vocabulary(vocabulary: Vocabulary, rows: int, place: str) -> None:
    """Check that a tokenizer gives every caption its own ids, and the text model a row for every id.

    Args:
        vocabulary: of the tokenizer.
        rows: of the text model's embedding.
        place: the tokenizer's, for the message.

    Raises:
        UserError: ids beyond the embedding, tokens that are missing, or merges that are.
    """
    ids = set(vocabulary.tokens.values())
    if not all(isinstance(number, int) for number in ids):
        raise UserError(f"{place}: ids that are no whole numbers; fetch the tokenizer again")
    most = max(ids, default=-1)
    if most >= rows:
        raise UserError(f"{place}: token ids up to {most}, but the text model's embedding has {rows} rows")
    allowed = max(_PADDING, rows // 100)
    if len(ids) < rows - allowed or len(ids) != most + 1:
        raise UserError(
            f"{place}: {len(ids)} tokens with ids up to {most}, but the text model's embedding has {rows} rows; the "
            "vocabulary is incomplete or another model's: fetch the tokenizer again"
        )
    unreachable = [] if vocabulary.merges is None else _unreachable(vocabulary, vocabulary.merges)
    if len(unreachable) > len(ids) // 100:
        raise UserError(
            f"{place}: no merges lead to {len(unreachable)} of {len(ids)} tokens, such as {unreachable[0]!r}; the "
            "merges are incomplete: fetch the tokenizer again"
        )


def check_tokenizer_files(tokenizer: Path, encoder: Path) -> None:
    """Check a tokenizer's folder against the ``config.json`` of its text model.

    Raises:
        UserError: as :func:`read_vocabulary` and :func:`check_vocabulary`.
    """
    try:
        rows = json.loads(read_regular(encoder / "config.json"))["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # what is wrong with it is reported where the text model is checked
    vocabulary = read_vocabulary(tokenizer)
    if vocabulary is not None and isinstance(rows, int):
        check_vocabulary(vocabulary, rows, str(tokenizer))


def check_tokenizer_rows(tokenizer: Any, rows: int, place: str) -> None:
    """Check a loaded tokenizer against the rows of its text model's embedding.

    Args:
        tokenizer: of transformers.
        rows: of the embedding.
        place: the tokenizer's, for the message.

    Raises:
        UserError: as :func:`check_vocabulary`.
    """
    if getattr(tokenizer, "is_fast", False):
        vocabulary = parse_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))
    else:
        vocabulary = Vocabulary(dict(tokenizer.get_vocab()), frozenset(), None)
    check_vocabulary(vocabulary, rows, place)


def _added(folder: Path) -> frozenset[str]:
    """Tokens that are no merges of others: those in ``added_tokens.json``, and the special ones by their spelling."""
    path = folder / "added_tokens.json"
    more: Collection[str] = json.loads(path.read_bytes()) if path.is_file() else ()
    return frozenset(more)


def _unreachable(vocabulary: Vocabulary, merges: frozenset[str]) -> list[str]:
    """Tokens of several characters that no merge makes."""
    return sorted(
        token
        for token in vocabulary.tokens
        if len(token.removesuffix(_WORD_END)) > 1
        and token not in vocabulary.added
        and token not in merges
        and not (token.startswith("<|") and token.endswith("|>"))
    )
