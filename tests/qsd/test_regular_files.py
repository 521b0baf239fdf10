"""A pipe or a device in the place of a file is refused by name, wherever a file that a person names is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qsd.adapters.scale import read_peft_config
from qsd.config.yaml_nodes import load
from qsd.data.json_list import read_list
from qsd.data.parquet import open_parquet
from qsd.data.prompts import read_splits
from qsd.data.text_table import TextTable
from qsd.errors import UserError
from qsd.models.families import read_index
from qsd.models.folder_checks import read_object
from qsd.regular_files import check_regular
from qsd.rewards.folder import read_config
from qsd.rewards.torch_files import check_torch_file
from qsd.weights import read_header

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: dict[str, Callable[[Path], object]] = {
    "a.yaml": load,
    "a.csv": TextTable,
    "a.txt": lambda path: read_splits(path, ["evaluation"]),
    "a.json": lambda path: list(read_list(path, dict)),
    "a.parquet": open_parquet,
    "model_index.json": lambda path: read_index(path.parent),
    "config.json": lambda path: read_config(path.parent, ()),
    "part.json": read_object,
    "adapter_config.json": read_peft_config,
    "a.safetensors": read_header,
    "a.pt": check_torch_file,
}


@pytest.mark.parametrize("name", READERS)
def test_a_device_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(os.devnull)  # and no pipe: without the check this test would wait for ever
    with pytest.raises(UserError, match=rf"{name}: a device, not a file; write its content to a file"):
        READERS[name](tmp_path / name)


def test_a_pipe_is_called_one_and_a_file_or_nothing_is_left_to_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: a pipe, not a file"):
        check_regular(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for name in ("file", "nothing", "nul\0"):
        check_regular(tmp_path / name)
