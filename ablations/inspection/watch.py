"""``ablate status`` on a terminal: the same lines again and again, until nothing is under way any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ablations.inspection.status import alive, status, status_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.text import Text

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

_EVERY_S = 2.0
_SCHEDULER_EVERY_S = 15.0
"""A scheduler serves many; it is asked less often than files are read."""
_SHARE = 5
"""Looking may take at most this part of the time."""


def watch(plan: Plan, store: Store, console: Console | None = None) -> dict[str, Any]:
    """Show the state of a sweep until nothing of it is alive; the last state. Ctrl-C ends it without a word."""
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    found = status(plan, store)
    try:
        with Live(_page(found, console), console=console, auto_refresh=False, transient=True) as live:
            while alive(found):
                begin = time.monotonic()
                found = status(plan, store)
                live.update(_page(found, console), refresh=True)
                least = _EVERY_S if found["scheduler"] == "not asked" else _SCHEDULER_EVERY_S
                time.sleep(max(least, _SHARE * (time.monotonic() - begin)))
    except KeyboardInterrupt:
        pass
    return found


def _page(found: Mapping[str, Any], console: Console) -> Text:
    """As many cells as fit, what is under way first; long lines are cut."""
    from rich.text import Text

    height, width = console.height, console.width
    room = max(3, height - 4 - bool(found["stale"]) - 2 * min(len(found["failures"]), 3))
    lines = [line[:width] for text in status_lines(found, room, urgent_first=True) for line in text.splitlines()]
    return Text("\n".join(lines[: height - 1]))
