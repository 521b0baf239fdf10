"""A judge in a process of its own, or behind an address: its scores, its identity, and everything that goes wrong."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablations.checks.required_files import RequiredFile, verify
from qsd.errors import UserError
from qsd.files import read_table
from qsd.rewards.external import ExternalScorer
from qsd.rewards.listing import unit_of
from qsd.rewards.opening import open_reward
from qsd.rewards.revision import revision
from qsd.stages.data import run as data
from qsd.stages.score import run as score
from tests.qsd.rewards.external_judge import STATED, answer_to
from tests.qsd.tiny_world import config, context, good_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

JUDGE = Path(__file__).with_name("external_judge.py")
IMAGES = [Image.new("RGB", (8 + number, 6), (number * 20, 90, 30)) for number in range(5)]
CAPTIONS = ["a", "bb", "unknown", "dddd", "ein Bär\n"]


def write(root: Path, how: str = "right", run: dict[str, Any] | None = None, **stated: Any) -> Path:
    """The folder of a judge; returns that of all."""
    folder = root / "external"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**STATED, **stated}))
    usual = {"command": [sys.executable, str(JUDGE), how], "batch_size": 2, "timeout_s": 60}
    (folder / "run.json").write_text(json.dumps(run if run is not None else usual))
    return root


def opened(weights: Path) -> ExternalScorer:
    scorer = open_reward("external", str(weights), "cpu")
    assert isinstance(scorer, ExternalScorer)
    return scorer


def test_scores_come_in_batches_and_a_missing_one_is_no_number(tmp_path: Path) -> None:
    scorer = opened(write(tmp_path))
    scores = scorer.score(IMAGES, CAPTIONS)
    assert scores.dtype == np.float32
    assert np.isnan(scores).tolist() == [False, False, True, False, False]
    one_by_one = [scorer.score([image], [caption])[0] for image, caption in zip(IMAGES, CAPTIONS, strict=True)]
    np.testing.assert_array_equal(scores, one_by_one)
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in IMAGES]
    np.testing.assert_array_equal(scorer.score(pixels, CAPTIONS), scores)
    np.testing.assert_array_equal(scorer.score_tensor(pixels[0][None] / 255, CAPTIONS[:1]).numpy(), scores[:1])
    assert scorer.score([], []).shape == (0,)
    assert unit_of("external", str(tmp_path)) == "points"
    with pytest.raises(ValueError, match="1 images but 0 captions"):
        scorer.score(IMAGES[:1], [])


def test_a_large_batch_does_not_block(tmp_path: Path) -> None:
    """More than a pipe holds: both sides write before they have read all."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8))
    write(tmp_path, run={"command": [sys.executable, str(JUDGE), "right"], "batch_size": 8, "timeout_s": 120})
    assert np.isfinite(opened(tmp_path).score([noise] * 8, ["x"] * 8)).all()


def test_the_program_ends_when_the_scorer_is_no_longer_used(tmp_path: Path) -> None:
    scorer = opened(write(tmp_path))
    number = scorer._channel._process.pid  # type: ignore[attr-defined]
    os.kill(number, 0)
    del scorer
    gc.collect()
    for _ in range(200):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the judge still runs")


WRONG: dict[str, str] = {
    "no start": r"it ended with status 3: ImportError: no such package",
    "chatty": r"wrote 'hello' where a line of JSON was due",
    "no statement": r"must first say name, version, unit, weights as a JSON object, not \['I'\]",
    "other version": r"says its version is '4', but .*config\.json has '3'; correct the one that is wrong",
    "short": r"'scores' must be a list of 2 numbers, not 1 of them",
    "text": r"score 1 of 2 must be a finite number, or null where there is none, not 'good'",
    "true": r"score 1 of 2 must be a finite number.*not True",
    "nan": r"score 1 of 2 must be a finite number.*not nan",
    "other id": r"the answer has id -1, not 1",
    "error": r"external/run\.json\): out of memory",
    "list": r"the answer must be a JSON object",
    "crash": r"it ended with status 9: CUDA error",
    "killed": r"it was ended by signal 9: nothing on its standard error",
}


@pytest.mark.parametrize("how", WRONG)
def test_a_judge_that_fails_is_one_line(tmp_path: Path, how: str) -> None:
    write(tmp_path, how)
    with pytest.raises(UserError, match=WRONG[how]) as failed:
        opened(tmp_path).score(IMAGES, CAPTIONS)
    assert "\n" not in str(failed.value)
    assert "judge 'Brightness'" in str(failed.value)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "setting"), [("silent", "start_timeout_s"), ("slow", "timeout_s")])
def test_a_judge_that_is_too_slow_is_ended(tmp_path: Path, how: str, setting: str) -> None:
    write(
        tmp_path, run={"command": [sys.executable, str(JUDGE), how], "timeout_s": 5, "start_timeout_s": 60, setting: 1}
    )
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no answer within 1 s; raise {setting}, or lower batch_size"):
        opened(tmp_path).score(IMAGES, CAPTIONS)
    assert time.monotonic() - start < 50


# ── Its folder ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"weights": "abc"}, r"config\.json: weights is 'abc'; it must be the SHA-256"),
        ({"unit": ""}, r"config\.json: unit must be a text that is not empty"),
        ({"version": 3}, r"config\.json: version must be a text"),
        ({"command": []}, r"config\.json: unknown key 'command'; .* all else is in run\.json"),
    ],
)
def test_a_statement_that_cannot_be_is_refused(tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        opened(write(tmp_path, **stated))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "must have either 'command'"),
        ({"command": ["x"], "url": "http://x"}, "must have either 'command'"),
        ({"command": []}, "command is empty"),
        ({"command": "judge.py"}, "command is 'judge.py'; it must be a list of texts"),
        ({"url": "localhost:80"}, "url is 'localhost:80'; it must begin with http"),
        ({"command": ["x"], "batch": 3}, "unknown key 'batch'; known: command, url, batch_size"),
        ({"command": ["x"], "batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1"),
        ({"command": ["x"], "timeout_s": True}, "timeout_s is True; it must be a number of seconds above 0"),
        ({"command": ["/no/such/program"]}, "cannot start /no/such/program .*correct 'command'"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, run: dict[str, Any], words: str) -> None:
    write(tmp_path, run=run)
    with pytest.raises(UserError, match=words):
        opened(tmp_path)
    required = RequiredFile("reward.weights", str(tmp_path / "external"), "weights of external", reward="external")
    with pytest.raises(UserError, match=r"run\.json"):
        verify(required)


def test_how_it_is_reached_changes_no_key_and_what_it_is_does(tmp_path: Path) -> None:
    def of(place: str, **given: Any) -> str:
        return revision("external", str(write(tmp_path / place, **given)))

    first = of("a")
    assert of("b", run={"url": "http://localhost:1/"}) == first
    others = [of(key, **{key: value}) for key, value in (("version", "4"), ("weights", "cd" * 32), ("name", "Other"))]
    assert len({first, *others}) == 4
    verify(RequiredFile("reward.weights", str(tmp_path / "a" / "external"), "weights", reward="external"))


def test_pairs_without_a_score_are_counted_and_not_ranked(tmp_path: Path) -> None:
    rows = good_rows(6)
    rows[2]["caption"] = "unknown"
    settings = config(
        write_rows(tmp_path / "pairs.parquet", rows), write(tmp_path / "weights"), reward__model="external"
    )
    settings.data.max_rejected_fraction = 0.5
    data.run(context(settings, tmp_path / "data"))
    score.run(context(settings, tmp_path / "score", data=tmp_path / "data"))
    assert read_table(tmp_path / "score" / "scores.parquet").num_rows == 5
    problems = json.loads((tmp_path / "score" / "problems.json").read_text())
    assert problems["nan_score"]["count"] == 1


# ── Behind an address ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same judge as a server on this machine."""
    how = request.param

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(STATED)

        def do_POST(self) -> None:
            if how == "status":
                self.send_error(503, "busy")
                return
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send("{" if how == "no json" else answer_to(body, how))

        def _send(self, answer: Any) -> None:
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            return

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/score"
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.mark.parametrize("server", ["right"], indirect=True)
def test_a_server_gives_the_scores_of_the_program(tmp_path: Path, server: str) -> None:
    by_program = opened(write(tmp_path / "program")).score(IMAGES, CAPTIONS)
    by_server = opened(write(tmp_path / "server", run={"url": server, "batch_size": 3})).score(IMAGES, CAPTIONS)
    np.testing.assert_array_equal(by_server, by_program)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("status", "answers with status 503: "),
        ("no json", "answers '{', which is not JSON"),
        ("error", "out of memory"),
    ],
    indirect=["server"],
)
def test_a_server_that_fails_is_one_line(tmp_path: Path, server: str, words: str) -> None:
    scorer = opened(write(tmp_path, run={"url": server}))
    with pytest.raises(UserError, match=words) as failed:
        scorer.score(IMAGES, CAPTIONS)
    assert "\n" not in str(failed.value)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be reached .*start the server, or correct 'url'"):
        opened(write(tmp_path, run={"url": "http://127.0.0.1:9/"}))


# ── The recipe for HPS v3 ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_program_for_hps_v3_speaks_the_protocol(tmp_path: Path) -> None:
    """With a stand-in for the package, which prints where the protocol speaks and takes names only."""
    packages, folder = tmp_path / "packages", tmp_path / "hps_v3"
    packages.mkdir()
    (packages / "hpsv3.py").write_text(
        "print('loading')\n"
        "class HPSv3RewardInferencer:\n"
        "    def __init__(self, device, checkpoint_path): print(device, checkpoint_path)\n"
        "    def reward(self, *, image_paths, prompts):\n"
        "        pairs = zip(image_paths, prompts, strict=True)\n"
        "        return [[float('nan') if text == 'unknown' else one.width + len(text), 1.0] for one, text in pairs]\n"
    )
    for name in ("hpsv3", "transformers", "torch"):
        (packages / f"{name}-1.0.dist-info").mkdir()
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        (packages / f"{name}-1.0.dist-info" / "METADATA").write_text(about)
    shutil.copytree(Path(__file__).parents[3] / "experiments/judges/hps_v3", folder)
    (folder / "HPSv3.safetensors").write_bytes(b"weights")
    program = ["/usr/bin/env", f"PYTHONPATH={packages}", sys.executable, "judge.py", "HPSv3.safetensors"]
    said = subprocess.run([*program, "--describe"], cwd=folder, capture_output=True, text=True, check=True).stdout
    (folder / "config.json").write_text(said)
    assert json.loads(said)["version"].startswith("1.0-1.0-1.0-")
    shipped = json.loads((folder / "run.json").read_text())
    assert shipped["command"][1:] == program[3:]
    (folder / "run.json").write_text(json.dumps({**shipped, "command": program}))
    scores = open_reward("hps_v3", str(tmp_path), "cpu").score(IMAGES, CAPTIONS)
    expected = [image.width + len(caption) for image, caption in zip(IMAGES, CAPTIONS, strict=True)]
    assert np.isnan(scores[2])
    assert scores[[0, 1, 3, 4]].tolist() == [expected[place] for place in (0, 1, 3, 4)]
