"""The values of a cluster profile, each checked at its place in the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ablations.grid.values import show
from ablations.secret_scan import secret_variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qsd.config.yaml_nodes import Node

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_SET_BY_RUNNER = re.compile(
    "account|array|chdir|constraint|cpus-per-task|dependency|error|export|gpus-per-node|hold|job-name|"
    "kill-on-invalid-dep|mem|no-requeue|open-mode|output|parsable|partition|qos|requeue|signal|time|wait"
)


def whole(least: int, most: int, optional: bool = False) -> Callable[[str, Node], int | None]:
    """A check for whole numbers within bounds, or null if ``optional``."""

    def check(name: str, node: Node) -> int | None:
        value = node.value
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise node.error(f"{name} must be a whole number from {least} to {most}, not {show(node.plain())}")
        return value

    return check


def gigabytes(name: str, node: Node) -> float:
    """A positive number."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100_000:
        raise node.error(f"{name} must be a number of gigabytes above 0, not {show(node.plain())}")
    return float(value)


def truth(name: str, node: Node) -> bool:
    """True or false."""
    if not isinstance(node.value, bool):
        raise node.error(f"{name} must be true or false, not {show(node.plain())}")
    return node.value


def text(name: str, node: Node) -> str | None:
    """One line of text, or null."""
    if node.value is None:
        return None
    if not isinstance(node.value, str) or not node.value.strip() or not node.value.isprintable():
        raise node.error(f"{name} must be one line of text, not {show(node.plain())}")
    return node.value


def lines(name: str, node: Node) -> tuple[str, ...]:
    """A list of lines."""
    if not isinstance(node.value, list):
        raise node.error(f"{name} must be a list of shell lines, not {show(node.plain())}")
    return tuple(text(f"a line of {name}", item) or "" for item in node.value)


def environment(name: str, node: Node) -> dict[str, str]:
    """Variables and their values; names that look like secrets are refused."""
    found: dict[str, str] = {}
    for variable, key, value in mapping(name, node).items():
        if not _VARIABLE.fullmatch(variable):
            raise key.error(f"'{variable}' is no name of a variable")
        if secret_variable(variable):
            raise key.error(f"'{variable}' looks like a secret; a profile is no place for one (docs/slurm.md)")
        if isinstance(value.value, bool) or not isinstance(value.value, str | int | float):
            raise value.error(f"the variable {variable} must be text or a number, not {show(value.plain())}")
        found[variable] = show(value.value) if isinstance(value.value, float) else str(value.value)
    return found


def options(name: str, node: Node) -> dict[str, str | int | bool]:
    """Long options of sbatch that the runner does not set itself."""
    found: dict[str, str | int | bool] = {}
    for option, key, value in mapping(name, node).items():
        if not _OPTION.fullmatch(option):
            raise key.error(f"'{option}' is no long option of sbatch; write it without dashes in front")
        if _SET_BY_RUNNER.fullmatch(option):
            raise key.error(f"'{option}' is set by the runner; it is no free option")
        if value.value is not True and (isinstance(value.value, bool) or not isinstance(value.value, str | int)):
            raise value.error(f"the option {option} must be text, a whole number or true, not {show(value.plain())}")
        found[option] = value.value
    return found


def mapping(name: str, node: Node) -> Node:
    """The node itself, if it is a mapping."""
    if not isinstance(node.value, dict):
        raise node.error(f"{name} must be a mapping, not {show(node.plain())}")
    return node
