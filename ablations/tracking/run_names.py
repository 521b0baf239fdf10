"""Names, groups, tags and ids that W&B accepts, different for different cells."""

from __future__ import annotations

import hashlib
import re

MOST = 128
"""Characters of an id, a name, a group and an artefact's name; W&B refuses longer ones."""
_MOST_IN_TAG = 64
_SAFE = re.compile(r"[^A-Za-z0-9_.-]")
_DIGITS = 8


def run_id(sweep: str, experiment: str, cell: str, seed: int | None) -> str:
    """The id of a run, a function of the sweep, the experiment, the cell's id and its seed (None: the base model).

    Letters that W&B does not accept become ``-``. An id that was changed or cut contains a digest of all four, so that
    different runs keep different ids.
    """
    replicate = "base" if seed is None else f"s{seed}"
    return _unique(f"{sweep}-{experiment}", f"-{cell}-{replicate}", f"{sweep}@{experiment}")


def report_id(sweep: str, experiment: str) -> str:
    """The id of the run that has a sweep's report; also the name of the report's artefact."""
    return _unique(f"{sweep}-{experiment}", "-report", f"{sweep}@{experiment}")


def name(text: str) -> str:
    """A name or group that W&B accepts; one that is cut ends with a digest, so that different ones stay different."""
    return _cut(text, MOST)


def tag(text: str) -> str:
    """A tag that W&B accepts: 1 to 64 characters, cut as :func:`name`."""
    return _cut(text, _MOST_IN_TAG)


def _unique(begin: str, end: str, identity: str) -> str:
    plain = _SAFE.sub("-", begin)
    # A hyphen in a name makes "a-b" of "c" and "a" of "b-c" the same.
    if plain != begin or identity.count("-") or len(plain) + len(end) > MOST:
        mark = f"-{_digest(identity)}{end}"
        return plain[: MOST - len(mark)] + mark
    return plain + end


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    mark = f"~{_digest(text)}"
    return text[: most - len(mark)] + mark


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
