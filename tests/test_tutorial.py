"""``docs/tutorial.md``, followed word by word: its files are written and its commands run in a project's folder."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from scripts.example_images import COUNT, PAIRS, distinct_images
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```(?:csv|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
MODULES = {".venv/bin/qsd": ["-m", "qsd.cli"], ".venv/bin/ablate": ["-m", "ablations.cli"], ".venv/bin/python": []}


def write_project(folder: Path) -> None:
    """The files of the page, and the emoji world where the page expects it."""
    for name, text in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "experiments" / "emoji").mkdir()
    (folder / "experiments" / "emoji" / "assets").symlink_to(ROOT / "experiments" / "emoji" / "assets")


def run(folder: Path, command: str) -> str:
    """The output of a command of the page, run with this interpreter instead of ``.venv``'s."""
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, *MODULES[program], *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_page_has_files_and_commands() -> None:
    names = [name for name, _ in FILES]
    assert names == ["data/mine/pairs.csv", "data/mine/prompts.csv", "experiments/mine.yaml", "sweeps/mine.yaml"]
    assert len(COMMANDS) >= 9
    assert {command.split()[0] for command in COMMANDS} == set(MODULES)


def test_the_example_images_differ_and_are_as_many_as_the_page_names() -> None:
    images = distinct_images(ROOT / PAIRS, COUNT)
    named = set(re.findall(r"images/(\d+)\.png", PAGE))
    assert named == {str(number) for number in range(1, COUNT + 1)}
    assert len({digest(image) for image in images}) == COUNT


def digest(image: bytes) -> bytes:
    """Of the pixels: two files of one picture may differ."""
    return Image.open(io.BytesIO(image)).convert("RGB").tobytes()


@pytest.mark.slow
def test_every_command_works_and_ends_in_a_table(tmp_path: Path) -> None:
    write_project(tmp_path)
    outputs = {command: run(tmp_path, command) for command in COMMANDS}
    folder = tmp_path / "runs" / "sweeps" / "mine@mine"
    cells = json.loads((folder / "cells.json").read_text(encoding="utf-8"))["cells"]
    assert {cell["state"] for cell in cells} == {"finished"}
    for name in ("table.md", "table.csv", "effects.png", "gallery.png"):
        assert (folder / name).stat().st_size > 0, name
    table = outputs[".venv/bin/ablate table mine"]
    assert "metric=difference" in table
    assert "only 3 prompts: with fewer than 10, no interval is to be trusted" in table
    assert "Does the metric matter for my pairs?" in table
