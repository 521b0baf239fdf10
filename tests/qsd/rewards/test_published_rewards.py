"""Published reward models: what is refused, what is fetched, and how they are listed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qsd.errors import UserError
from qsd.rewards import clip_published, hps
from qsd.rewards.checkpoint import read_checkpoint
from qsd.rewards.clip_keys import to_open_clip
from qsd.rewards.ensemble import combined
from qsd.rewards.fetch import fetch
from qsd.rewards.listing import listing
from qsd.rewards.opening import open_reward
from qsd.rewards.revision import revision
from qsd.rewards.scorers import REGISTRY
from tests.qsd.tiny_world import clip_config

PUBLISHED = ["aesthetic_v2", "clip_score", "hps_v2", "hps_v2.1", "image_reward", "pickscore", "pickscore_cosine"]
FILE = "HPS_v2_compressed.pt"


def tiny_checkpoint(folder: Path, **changes: Any) -> Path:
    """An open_clip checkpoint of the smallest size; a change of None takes a tensor out."""
    from qsd.rewards.clip import create

    state = {**create(clip_config()).state_dict(), **changes}
    folder.mkdir()
    torch.save({"state_dict": {name: value for name, value in state.items() if value is not None}}, folder / FILE)
    return folder


def test_published_reward_models_are_listed_without_weights(tmp_path: Path) -> None:
    lines = {line.name: line for line in listing(tmp_path)}
    for name in PUBLISHED:
        assert (lines[name].size, lines[name].revision) == (224, None), name
    assert lines["pickscore"].unit == "logit"
    assert lines["pickscore_cosine"].unit == "cosine"
    assert lines["ensemble"].revision == "of reward.members"


def test_a_name_with_a_dot_is_found_and_suggested() -> None:
    assert REGISTRY.get("hps_v2.1").folder == "hps_v2.1"
    assert "hps_v2_1" not in REGISTRY.names()
    with pytest.raises(UserError, match=r"did you mean 'hps_v2\.1'"):
        REGISTRY.get("hps_v2_1")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_weights_are_answered_with_the_command_that_fetches_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"qsd fetch {name} --weights {tmp_path}"):
        open_reward(name, str(tmp_path), "cpu")


def test_fetching_puts_every_file_into_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, file: str, revision: str, local_dir: Path) -> str:
        asked.append((repo, file, revision))
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / file).write_text("weights")
        return str(local_dir / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    fetch("image_reward", tmp_path)
    assert sorted(path.name for path in (tmp_path / "image_reward").iterdir()) == ["ImageReward.pt", "vocab.txt"]
    fetch("aesthetic_v2", tmp_path, "v9")
    assert asked[2:] == [
        ("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth", "v9"),
        ("openai/clip-vit-large-patch14", "model.safetensors", "v9"),
    ]
    assert (tmp_path / "clip_score" / "model.safetensors").is_file()
    fetch("clip_score", tmp_path)
    assert len(asked) == 4, "what is there is kept"
    with pytest.raises(UserError, match="'clip_emoji' has no published weights"):
        fetch("clip_emoji", tmp_path)


def test_without_a_network_the_message_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    command = f"hf download xswu/HPSv2 HPS_v2.1_compressed.pt --revision main --local-dir {tmp_path}/hps_v2.1"
    with pytest.raises(UserError) as caught:
        fetch("hps_v2.1", tmp_path)
    assert str(caught.value).endswith(command)
    assert "no route to host" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_everything_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (tmp_path / "image_reward").mkdir()
    with pytest.raises(UserError) as caught:
        fetch("image_reward", tmp_path)
    for part in (
        "reward model 'image_reward': cannot fetch ImageReward.pt of THUDM/ImageReward, vocab.txt of google-bert/",
        f"hf download THUDM/ImageReward ImageReward.pt --revision main --local-dir {tmp_path}/image_reward && hf ",
        f"hf download google-bert/bert-base-uncased vocab.txt --revision main --local-dir {tmp_path}/image_reward",
    ):
        assert part in str(caught.value)
    (tmp_path / "image_reward" / "ImageReward.pt").write_text("weights")
    with pytest.raises(
        UserError, match=r"'image_reward': cannot fetch vocab\.txt of google-bert/bert-base-uncased from"
    ):
        fetch("image_reward", tmp_path)


def test_a_hub_that_cannot_be_reached_is_asked_once(tmp_path: Path) -> None:
    """The hub's own client asks for half a minute, and would begin again with the next file."""
    script = f"""
import http.server, os, threading
from pathlib import Path
os.environ["HF_HUB_OFFLINE"] = "0"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
import huggingface_hub
huggingface_hub.hf_hub_download = lambda *_, **__: print("the client is asked")
from qsd.errors import UserError
from qsd.rewards.fetch import fetch
for name in ("hps_v2", "pickscore"):
    try:
        fetch(name, Path({str(tmp_path)!r}))
    except UserError as error:
        print(error)
"""
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == 2
    assert all("http://127.0.0.1:1 cannot be reached: [Errno 111] Connection refused" in line for line in shown)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a git-lfs pointer, not the weights; run 'git lfs pull'"),
        (b"<!doctype html><title>404</title>", "no zip archive, which torch.save writes.*fetch it again"),
        pytest.param(
            None,
            "no zip archive but a bare pickle, as torch wrote before version 1.6; save it again: python -c",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_torch_file_that_is_no_zip_is_called_that(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "hps_v2" / "HPS_v2_compressed.pt"
    path.parent.mkdir()
    if content is None:
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_reward("hps_v2", str(tmp_path), "cpu")
    if content is None:
        remedy = shlex.split(str(caught.value).partition("save it again: ")[2])
        subprocess.run([sys.executable, *remedy[1:]], check=True)
        assert path.read_bytes().startswith(b"PK")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ln_final.bias": None}, r"ln_final\.bias is missing \(1 of"),
        ({"score_predictor.weight": torch.zeros(2)}, r"score_predictor\.weight is not known"),
        ({"ln_final.bias": torch.zeros(5)}, r"ln_final\.bias has the shape \(5,\), the published one is \(16,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = tiny_checkpoint(tmp_path / "hps_v2", **changes)
    with pytest.raises(UserError, match=message):
        clip_published.open_clip_layout(folder, (FILE,), clip_config(), hps.PREPROCESS)


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.target,)


def test_checkpoints_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "made")}, tmp_path / FILE)
    with pytest.raises(UserError, match="not a checkpoint of tensors"):
        read_checkpoint(tmp_path / FILE)
    assert not (tmp_path / "made").exists()
    (tmp_path / FILE).write_bytes(b"half a file")
    with pytest.raises(UserError, match="not a checkpoint of tensors"):
        read_checkpoint(tmp_path / FILE)


def test_an_attention_without_keys_is_named() -> None:
    name = "text_model.encoder.layers.0.self_attn.{}_proj.weight"
    with pytest.raises(UserError, match=r"self_attn\.k_proj\.weight is missing"):
        to_open_clip({name.format("q"): torch.zeros(2, 2), name.format("v"): torch.zeros(2, 2)})


def test_an_ensemble_judges_no_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name its members in evaluation\.scorers"):
        revision("ensemble", str(tmp_path))


def test_a_member_without_a_score_leaves_none_and_does_not_move_the_others() -> None:
    import numpy as np

    scores = np.array([[1, 2, 3, np.nan], [10, 10, 10, 10]], dtype=np.float32)
    edge = np.sqrt(1.5) / 2
    np.testing.assert_allclose(combined(scores, "z_score"), [-edge, 0, edge, np.nan], atol=1e-6)
    np.testing.assert_allclose(combined(scores, "percentile_rank"), [1 / 3, 1 / 2, 2 / 3, np.nan], atol=1e-6)


def test_transformers_files_may_be_safetensors_or_pickled_tensors(tmp_path: Path) -> None:
    state = {"logit_scale": torch.tensor(4.0), "text_model.embeddings.position_ids": torch.arange(3)}
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        assert to_open_clip(read_checkpoint(tmp_path / name)).keys() == {"logit_scale"}
