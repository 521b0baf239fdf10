"""``extends: NAME``: an experiment that is another one with some fields changed.

A value replaces the one of the extended experiment, field by field; a list is replaced as a whole, never joined.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qsd.config.find import find_experiment, is_name
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

EXTENDS = "extends"


def chain(path: Path, shown_as: str | None = None) -> list[tuple[Path, Node]]:
    """An experiment's file and all that it extends, the last extended first, each without its key ``extends``.

    Args:
        path: the experiment.
        shown_as: its name in messages, if not the path.

    Raises:
        UserError: a file is damaged or missing, or extends itself over others.
    """
    files: list[tuple[Path, Node]] = []
    node = load(path, shown_as)
    while True:
        files.insert(0, (path, _without(node)))
        if EXTENDS not in node.value:
            return files
        value = node.value[EXTENDS][1]
        path = _extended(value, path)
        circle = [file for file, _ in reversed(files)]  # the experiment first, as a reader follows it
        if path.resolve() in {file.resolve() for file in circle}:
            raise value.error(f"an experiment may not extend itself: {' -> '.join(map(str, [*circle, path]))}")
        node = load(path)


def _without(node: Node) -> Node:
    return replace(node, value={key: pair for key, pair in node.value.items() if key != EXTENDS})


def _extended(value: Node, path: Path) -> Path:
    """The file that ``path`` extends: by name in its own folder, else in ``experiments/``; or by path."""
    name = value.value
    if not isinstance(name, str) or not name.strip():
        raise value.error(f"extends must be the name or the path of one experiment, not {value.plain()!r}")
    beside = path.parent / f"{name}.yaml"
    if is_name(name) and beside.is_file():
        return beside
    try:
        return find_experiment(name)
    except UserError as error:
        raise value.error(str(error)) from None
