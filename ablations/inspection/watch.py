"""``ablate status`` on a terminal: the status is refreshed until no stage runs or is queued any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ablations.inspection.status import alive, status, status_lines
from ablations.planning.needed import needed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.text import Text

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

_EVERY_S = 2.0
_SCHEDULER_EVERY_S = 15.0
"""The scheduler is shared with other users, so it is asked less often than files are read."""
_SHARE = 5
"""The pause is at least this many times as long as reading the status took, so that reading stays cheap."""


def watch(plan: Plan, store: Store, console: Console | None = None) -> dict[str, Any]:
    """Show the status of a sweep until nothing of it runs or is queued; return the last status.

    Ctrl-C ends the display without a message.
    """
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    plan, report = _latest(plan, store)
    try:
        with Live(_page(report, console), console=console, auto_refresh=False, transient=True) as live:
            while alive(report):
                begin = time.monotonic()
                plan, report = _latest(plan, store)
                live.update(_page(report, console), refresh=True)
                least = _EVERY_S if report["scheduler"] == "not asked" else _SCHEDULER_EVERY_S
                time.sleep(max(least, _SHARE * (time.monotonic() - begin)))
    except KeyboardInterrupt:
        pass
    return report


def _latest(plan: Plan, store: Store) -> tuple[Plan, dict[str, Any]]:
    """The status now; where nothing runs any more, that of what is needed next, if there is more."""
    report = status(plan, store)
    if (plan.looks is None and plan.tuning is None) or alive(report):
        return plan, report
    plan = needed(plan, store)
    return plan, status(plan, store)


def _page(report: Mapping[str, Any], console: Console) -> Text:
    """As many cells as fit on the screen, running ones first; long lines are cut."""
    from rich.text import Text

    height, width = console.height, console.width
    room = max(3, height - 4 - bool(report["stale"]) - report["launcher"] - 2 * min(len(report["failures"]), 3))
    lines = [line[:width] for text in status_lines(report, room, urgent_first=True) for line in text.splitlines()]
    return Text("\n".join(lines[: height - 1]))
