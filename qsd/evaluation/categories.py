"""``categories.json`` of stages generate and evaluate: prompt id -> the category that the prompts file states for it.

Written only where some prompt has a category, so that all other evaluations keep their files. The images and scores do
not depend on it; it travels with them because tables are made from artefacts and not from the prompts file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.files import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qsd.data.prompts import Prompt

FILE = "categories.json"


def write_categories(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Write the categories of those prompts that have one; nothing where none has."""
    categories = {prompt.prompt_id: prompt.category for prompt in prompts if prompt.category}
    if categories:
        write_json(folder / FILE, categories)


def copy_categories(source: Path, target: Path) -> None:
    """Copy the file of the folder ``source`` into the folder ``target``, if there is one."""
    if (source / FILE).is_file():
        write_bytes(target / FILE, (source / FILE).read_bytes())


def read_categories(folder: Path) -> dict[str, str]:
    """Prompt id -> category; empty where the file was not written.

    Raises:
        UserError: the file holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{path}: not a category for each prompt id")
    return content
