"""Licences of base models that are known by their hub name. A note for the reader, no legal advice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence: its identifier on the hub, and a sentence for the card."""

    identifier: str
    note: str


_RAIL = (
    "The base model is under the {name} licence. An adapter made from it is a derivative of it: pass it on with a copy "
    "of that licence and with its restrictions on use (its Attachment A)."
)
_STABILITY = (
    "The base model is under the Stability AI Community License: free for research, and for commerce below a yearly "
    "revenue that it names. An adapter made from it is a derivative of it: pass it on with a copy of that licence and "
    "the notice that it asks for."
)
_KNOWN = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Licence(
        "creativeml-openrail-m", _RAIL.format(name="CreativeML Open RAIL-M")
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": Licence("openrail++", _RAIL.format(name="CreativeML Open RAIL++-M")),
    "stabilityai/stable-diffusion-3-medium-diffusers": Licence("other", _STABILITY),
    "stabilityai/stable-diffusion-3.5-medium": Licence("other", _STABILITY),
    "stabilityai/stable-diffusion-3.5-large": Licence("other", _STABILITY),
    "black-forest-labs/FLUX.1-dev": Licence(
        "other",
        "The base model is under the FLUX.1 [dev] Non-Commercial License. An adapter made from it is a derivative of "
        "it: pass it on with a copy of that licence, for non-commercial use.",
    ),
    "black-forest-labs/FLUX.1-schnell": Licence("apache-2.0", "The base model is under the Apache License 2.0."),
}
_UNKNOWN = Licence(
    "other", "The licence of the base model applies to what is made from it; which one that is, is not known here."
)


def licence_of(model: str) -> Licence:
    """The licence of a base model by its path or hub name, with or without @revision."""
    return _KNOWN.get(model.partition("@")[0], _UNKNOWN)
