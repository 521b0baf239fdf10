"""Printing a plan, and its cells as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.cost.estimate import AND_MODEL
from ablations.formatting import format_bytes, format_count, format_duration
from ablations.grid.settings import typed
from ablations.planning.cells import about
from ablations.planning.needed import progress_lines
from ablations.power.lines import detect_lines, power_lines
from ablations.store.states import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.planning.plan import Plan

_MOST_CELLS = 40
_MOST_NOTICES = 20


def cells_as_json(plan: Plan, states: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per cell and seed, with key and state of every stage."""
    return [
        about(cell)
        | {"stages": {stage: {"key": node.key, "state": states[node.key]} for stage, node in cell.stages.items()}}
        for cell in plan.all_cells
    ]


def print_plan(plan: Plan, summary: Mapping[str, Any]) -> None:
    """Print the question, the cells, a table of stages, and the estimate."""
    print(f"{plan.name}: {summary['question']}")
    if len(plan.files) > 1:
        print(f"experiment: {' extends '.join(map(str, plan.files))}")
    _print_cells(plan)
    for line in progress_lines(plan):
        print(line)
    why = "stated in the sweep" if plan.primary["stated"] else "default"
    print(f"primary scorer: {plan.primary['scorer']}, split {plan.primary['split']} ({why})")
    for notice in summary["notices"][:_MOST_NOTICES]:
        print(f"note: {notice}")
    if len(summary["notices"]) > _MOST_NOTICES:
        print(f"note: ... and {len(summary['notices']) - _MOST_NOTICES:,} more notices ('ablate cells' prints all)")
    present_states = [state for state in STATES if state in summary["states"]]
    titles = ("without sharing", "unique", *present_states)
    widths = [len(title) + 2 if title == titles[0] else max(map(len, titles[1:])) + 2 for title in titles]
    print(f"\n{'stage':10}{_columns(titles, widths)}  shared")
    for stage, row in summary["stages"].items():
        numbers = (row["naive"], row["unique"], *(row["states"].get(state, 0) for state in present_states))
        shared = f"by up to {row['shared_by_up_to']} cells" if row["shared_by_up_to"] > 1 else ""
        print(f"{stage:10}{_columns(numbers, widths)}  {shared}".rstrip())
    totals = (summary["naive"], summary["unique"], *(summary["states"].get(state, 0) for state in present_states))
    print(f"{'all':10}{_columns(totals, widths)}")
    print(f"\n{sharing_line(plan)}")
    for line in summary["ahead"]:
        print(f"first: {line}")
    after = summary.get("after_tuning")
    _print_estimate(summary["estimate"], "the tuning" if after else "")
    if after:
        print("\nafter the tuning, priced with the first setting of each cell, since the choice is not made yet:")
        _print_estimate({**after, "assumed": []})  # what is assumed of the data stands above
    print()
    for line in power_lines(summary["power"], typed(plan.sweep)):
        print(line)
    if "detect" in summary["power"]:
        for line in detect_lines(summary["power"]):
            print(line)


def _columns(entries: Sequence[int | str], widths: Sequence[int]) -> str:
    """Entries aligned to the right."""
    texts = (entry if isinstance(entry, str) else f"{entry:,}" for entry in entries)
    return "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))


def sharing_line(plan: Plan) -> str:
    """How many stages a sweep has, against how many it would have if every cell ran on its own."""
    unique, naive = len(plan.nodes), plan.naive.total()
    saved = 100 * max(0.0, 1 - unique / naive)
    return f"{format_count(unique, 'stage')} instead of {naive:,}: {saved:.0f} % saved by sharing"


def _print_cells(plan: Plan) -> None:
    seeds: dict[str, list[str]] = {}
    roles: dict[str, str] = {}
    for cell in plan.cells:
        seeds.setdefault(cell.name, []).append("" if cell.seed is None else str(cell.seed))
        roles[cell.name] = "baseline" if cell.is_baseline else "" if cell.role == "grid" else cell.role
    width = max(len(name) for name in seeds)
    which = "the seeds needed so far" if plan.looks else "all seeds"
    runs = f", {len(plan.cells):,} with {which}" if len(plan.cells) > len(seeds) else ""
    print(f"{format_count(len(seeds), 'cell')}{runs}:")
    for name in list(seeds)[:_MOST_CELLS]:
        seed_list = f"seeds {', '.join(seeds[name])}" if seeds[name][0] else ""
        print(f"  {name:{width}}  {roles[name]:8}  {seed_list}".rstrip())
    if len(seeds) > _MOST_CELLS:
        print(f"  ... and {len(seeds) - _MOST_CELLS:,} more ('ablate cells' prints all)")


def _print_estimate(costs: Mapping[str, Any], part: str = "") -> None:
    """Print what the remaining stages, or those of a ``part``, will cost; each kind states the source of its times.

    What the sources mean follows the last part.
    """
    for line in costs["assumed"]:
        print(f"note: {line}")
    kinds = {stage: kind for stage, kind in costs["stages"].items() if kind["left"]}
    if not kinds:
        print(f"everything of {part} is done" if part else "everything is done")
        return
    with_gpu = costs["gpu_hours"] > 0
    gpu_hours = f"{'GPU-hours':>11}" if with_gpu else ""
    print(f"\n{'left':10}{'stages':>9}{'each':>12}{'together':>14}{gpu_hours}{'disk':>10}  time from")
    for stage, kind in kinds.items():
        each = format_duration(kind["seconds_each"])
        print(f"{stage:10}{kind['left']:>9,}{each:>12}{_amounts(kind, with_gpu)}  {_origin(kind)}")
    print(f"{'all':10}{sum(kind['left'] for kind in kinds.values()):>9,}{'':>12}{_amounts(costs, with_gpu)}")
    where = "this machine" if costs["place"] == "local" else costs["place"]
    of_part = f"{part} takes " if part else ""
    print(
        f"\n{of_part}about {format_duration(costs['wall_clock_seconds'])} with {costs['parallel']} at a time on {where}"
    )
    saved = f"{format_duration(3600 * costs['saved_hours'])} ({100 * costs['saved_share']:.0f} %)"
    print(f"sharing saves {saved} of the time that all cells would take without it")
    if part:
        return
    if any("model" in kind["from"] for kind in kinds.values()):
        print("'model': no comparable run recorded; rough estimate from model size (assumptions: docs/planning.md)")
    if any(AND_MODEL in origin for kind in kinds.values() for origin in kind["from"]):
        print("'model per item': the recorded runs were too small to show more than the start-up time")


def _amounts(costs: Mapping[str, Any], with_gpu: bool) -> str:
    """Total time, GPU-hours where there is a GPU, and disk space as columns of the table."""
    together, disk = format_duration(3600 * costs["hours"]), format_bytes(costs["disk_bytes"])
    gpu_hours = f"{costs['gpu_hours']:>11,.1f}" if with_gpu else ""
    return f"{together:>14}{gpu_hours}{disk:>10}"


def _recorded(count: int, origin: str) -> str:
    """``1 record``, ``3 records``, or another origin with its number of records before it."""
    return f"{count} {origin.replace('records', 'record', 1) if count == 1 else origin}"


def _origin(kind: Mapping[str, Any]) -> str:
    parts = [origin if origin == "model" else _recorded(kind["records"], origin) for origin in kind["from"]]
    return ", ".join(parts)
