"""``ablate run``: the stages, then tables and pictures, with W&B following."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.cost.spent import spent
from ablations.running import finish, local
from ablations.running.follow import following
from ablations.running.server import PRELOAD
from ablations.store.jobs import QSD
from ablations.watching.display import Board, Lines, on_terminal

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

EXIT_FAILED = 1


def run(
    plan: Plan,
    store: Store,
    jobs: int | None,
    table: str = QSD,
    preload: Sequence[str] = PRELOAD,
    gpus: tuple[str, ...] = (),
    only: Container[str] | None = None,
) -> int:
    """Run a plan on this machine and show its tables; the exit status of the command.

    0: all done. 1: some stage failed. 128 + N: stopped by signal N. The arguments are as in ``local.run``.
    """
    for notice in plan.grid.notices:
        print(f"note: {notice}")
    folder = finish.write_cells(plan, store, Path.cwd())
    busy = not all(store.is_done(node.stage, key) for key, node in plan.nodes.items())
    with following(store.root, folder, plan.cells[0].values, busy):
        with contextlib.ExitStack() as stack:
            display = stack.enter_context(Board()) if on_terminal() else Lines(sys.stdout)
            result = local.run(plan, store, display, jobs, table, preload, gpus, only)
        if result.signal is not None:
            return 128 + result.signal
        if result.failures:
            _report(result.failures)
            return EXIT_FAILED
        if only is not None and not all(store.is_done(node.stage, key) for key, node in plan.nodes.items()):
            print("done; other stages of the sweep are not: 'ablate run' goes on with them")
            return 0
        finish.write_tables(store, folder)
    print(finish.render(folder))
    if (found := spent(plan, store)) is not None:
        print(found.line())
    return 0


def _report(failures: list[local.Failure]) -> None:
    for failure in failures:
        waiting = f" ({failure.blocked} more wait for it)" if failure.blocked else ""
        log = f"\n    log: {failure.log}" if failure.log else ""
        print(f"failed: {failure.label}{waiting}: {failure.reason}{log}", file=sys.stderr)
    print(f"{len(failures)} stage(s) failed; the same command tries them again", file=sys.stderr)
