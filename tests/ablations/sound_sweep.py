"""A sweep file that is right, of which a test replaces lines."""

from __future__ import annotations


def whole(**parts: str) -> str:
    """A sound sweep with some lines replaced."""
    lines = {
        "question": "question: q",
        "experiment": "experiment: tiny",
        "axes": "axes: {quality.metric: [product, difference]}",
        "baseline": "baseline: {quality.metric: product}",
        "seeds": "seeds: [0]",
    }
    return "\n".join((lines | parts).values()) + "\n"
