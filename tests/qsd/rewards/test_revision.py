"""Revisions of published reward models: the content of the files that are read, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qsd.config import digest as digests
from qsd.errors import UserError
from qsd.rewards.listing import listing
from qsd.rewards.revision import revision


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Forget what earlier tests have read."""
    forget()


def forget() -> None:
    digests.digest.cache_clear()
    revision.cache_clear()


def write(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)


def test_neighbours_and_names_do_not_change_a_revision(tmp_path: Path) -> None:
    write(tmp_path / "a" / "pickscore", model__safetensors=b"weights")
    write(tmp_path / "b" / "pickscore", pytorch_model__bin=b"weights", README__md=b"read me", old__bin=b"other")
    write(tmp_path / "c" / "pickscore", model__safetensors=b"WEIGHTS")
    revisions = [revision("pickscore", str(tmp_path / name)) for name in "abc"]
    assert revisions[0] == revisions[1] != revisions[2]
    assert revision("pickscore_cosine", str(tmp_path / "a")) != revisions[0], "another code, another unit"


def test_a_head_counts_with_the_clip_below_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "clip_score", model__safetensors=b"clip", config__json=name.encode())
    (tmp_path / "a" / "aesthetic_v2").mkdir()
    (tmp_path / "b" / "aesthetic_v2").mkdir()
    (tmp_path / "a" / "aesthetic_v2" / "aesthetic-model.pth").write_bytes(b"head")
    (tmp_path / "b" / "aesthetic_v2" / "sac+logos+ava1-l14-linearMSE.pth").write_bytes(b"head")
    assert revision("aesthetic_v2", str(tmp_path / "a")) == revision("aesthetic_v2", str(tmp_path / "b"))
    (tmp_path / "b" / "clip_score" / "model.safetensors").write_bytes(b"CLIP")
    forget()
    assert revision("aesthetic_v2", str(tmp_path / "a")) != revision("aesthetic_v2", str(tmp_path / "b"))


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("pickscore", {}, "has no model.safetensors or pytorch_model.bin of reward model 'pickscore'.*qsd fetch"),
        ("pickscore", {"README.md": "x"}, "has no model.safetensors or pytorch_model.bin"),
        ("pickscore", {"model.safetensors": ""}, "has no model.safetensors or pytorch_model.bin"),
        ("hps_v2", {"HPS_v2.1_compressed.pt": "x"}, r"has no HPS_v2_compressed\.pt of reward model 'hps_v2'"),
        ("clip_emoji", {}, "the folder has no weights of reward model 'clip_emoji'; set reward.weights"),
        ("clip_emoji", {"config.json": "{}"}, "the folder has no weights of reward model 'clip_emoji'"),
        ("clip_emoji", {"config.json": "{}", ".model.tmp": "x"}, "the folder has no weights"),
    ],
)
def test_a_folder_without_weights_has_no_revision(
    name: str, files: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    for file, content in files.items():
        (tmp_path / name / file).write_text(content)
    with pytest.raises(UserError, match=message):
        revision(name, str(tmp_path))
    assert next(line for line in listing(tmp_path) if line.name == name).revision is None


def test_revisions_of_the_emoji_world_stay(root: Path) -> None:
    """They stand in every key of its sweeps; only weights above 256 MB have other digests than before."""
    recorded = json.loads((Path(__file__).parent / "emoji_digests.json").read_text())
    weights = root / "experiments" / "emoji" / "assets" / "rewards"
    assert {name: digests.digest(weights / name) for name in recorded} == recorded
