"""Captions from icon names: ``croissant`` in the set ``noto`` becomes ``a croissant, noto style``."""

from __future__ import annotations

_UNCOUNTABLE_ENDINGS = ("chopsticks", "glasses", "sunglasses", "sandals", "shorts", "jeans", "stairs")
_VOWELS = "aeiou"
_VOWEL_SOUND = ("8", "11", "18", "hour")
_CONSONANT_SOUND = ("uni", "one", "euro", "use", "ufo")


def phrase(name: str) -> str:
    """The icon's name as words with an article: ``open-book`` -> ``an open book``."""
    words = name.replace("-", " ")
    if words.endswith(_UNCOUNTABLE_ENDINGS):
        return words
    if words.startswith(_VOWEL_SOUND):
        return f"an {words}"
    if words.startswith(_CONSONANT_SOUND) or words[0] not in _VOWELS:
        return f"a {words}"
    return f"an {words}"


def caption(name: str, style: str) -> str:
    """The caption of one icon in one style."""
    return f"{phrase(name)}, {style} style"
