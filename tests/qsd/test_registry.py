"""Broken files of members: every way to break one ends in one line with its place, and stops only who needs it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import qsd.losses
from qsd.config import members
from qsd.config.check import unknown_key
from qsd.config.fields import fields_of
from qsd.config.members import complete
from qsd.config.schema import LossConfig
from qsd.errors import UserError
from qsd.losses import REGISTRY
from qsd.registry import BrokenMemberError, Registry, _annotated_type

BROKEN = {
    "def loss(:": ":2: invalid syntax",
    "import nosuchmodule": ":2: ModuleNotFoundError: No module named 'nosuchmodule'",
    "1 / 0": ":2: ZeroDivisionError: division by zero",
    "from qsd.losses import Lose": ":2: ImportError: cannot import name 'Lose' from 'qsd.losses'",
    "LOSS = 3": ": LOSS must be a Loss, not 3",
    "LOOS = 3": ": the file of a loss must define LOSS",
}


@pytest.fixture
def loss_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a further loss can be written; the schema is collected again, and is as it was after the test."""
    monkeypatch.setattr(qsd.losses, "__path__", [*qsd.losses.__path__, str(tmp_path)])
    monkeypatch.setattr(qsd.losses.__spec__, "submodule_search_locations", qsd.losses.__path__)
    monkeypatch.setattr(members, "_COMPLETED", {})
    monkeypatch.setattr(members, "BROKEN", [])
    monkeypatch.delitem(sys.modules, "qsd.losses.mine", raising=False)
    importlib.invalidate_caches()
    return tmp_path / "mine.py"


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_member_is_one_line_with_its_place(loss_file: Path, code: str) -> None:
    loss_file.write_text(f"import math\n{code}\n")
    with pytest.raises(BrokenMemberError) as error:
        REGISTRY.get("mine")
    message = str(error.value)
    assert message.startswith(f"{loss_file}{BROKEN[code]}")
    assert message.endswith("; repair the file or remove it")


@pytest.mark.parametrize("code", BROKEN)
def test_a_broken_member_stops_only_who_chooses_it(loss_file: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss_file.write_text(f"import math\n{code}\n")
    whole = fields_of(type("Section", (complete(LossConfig),), {}))
    assert {"beta", "ipo_tau"} <= set(whole)
    assert len(members.BROKEN) == 1
    assert "mine" in REGISTRY.names()
    monkeypatch.setattr("qsd.config.check.BROKEN", members.BROKEN)
    assert unknown_key("loss.mine_margin").endswith(f"that cannot be read: {members.BROKEN[0]}")


def test_settings_that_are_none_are_refused_with_the_file(loss_file: Path) -> None:
    head = "from dataclasses import dataclass\nfrom qsd.losses import Loss\n"
    for settings, text in (
        ("3", "its settings are no dataclass with known types"),
        ("Settings", "the setting 'margin' must be made by meaning, execution or location of qsd.config.fields"),
    ):
        declared = "@dataclass\nclass Settings:\n    margin: float = 1.0\n"
        loss_file.write_text(f"{head}{declared}LOSS = Loss(lambda errors, settings: errors.winner, {settings})\n")
        members._COMPLETED.clear()
        REGISTRY._imported.pop("mine", None)
        sys.modules.pop("qsd.losses.mine", None)
        with pytest.raises(UserError, match=rf"mine\.py: {text}"):
            complete(LossConfig)
    REGISTRY._imported.pop("mine")


def test_an_error_in_a_module_that_a_member_imports_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "kinds_nested"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_shared.py").write_text("\n\nx = = 1\n")
    (package / "one.py").write_text("import kinds_nested._shared\n")
    registry: Registry[object] = Registry("kind", "kinds_nested", "KIND")
    with pytest.raises(BrokenMemberError) as error:
        registry.get("one")
    assert str(error.value) == (
        f"{package}/_shared.py:3: invalid syntax; repair it, or remove the kind 'one' that imports it"
    )


def test_the_class_of_members_is_read_from_the_annotation_of_every_package() -> None:
    packages = sorted(
        f"qsd.{'.'.join(path.parent.relative_to(Path('qsd')).parts)}"
        for path in Path("qsd").rglob("__init__.py")
        if "REGISTRY:" in path.read_text()
    )
    assert len(packages) >= 8
    for package in packages:
        importlib.import_module(package)
        assert isinstance(_annotated_type(package), type), package
