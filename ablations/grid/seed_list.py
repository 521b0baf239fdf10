"""A list of training seeds in a sweep's file, checked in place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ablations.grid.clauses import listing
from ablations.grid.values import show
from qsd.config.fields import MOST_SEED

if TYPE_CHECKING:
    from qsd.config.yaml_nodes import Node


def read_seed_list(node: Node, what: str = "seeds", example: str = "0, 1, 2") -> tuple[int, ...]:
    """The different whole numbers of a list.

    Args:
        node: the list.
        what: its name in messages.
        example: seeds that a message suggests where the file names none.

    Raises:
        UserError: no list, an empty one, a value that is no seed, or one that is given twice; with its place.
    """
    given = node.plain()
    written = given if isinstance(given, str) and re.fullmatch(r"[\d, ]+", given) else show(given)
    numbers = re.findall(r"\d+", written) if isinstance(given, str | int) else []
    suggested = f"; for example  {what}: [{', '.join(numbers) or example}]"
    items = listing(node, what, of="whole numbers", example=suggested)
    if not items:
        raise node.error(f"{what} is empty; give at least one, such as [{example.partition(',')[0]}]")
    seeds: list[int] = []
    for item in items:
        if isinstance(item.value, bool) or not isinstance(item.value, int) or not 0 <= item.value <= MOST_SEED:
            raise item.error(f"a seed must be a whole number from 0 to {MOST_SEED}, not {show(item.plain())}")
        if item.value in seeds:
            raise item.error(f"seed {item.value} is given twice")
        seeds.append(item.value)
    return tuple(seeds)
