"""``ablate run``: the stages, then tables and pictures, with W&B following."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.commands.plan_display import sharing_line
from ablations.cost.outlook import outlook_of
from ablations.formatting import format_count
from ablations.grid.settings import typed
from ablations.planning.needed import needed, progress_lines
from ablations.planning.tuning_lines import problem_lines
from ablations.recovery import failures as grouping
from ablations.running import finalize, local
from ablations.running.display import Board, Lines, on_terminal
from ablations.running.wandb_follower import following, push_line, tracking_settings
from ablations.running.workers import PRELOAD
from ablations.store import divergence
from ablations.store.jobs import QSD
from qsd.config.find import find_experiment
from qsd.errors import UserError

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
    """Run a plan on this machine and show the tables of what is evaluated; the exit status of the command.

    A plan with looks is followed by that of the next look, until all comparisons have stopped or a stage fails; the
    trials of one that is tuned by the cells with their chosen settings. 0: every stage that was to run is done, or its
    training diverged, which is a result. 1: some stage failed, or no setting of a cell can be chosen; the tables are
    written all the same. 128 + N: stopped by signal N, without tables. The arguments are as in
    ``local.run``.
    """
    for notice in plan.notices:
        print(f"note: {notice}")
    commit = finalize.commit_of(Path.cwd())
    folder = finalize.write_cells(plan, store, commit)
    left, diverged = _left(plan, store)
    if diverged and only is None:
        print(divergence.notice(typed(plan.sweep), diverged), flush=True)
    with following(store.root, folder, plan.cells[0].values, only is not None or bool(left)):
        more, all_diverged = True, list[local.Failure]()
        while more:
            with contextlib.ExitStack() as stack:
                outlook = outlook_of(plan, store, jobs, gpus, only) if on_terminal() else None
                display = stack.enter_context(Board(outlook)) if on_terminal() else Lines(sys.stdout)
                result = local.run(plan, store, display, jobs, table, preload, gpus, only)
            if result.signal is not None:
                return 128 + result.signal
            all_diverged += result.diverged
            before, plan = plan, needed(plan, store)
            finalize.write_cells(plan, store, commit)
            if before.is_undecided or (plan.looks and plan.looks.record.open_cells):  # later, the table says so
                print("\n".join(progress_lines(plan)), flush=True)
            more = only is None and not result.failures and not plan.nodes.keys() <= before.nodes.keys()
        text = _tables(store, folder, bool(result.failures))
    print(text, flush=True)
    if all_diverged:
        print(divergence.notice(typed(plan.sweep), [each.label for each in all_diverged]), flush=True)
    return _conclude(plan, store, folder, result.failures, only is None)


def _conclude(plan: Plan, store: Store, folder: Path, failures: list[local.Failure], whole: bool) -> int:
    """Print what follows the tables: failures, or what was shared, what can be uploaded and where the results are.

    The exit status of the command; ``whole``: all stages of the plan were to run.
    """
    results = finalize.results_line(folder)
    problems = problem_lines(plan.tuning)
    if failures or problems:
        if results:
            print(results, flush=True)
        _report(plan, store, failures, problems)
        return EXIT_FAILED
    if not whole and _left(plan, store)[0]:
        print("done; other stages of the sweep are not: 'ablate run' continues with them")
    print(sharing_line(plan))
    if line := push_line(store.root, folder, tracking_settings(plan.cells[0].values), _push_command(plan)):
        print(line)
    if results:
        print(results)
    return 0


def _left(plan: Plan, store: Store) -> tuple[set[str], list[str]]:
    """Keys of the stages that a run has to do, and labels of the trainings that it leaves since they diverged."""
    left = {key: node for key, node in plan.nodes.items() if not store.is_done(node.stage, key)}
    diverged = divergence.diverged_stages(store, left)
    return set(left) - divergence.with_followers(left, diverged), [plan.label(left[key]) for key in diverged]


def _tables(store: Store, folder: Path, failed: bool) -> str:
    """The tables for a terminal, or why there are none; what ``failed`` must still be reported after that."""
    if not finalize.any_evaluated(folder):
        return "no table yet: no cell is evaluated"
    try:
        return finalize.table_text(store, folder)
    except UserError as error:
        if not failed:
            raise
        return f"no table: {error}"


def _push_command(plan: Plan) -> str:
    own = plan.files[0] == find_experiment(plan.sweep.experiment)
    other = "" if own else f" --experiment {shlex.quote(str(plan.files[0]))}"
    return f"ablate wandb push {typed(plan.sweep)}{other}"


def _report(plan: Plan, store: Store, failures: list[local.Failure], problems: list[str]) -> None:
    """The failures of a run in groups of one cause and place in the code, as ``ablate failures`` has them.

    ``problems`` are lines about cells whose settings cannot be chosen.
    """
    for line in problems:
        print(f"failed: {line}", file=sys.stderr)
    if not failures:
        return
    marks = {
        stage["label"]: group["fingerprint"]
        for group in grouping.failures(plan, store)["groups"]
        for stage in group["stages"]
    }
    groups: dict[str, list[local.Failure]] = {}
    for failure in failures:
        groups.setdefault(marks.get(failure.label, failure.reason), []).append(failure)
    for group in groups.values():
        first, blocked = group[0], sum(failure.blocked for failure in group)
        title = first.label if len(group) == 1 else format_count(len(group), "stage")
        it = "it" if len(group) == 1 else "them"
        waiting = f" ({format_count(blocked, 'more stage waits', 'more stages wait')} for {it})" if blocked else ""
        print(f"failed: {title}{waiting}: {first.reason}", file=sys.stderr)
        if len(group) > 1:
            print(f"    {grouping.shortened([failure.label for failure in group])}", file=sys.stderr)
        if first.log:
            print(f"    log: {first.log}", file=sys.stderr)
    print(f"{format_count(len(failures), 'stage')} failed; the same command tries them again", file=sys.stderr)
