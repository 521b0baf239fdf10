"""Sections that members complete: the union of their settings, and what two files may not do."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from qsd.config.check import schema_fields
from qsd.config.fields import fields_of
from qsd.config.load import build, defaults
from qsd.config.members import MemberSection, complete
from qsd.config.schema import LossConfig, SelectionConfig
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.selection.strategies import REGISTRY as STRATEGIES

MEMBER = """\
from __future__ import annotations
from dataclasses import dataclass
from types import SimpleNamespace
from qsd.config.fields import meaning

@dataclass
class Settings:
    size: int = meaning(3, "how large", least=1)

MEMBER = SimpleNamespace(settings=Settings)
"""


def section_of(folder: Path, package: str, **members: str) -> type[MemberSection]:
    """A section over a registry of members with these sources."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(
        f"from qsd.registry import Registry\nREGISTRY = Registry('member', '{package}', 'MEMBER')\n"
    )
    for name, text in members.items():
        (folder / package / f"{name}.py").write_text(text)
    return dataclasses.dataclass(init=False)(type("Section", (MemberSection,), {"members": package}))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new"),
    [("3,", "4,"), ("least=1", "least=2"), ("size: int", "size: float"), ("how large", "how wide")],
    ids=["default", "limit", "type", "meaning"],
)
def test_two_files_that_disagree_about_a_setting_are_both_named(folder: Path, old: str, new: str) -> None:
    package = f"members_{abs(hash((old, new)))}"
    section = section_of(folder, package, one=MEMBER, two=MEMBER.replace(old, new))
    with pytest.raises(UserError) as error:
        complete(section)
    place = folder / package
    assert str(error.value) == (
        f"{place}/two.py: the setting 'size' is declared differently in {place}/one.py; "
        "give it another name, or share one declaration"
    )


def test_files_that_agree_share_a_setting(folder: Path) -> None:
    section = section_of(folder, "members_agree", one=MEMBER, two=MEMBER)
    assert [item.name for item in dataclasses.fields(complete(section))] == ["size"]  # type: ignore[arg-type]
    assert section().size == 3


def test_a_member_cannot_redefine_the_field_that_chooses_it(folder: Path) -> None:
    section = section_of(folder, "members_own", one=MEMBER)
    section.__annotations__ = {"size": "str"}
    section.size = "x"
    with pytest.raises(UserError, match=r"one\.py: the setting 'size' is declared differently in"):
        complete(dataclasses.dataclass(init=False)(section))


@pytest.mark.parametrize(("section", "registry"), [("loss", LOSSES), ("selection", STRATEGIES)])
def test_the_schema_has_exactly_the_settings_of_all_members(section: str, registry: object) -> None:
    of_beta = {"loss.beta_schedule", "loss.beta_decay", "loss.beta_range"}
    own = {"loss": {"loss.name", *of_beta}, "selection": {"selection.strategy"}}[section]
    known = {name for name in schema_fields() if name.startswith(f"{section}.")}
    assert known == own | {f"{section}.{field}" for name in registry.names() for field in registry.get(name).fields}


def test_a_section_is_of_its_class_and_has_all_settings() -> None:
    loss = LossConfig(name="ipo", ipo_tau=7.0)
    assert isinstance(loss, LossConfig)
    assert (loss.name, loss.ipo_tau, loss.beta) == ("ipo", 7.0, 5000.0)
    changed = dataclasses.replace(loss, beta=2.0)
    assert (changed.beta, changed.ipo_tau, type(changed)) == (2.0, 7.0, type(loss))
    assert SelectionConfig().temperature == 1.0
    with pytest.raises(TypeError, match="unexpected keyword argument 'bata'"):
        LossConfig(bata=3.0)


def test_a_built_configuration_has_typed_sections() -> None:
    required = {name: "x" for name, info in schema_fields().items() if info.required}
    values = {**defaults(), **required, "training.steps": 1, "training.pairs_per_step": 1}
    values |= {"training.learning_rate": 0.1, "evaluation.scorers": ["clip_emoji"], "loss.adaptive_decays": [0.5]}
    config = build(values)
    assert isinstance(config.loss, LossConfig)
    assert config.loss.adaptive_decays == [0.5]
    assert config.selection.replacement is False


def test_the_fields_of_another_schema_need_no_member() -> None:
    """Looking at a plain schema imports no loss."""

    @dataclasses.dataclass
    class Plain:
        pass

    known = set(sys.modules)
    assert fields_of(Plain) == {}
    assert set(sys.modules) == known
