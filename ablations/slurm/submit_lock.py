"""Launchers of one store submit one after the other, so each sees what the others have put into the queue."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.store.artefacts import Store

_KEY = "submit"
_POLL_S = 0.5


@contextmanager
def submit_lock(store: Store) -> Iterator[None]:
    """Wait until no other launcher submits, and keep others waiting meanwhile."""
    announced = False
    while (claim := store.claims.take(_KEY)) is None:
        holder = store.claims.holder(_KEY)
        if holder is not None and not announced:
            print(
                f"another launch is submitting ({holder}); waiting for it. "
                f"If that process no longer exists, remove {store.claims.folder / _KEY}",
                flush=True,
            )
            announced = True
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        claim.release()
