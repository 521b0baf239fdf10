"""Times, sizes and counts as people read them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """A time of any length: ``8 s``, ``3 min 20 s``, ``45 min``, ``2 h 05 min`` or ``5 d 2 h``."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 stage``, ``3 stages``; ``plural`` where an s is not enough, as in ``entries``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_bytes(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
