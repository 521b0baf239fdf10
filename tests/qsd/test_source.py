"""Invariant 2: a result never stands under the name of code that has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qsd.config.load import load_flat
from qsd.source import source_digest
from qsd.stages.spec import stage_meaning

ROOT = Path(__file__).resolve().parents[2]
MEMBER = '''"""A loss."""
from __future__ import annotations
from qsd.config.fields import meaning
from typing import TYPE_CHECKING
from .helper import half
from .places import location
if TYPE_CHECKING:
    from pkg.unused import Word

class Settings:
    beta: float = meaning(5.0, "a factor", above=0)
    gamma: float = meaning(default=2.0, why="another")
    note: Remark[bool] = True

def loss(error: Word) -> float:
    """Of one error."""
    import json
    return half(error) - 1 + location(error, 4)  # why
'''
PLACES = """
if TYPE_CHECKING:
    sign = 0
else:
    sign = 1

def location(x, y):
    return sign * y
"""
FILES = {
    "pkg/__init__.py": "",
    "pkg/unused.py": "Word = int\n",
    "pkg/kind/__init__.py": "",
    "pkg/kind/member.py": MEMBER,
    "pkg/kind/helper.py": "from pkg import deeper\ndef half(x):\n    return x / deeper.TWO\n",
    "pkg/kind/places.py": PLACES,
    "pkg/kind/other.py": "def other(x):\n    return x\n",
    "pkg/deeper.py": "TWO = 2\n",
}


def digest(folder: Path, **changes: tuple[str, str]) -> str:
    """The member's digest after replacing text in files (``__`` for a slash)."""
    root = folder / f"tree{len(list(folder.iterdir()))}"
    for name, text in FILES.items():
        old, new = changes.get(name.removeprefix("pkg/").removesuffix(".py").replace("/", "__"), ("", ""))
        assert old in text
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.replace(old, new) if old else text)
    return source_digest("pkg.kind.member", root)


@pytest.mark.parametrize(
    "change",
    [
        {"kind__member": ("- 1", "+ 1")},
        {"kind__helper": ("x / deeper", "x * deeper")},
        {"deeper": ("2", "3")},
        {"kind__member": ("import half", "import half as twice")},
        {"kind__member": ("meaning(5.0", "meaning(4.0")},
        {"kind__member": ("default=2.0", "default=3.0")},
        {"kind__member": ("beta", "delta")},
        {"kind__member": ("note: Remark[bool]", "note: bool")},
        {"kind__member": ("location(error, 4)", "location(error, -4)")},
        {"kind__places": ("sign = 1", "sign = -1")},
    ],
    ids=[
        "own sign",
        "helper",
        "helper's helper",
        "import",
        "default of a setting",
        "default by name",
        "name of a setting",
        "no remark",
        "own function with the name of one for settings",
        "other branch than that for type checkers",
    ],
)
def test_code_that_computes_changes_the_digest(tmp_path: Path, change: dict[str, tuple[str, str]]) -> None:
    assert digest(tmp_path, **change) != digest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"kind__member": ("  # why", "")},
        {"kind__member": ('"""Of one error."""', '"""Of one error, in bits."""')},
        {"kind__member": ("half(error) - 1", "(half(error)\n        - 1)")},
        {"unused": ("int", "float")},
        {"kind__other": ("return x", "return -x")},
        {"kind__member": ("a factor", "the factor")},
        {"kind__member": ("another", "one more")},
        {"kind__member": ("above=0", "least=1")},
        {"kind__member": ("    note: Remark[bool] = True\n", "")},
    ],
    ids=[
        "comment",
        "docstring",
        "layout",
        "for type checkers",
        "other member",
        "what a setting means",
        "what a setting means, by name",
        "its limit",
        "a remark",
    ],
)
def test_what_does_not_compute_leaves_the_digest(tmp_path: Path, change: dict[str, tuple[str, str]]) -> None:
    assert digest(tmp_path, **change) == digest(tmp_path)


_KEYS = """
import json
from pathlib import Path
from qsd.config.load import load_flat
from qsd.stages import spec
values = {**load_flat(Path("experiments/emoji.yaml")), "seed": 0, "adapter": "trained"}
keys = {}
for stage in spec.stages_of(values):
    keys[stage] = spec.stage_key(stage, values, {name: keys[name] for name in spec.stage_inputs(stage, values)})
print(json.dumps(keys))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "first_stage"),
    [
        ("data/readers/pickapic.py", "==", "!=", "data"),
        ("rewards/clip.py", " * ", " / ", "score"),
        ("quality/metrics/product.py", "1.0 - loser", "1.0 + loser", "select"),
        ("quality/normalizations/percentile_rank.py", "return ", "return -", "select"),
        ("selection/strategies/top_k.py", "return ", "return not ", "select"),
        ("losses/dpo.py", "softplus(-", "softplus(", "train"),
        ("rewards/scorers/judge_emoji.py", 'unit="cosine"', 'unit="logit"', "evaluate"),
    ],
)
def test_an_edited_member_makes_its_stage_another_one(
    tmp_path: Path, file: str, old: str, new: str, first_stage: str
) -> None:
    shutil.copytree(ROOT / "qsd", tmp_path / "qsd", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")

    def keys() -> dict[str, str]:
        made = subprocess.run([sys.executable, "-c", _KEYS], cwd=tmp_path, capture_output=True, text=True, check=True)
        by_stage: dict[str, str] = json.loads(made.stdout)
        return by_stage

    before = keys()
    path = tmp_path / "qsd" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = keys()
    changed = [stage for stage in before if before[stage] != after[stage]]
    assert changed[0] == first_stage
    assert changed[-1] == "evaluate"  # and all that follows from it


def test_the_meaning_names_every_member_that_takes_part() -> None:
    values = {**load_flat(ROOT / "experiments/emoji.yaml"), "data.path": str(ROOT / "pyproject.toml")}
    assert "loss.source" in stage_meaning("train", values)
    assert "data.reader.source" in stage_meaning("data", values)
    sources = {name for name in stage_meaning("select", values) if name.endswith(".source")}
    assert sources == {"selection.strategy.source", "quality.metric.source", "quality.normalization.source"}
