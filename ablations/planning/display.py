"""A plan for a person, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.cost.estimate import AND_MODEL
from ablations.formatting import format_bytes, format_duration
from ablations.planning.cells import about
from ablations.store.states import STATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.planning.plan import Plan

_MOST_CELLS = 40
_MOST_NOTICES = 20


def cells_as_json(plan: Plan, states: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per cell and seed, with key and state of every stage."""
    return [
        about(cell)
        | {"stages": {stage: {"key": node.key, "state": states[node.key]} for stage, node in cell.stages.items()}}
        for cell in plan.cells
    ]


def print_plan(plan: Plan, summary: Mapping[str, Any]) -> None:
    """Question, cells, and a table of stages."""
    print(f"{plan.name}: {summary['question']}")
    _print_cells(plan)
    why = "stated in the sweep" if plan.primary["stated"] else "by default"
    print(f"decides: {plan.primary['scorer']} on split {plan.primary['split']} ({why})")
    for notice in summary["notices"][:_MOST_NOTICES]:
        print(f"note: {notice}")
    if len(summary["notices"]) > _MOST_NOTICES:
        print(f"note: ... and {len(summary['notices']) - _MOST_NOTICES:,} more notices ('ablate cells' prints all)")
    shown = [state for state in STATES if state in summary["states"]]
    width = max(len(state) for state in (*shown, "unique"))
    print()
    print("stage     " + "".join(f"{title:>{width + 2}}" for title in ("naive", "unique", *shown)) + "  shared")
    for stage, row in summary["stages"].items():
        numbers = (row["naive"], row["unique"], *(row["states"].get(state, 0) for state in shown))
        shared = f"by up to {row['shared_by_up_to']} cells" if row["shared_by_up_to"] > 1 else ""
        print(f"{stage:10}" + "".join(f"{number:>{width + 2},}" for number in numbers) + f"  {shared}".rstrip())
    totals = (summary["naive"], summary["unique"], *(summary["states"].get(state, 0) for state in shown))
    print(f"{'all':10}" + "".join(f"{number:>{width + 2},}" for number in totals))
    print(f"\n{sharing_line(plan)}")
    for line in summary["ahead"]:
        print(f"common work beforehand: {line}")
    _print_estimate(summary["estimate"])


def sharing_line(plan: Plan) -> str:
    """How many stages a sweep has, against how many it would have if every cell ran on its own."""
    unique, naive = len(plan.nodes), plan.naive.total()
    saved = 100 * max(0.0, 1 - unique / naive)
    return f"{unique:,} stages instead of {naive:,}: {saved:.0f} % saved by sharing"


def _print_cells(plan: Plan) -> None:
    seeds: dict[str, list[str]] = {}
    about: dict[str, str] = {}
    for cell in plan.cells:
        seeds.setdefault(cell.name, []).append("" if cell.seed is None else str(cell.seed))
        about[cell.name] = "baseline" if cell.is_baseline else "" if cell.role == "grid" else cell.role
    width = max(len(name) for name in seeds)
    print(f"{len(seeds):,} cells, {len(plan.cells):,} with seeds:")
    for name in list(seeds)[:_MOST_CELLS]:
        listed = f"seeds {', '.join(seeds[name])}" if seeds[name][0] else ""
        print(f"  {name:{width}}  {about[name]:8}  {listed}".rstrip())
    if len(seeds) > _MOST_CELLS:
        print(f"  ... and {len(seeds) - _MOST_CELLS:,} more ('ablate cells' prints all)")


def _print_estimate(found: Mapping[str, Any]) -> None:
    """What is left to do costs this; each kind of stage says what its times come from."""
    for line in found["assumed"]:
        print(f"note: {line}")
    kinds = {stage: kind for stage, kind in found["stages"].items() if kind["left"]}
    if not kinds:
        print("all is done")
        return
    print(f"\n{'left':10}{'stages':>9}{'each':>12}{'together':>14}{'GPU-hours':>11}{'disk':>10}  time from")
    for stage, kind in kinds.items():
        each = format_duration(kind["seconds_each"])
        print(f"{stage:10}{kind['left']:>9,}{each:>12}{_amounts(kind)}  {_origin(kind)}")
    print(f"{'all':10}{sum(kind['left'] for kind in kinds.values()):>9,}{'':>12}{_amounts(found)}")
    where = "this machine" if found["place"] == "local" else found["place"]
    print(f"\nabout {format_duration(found['wall_clock_seconds'])} with {found['parallel']} at a time on {where}")
    saved = f"{format_duration(3600 * found['saved_hours'])} ({100 * found['saved_share']:.0f} %)"
    print(f"sharing saves {saved} of what all cells would take on their own")
    if any("model" in kind["from"] for kind in kinds.values()):
        print("'model': nothing alike was run here yet; a rough guess from sizes (docs/sweeps.md has its assumptions)")
    if any(AND_MODEL in origin for kind in kinds.values() for origin in kind["from"]):
        print("'model per item': the runs so far were too small to show more than the time to start")


def _amounts(costs: Mapping[str, Any]) -> str:
    """Time together, GPU-hours and disk space as columns."""
    together, disk = format_duration(3600 * costs["hours"]), format_bytes(costs["disk_bytes"])
    return f"{together:>14}{costs['gpu_hours']:>11,.1f}{disk:>10}"


def _origin(kind: Mapping[str, Any]) -> str:
    parts = [origin if origin == "model" else f"{kind['records']} {origin}" for origin in kind["from"]]
    return ", ".join(parts)
