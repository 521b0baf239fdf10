"""Doctor and prefetch: every line says what is wrong and how to fix it; no network, and no key in any output."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ablations.checks import machine_checks
from ablations.checks.cluster_checks import idle_gpus, read_partitions
from ablations.checks.doctor import FAIL, OK, WARN, Finding, examine, line
from ablations.checks.required_files import RequiredFile, fetch, required_files, verify
from ablations.slurm.profile import read_profile
from qsd.errors import UserError
from tests.ablations.command import ablate
from tests.ablations.conftest import write_model
from tests.ablations.flat_values import FLAT
from tests.qsd import tiny_pipeline
from tests.qsd.models.damages import rewrite


@pytest.fixture
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``write_model`` makes files that are whole and of no network."""
    monkeypatch.setattr("ablations.checks.required_files.check_whole", lambda _: None)


@pytest.fixture
def whole(assets: Path, without_networks: None) -> Path:
    """A world in which nothing is missing."""
    (assets / "world" / "model" / "unet").unlink()
    write_model(assets / "world" / "model")
    return assets


def levels(output: str) -> dict[str, str]:
    return {entry["check"]: entry["level"] for entry in json.loads(output)}


def test_all_is_well(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("doctor", "good", "--json") == 0
    by_check = levels(capsys.readouterr().out)
    assert (
        by_check.items()
        >= {
            "python": OK,
            "disk": OK,
            "wandb": OK,
            "data.path": OK,
            "model.path": OK,
            "evaluation.prompts": OK,
            "weights of clip_emoji": OK,
            "weights of aesthetic_emoji": OK,
        }.items()
    )
    assert ablate("doctor") == 0
    assert "data.path" not in capsys.readouterr().out
    assert ablate("doctor", "--experiment", "tiny") == 0
    assert "ok    data.path" in capsys.readouterr().out


def test_what_takes_long_comes_last_and_is_announced(
    whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took minutes on a busy machine, and nothing was shown meanwhile."""
    shown = {}

    def slow(path: str) -> None:
        shown[path] = capsys.readouterr()

    monkeypatch.setattr("ablations.checks.required_files.check_whole", slow)
    assert ablate("doctor", "good") == 0
    (before,) = shown.values()
    assert "ok    python" in before.out
    assert "ok    weights of clip_emoji" in before.out
    planning, comparing = before.err.splitlines()
    assert planning == "...   planning: reads the data and the weights"
    assert comparing.startswith("...   world/model: compares its weights with its networks; loading PyTorch")
    assert capsys.readouterr().out.startswith("ok    model.path")


def test_a_tensor_that_the_network_has_and_the_file_lacks_fails(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Doctor said ok, and the run found it after the data set and the scores."""
    model = assets / "world" / "model"
    shutil.rmtree(model)
    tiny_pipeline.save(model)
    assert ablate("doctor", "--experiment", "tiny") == 0
    rewrite(model / "unet" / "diffusion_pytorch_model.safetensors", lambda tensors: tensors.pop("conv_out.weight"))
    capsys.readouterr()
    assert ablate("doctor", "--experiment", "tiny") == 1
    output = capsys.readouterr().out
    assert "fail  model.path: model.path world/model: unet: 1 tensors missing (conv_out.weight); incomplete" in output


def test_a_tokenizer_without_its_vocabulary_fails(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor said ok, and every caption got the same ids."""
    (whole / "world" / "model" / "tokenizer" / "tokenizer.json").unlink()
    assert ablate("doctor", "--experiment", "tiny") == 1
    output = capsys.readouterr().out
    assert "FAIL  model.path" in output or "fail  model.path" in output
    assert "no vocabulary: neither tokenizer.json nor" in output


def test_what_is_missing_fails_with_its_remedy(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole / "world" / "model" / "model_index.json").unlink()
    (whole / "world" / "scorers" / "clip_emoji" / "weights").unlink()
    (whole / "world" / "pairs").unlink()
    assert ablate("doctor", "good") == 1
    lines = capsys.readouterr().out.splitlines()
    assert "fail  data.path: world/pairs: no such file or folder; put it there, or set data.path" in lines
    assert any(line.startswith("fail  model.path: world/model: not a diffusers model: ") for line in lines)
    no_weights = "world/scorers/clip_emoji: the folder has no weights of reward model 'clip_emoji'"
    assert any(line.startswith(f"fail  weights of clip_emoji: {no_weights}; set reward.weights") for line in lines)
    assert any(line.startswith("ok    weights of aesthetic_emoji") for line in lines)


def test_values_that_a_sweep_varies_are_looked_for_too(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole / "sweeps" / "v.yaml").write_text(
        "question: q\nexperiment: tiny\naxes: {model.path: [world/model, /nowhere/other], reward.model: [clip_emoji]}\n"
        "controls: [{data.path: /nowhere/pairs}]\nbaseline: {model.path: world/model}\nseeds: [0]\n"
    )
    assert ablate("doctor", "v") == 1
    output = capsys.readouterr().out
    assert "fail  model.path: /nowhere/other: no such file or folder" in output
    assert "fail  data.path: /nowhere/pairs: no such file or folder" in output


def test_a_sweep_with_a_mistake_is_a_mistake(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("doctor", "goood") == 2
    assert "did you mean 'good'" in capsys.readouterr().err
    assert ablate("doctor", "--cluster", "genric") == 1
    assert "fail  profile: unknown cluster 'genric'" in capsys.readouterr().out


def test_wandb_login_is_told_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [finding.level for finding in machine_checks.wandb("disabled")] == [OK]
    assert [finding.level for finding in machine_checks.wandb("offline")] == [OK]
    (failed,) = machine_checks.wandb("online")
    assert (failed.level, failed.fix) == (FAIL, "run 'wandb login', or set tracking.wandb: offline in the experiment")
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {secret}\n")
    (tmp_path / ".netrc").chmod(0o600)
    by_file = list(machine_checks.wandb("online"))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert [finding.level for finding in machine_checks.wandb("online")] == [FAIL], "a login elsewhere"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    by_variable = list(machine_checks.wandb("online"))
    for finding in (*by_file, *by_variable):
        assert finding.level == OK
        assert secret[:8] not in line(finding)


def test_disk(tmp_path: Path) -> None:
    assert [finding.level for finding in machine_checks.disk(tmp_path / "a" / "b", 1)] == [OK]
    (finding,) = machine_checks.disk(tmp_path, 1e30)
    assert finding.level == FAIL
    assert "needed" in finding.text
    assert "ablate gc" in finding.fix


def test_packages_against_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    version = metadata.version("typer")
    lock.write_text(
        f"typer=={version} \\\n    --hash=sha256:00\nnot_installed==1.0\nPyYAML==0.0.1 ; python_version > '3'\n"
    )
    (finding,) = machine_checks.packages(lock)
    assert finding.level == WARN
    assert f"1 differ from the version in {lock}: pyyaml {metadata.version('pyyaml')}" in finding.text
    lock.write_text(f"typer=={version} ; python_version < '3.12'\ntyper==99 ; python_version >= '3.12'\n")
    assert [finding.level for finding in machine_checks.packages(lock)] == [OK]
    assert [finding.level for finding in machine_checks.packages(tmp_path / "none")] == [WARN]
    assert [finding.level for finding in machine_checks.python()] == [OK]


def test_gpu_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = machine_checks.gpu(with_torch=False)
    assert finding.level == WARN
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!{sys.executable}\nprint('NVIDIA X, 80 MiB\\nNVIDIA X, 80 MiB')\n")
    tool.chmod(0o755)
    (finding,) = machine_checks.gpu(with_torch=False)
    assert (finding.level, finding.text) == (OK, "NVIDIA X, 80 MiB; NVIDIA X, 80 MiB")


def test_a_machine_without_slurm(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("resources: {default: {gpus: 0, cpus: 1, memory_gb: 1, minutes: 9}}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ablate("doctor", "--cluster", str(profile), "--json") == 1
    output = capsys.readouterr().out
    assert levels(output).items() >= {"slurm": FAIL, "controller": FAIL, "partitions": FAIL}.items()
    assert "not on PATH: sbatch, squeue, scontrol, srun, scancel, sinfo" in output


def test_partitions_are_read_as_sinfo_prints_them() -> None:
    partitions = read_partitions(
        "gpu*|up|2-00:00:00|gpu:a100:4\ngpu*|up|2-00:00:00|(null)\ncpu|up|30:00|(null)\nold|down|infinite|\n"
    )
    assert (partitions["gpu"].default, partitions["gpu"].minutes, partitions["gpu"].gres) == (
        True,
        2880,
        ("gpu:a100:4", "(null)"),
    )
    assert (partitions["cpu"].default, partitions["cpu"].minutes) == (False, 30)
    assert (partitions["old"].up, partitions["old"].minutes) == (False, None)


def test_a_check_that_raises_a_mistake_fails_and_the_next_goes_on() -> None:
    def broken():
        raise UserError("no")
        yield

    findings = list(examine([("a", broken), ("b", lambda: iter([Finding(OK, "b", "yes")]))]))
    assert findings == [Finding(FAIL, "a", "no"), Finding(OK, "b", "yes")]
    assert line(Finding(WARN, "c", "hm", "do this")) == "warn  c: hm\n      -> do this"


def test_prefetch_verifies_what_is_local(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("prefetch", "tiny") == 0
    output = capsys.readouterr().out
    assert "data.path: world/pairs: 1 file, 5 B" in output
    (whole / "world" / "pairs").unlink()
    assert ablate("prefetch", "tiny") == 2
    captured = capsys.readouterr()
    assert "data.path: missing" in captured.out
    assert "evaluation.prompts: world/prompts.csv" in captured.out, "the rest is looked at all the same"
    assert captured.err.startswith(
        "error: 1 of 5 required files or folders are missing: world/pairs: no such file or folder"
    )
    assert ablate("prefetch", "tinny") == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err


def test_a_hub_name_without_network_is_a_clear_error(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = whole / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("world/model", "someone/some-model@v1"))
    assert ablate("prefetch", "tiny") == 2
    error = capsys.readouterr().err
    assert "someone/some-model@v1: cannot be downloaded as a model (" in error
    assert "check model.path" in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert ablate("doctor", "good") == 1
    assert "run 'ablate prefetch' with a network connection" in capsys.readouterr().out


def test_a_downloaded_snapshot_of_the_named_revision_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_networks: None
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "c" * 40
    place = tmp_path / "models--someone--some-model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "v1").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    write_model(place / "snapshots" / commit)
    assert commit in verify(RequiredFile("model.path", "someone/some-model@v1", "model"))
    with pytest.raises(UserError, match="some-model@v2: neither on this disk nor downloaded"):
        verify(RequiredFile("model.path", "someone/some-model@v2", "model"))


def test_an_ensemble_needs_the_weights_of_its_members() -> None:
    files = required_files({**FLAT, "reward.model": "ensemble", "reward.members": ["clip_emoji", "aesthetic_emoji"]})
    weights = {Path(required.place).name for required in files if required.what.startswith("weights of")}
    assert {"clip_emoji", "aesthetic_emoji"} <= weights
    assert not [required for required in files if required.what == "weights of ensemble"]


def test_reward_models_without_weights_need_no_files() -> None:
    flat = {**FLAT, "reward.model": "jpeg_size", "evaluation.scorers": ["texture", "jpeg_size"]}
    assert not [required for required in required_files(flat) if required.field == "reward.weights"]


def test_supplies_follow_the_schema() -> None:
    files = required_files(FLAT, {"reward.model": ["aesthetic_emoji"], "evaluation.scorers": [["judge_emoji"]]})
    places = [(required.field, required.place) for required in files]
    assert places[:3] == [("data.path", "p"), ("model.path", "m"), ("evaluation.prompts", "p.csv")]
    assert {place for field, place in places if field == "reward.weights"} == {
        "w/clip_emoji",
        "w/aesthetic_emoji",
        "w/judge_emoji",
    }
    assert len(places) == len(set(places))
    embedding = required_files({**FLAT, "evaluation.embedder": "clip_emoji_b"})
    assert "w/clip_emoji_b" in {required.place for required in embedding}


def test_published_weights_are_fetched_into_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path such as weights/pickscore looks like a name on the hub and is none."""
    monkeypatch.chdir(tmp_path)
    flat = {**FLAT, "reward.model": "hps_v2.1", "reward.weights": "weights", "evaluation.scorers": ["clip_emoji"]}
    wanted = {required.place: required for required in required_files(flat) if required.field == "reward.weights"}
    published, own = wanted["weights/hps_v2.1"], wanted["weights/clip_emoji"]
    assert not published.on_hub
    with pytest.raises(
        UserError, match=r"run 'ablate prefetch' or 'qsd fetch hps_v2\.1 --weights weights' on a machine"
    ):
        verify(published)
    with pytest.raises(UserError, match=r"weights/clip_emoji: no such file or folder; put it there, or set reward\."):
        fetch(own)

    def downloaded(repo: str, file: str, local_dir: Path, **_options: str) -> str:
        local_dir.mkdir(parents=True)
        (local_dir / file).write_bytes(b"PK\x03\x04" + repo.encode())
        return str(local_dir / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", downloaded)
    assert fetch(published) == verify(published)
    assert (tmp_path / "weights" / "hps_v2.1" / "HPS_v2.1_compressed.pt").is_file()


@pytest.mark.parametrize("name", ["sd15_pickapic", "sdxl_pickapic", "sd35m_pickapic", "flux_pickapic"])
def test_the_recipes_say_what_is_missing_and_how_to_get_it(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert ablate("doctor", "metric_formula", "--experiment", name, "--runs", str(tmp_path / "runs")) == 1
    missing = [text for text in capsys.readouterr().out.splitlines() if text.startswith("fail")]
    assert len(missing) == 8
    for text, remedy in zip(missing, ["set data.path", "set evaluation.prompts"], strict=False):
        assert remedy in text
    assert all("qsd fetch " in text for text in missing[2:-1])
    assert "'ablate prefetch'" in missing[-1]
    assert ablate("plan", "metric_formula", "--experiment", name, "--runs", str(tmp_path / "runs")) == 2
    assert "data.path: data/pickapic_v2/train: no such file or folder" in capsys.readouterr().err


def test_gpus_that_a_stage_would_leave_idle_are_told(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("resources: {default: {gpus: 4, cpus: 1, memory_gb: 1, minutes: 60}, data: {gpus: 0}}\n")
    (finding,) = idle_gpus(read_profile(path))
    assert (finding.level, finding.text) == (WARN, "score, select, encode, generate, evaluate would use one GPU of 4")
    assert finding.fix == f"set gpus: 1 for them in {path}; only train uses several"
    path.write_text("resources: {default: {gpus: 1, cpus: 1, memory_gb: 1, minutes: 60}, train: {gpus: 4}}\n")
    assert list(idle_gpus(read_profile(path))) == []
