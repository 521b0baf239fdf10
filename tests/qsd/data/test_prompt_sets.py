"""Published sets of prompts: every layout on small files, digests, records, and names in an experiment. No network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ablations.checks.required_files import RequiredFile, fetch
from qsd.config.check import convert, schema_fields
from qsd.data.prompt_sets import FIELDS, FOLDER, missing_hint, place_of, prompt_sets, set_at
from qsd.data.prompt_sets.fetch import fetch_set
from qsd.data.prompt_sets.prompt_set import PromptSet
from qsd.data.prompts import read_splits
from qsd.data.style_lists import STYLES
from qsd.errors import UserError


def drawbench(rows: list[tuple[str, int]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"prompts": [text for text, _ in rows], "category": [number for _, number in rows]}), sink)
    return sink.getvalue().to_pybytes()


def ranking(prompt: str) -> dict[str, object]:
    return {"prompt": prompt, "image_path": ["a.jpg", "b.jpg"], "rank": [0, 1]}


PUBLISHED: dict[str, tuple[list[bytes], list[tuple[str, str, str, str]]]] = {
    "partiprompts": (
        [b'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tBio\na "red" cat, asleep\tAnimals\tBasic\t\n'],
        [("00000", "bond", "evaluation", "Abstract"), ("00001", 'a "red" cat, asleep', "evaluation", "Animals")],
    ),
    "drawbench": (
        [drawbench([("A red coloured car.", 0), ("A sign that says 'NeurIPS'.", 10)])],
        [
            ("00000", "A red coloured car.", "evaluation", "Colors"),
            ("00001", "A sign that says 'NeurIPS'.", "evaluation", "Text"),
        ],
    ),
    "pickapic_v2_test": (
        [b"An anime girl, masterpiece, ,\nbald man\n"],
        [("00000", "An anime girl, masterpiece, ,", "evaluation", ""), ("00001", "bald man", "evaluation", "")],
    ),
    "hps_v2_400": (
        [json.dumps([ranking("a train "), ranking("a\ncell phone")]).encode()],
        [("00000", "a train", "evaluation", ""), ("00001", "a cell phone", "evaluation", "")],
    ),
    "hps_v2_benchmark": (
        [json.dumps([f"{style} one", f"{style} two"]).encode() for style in STYLES],
        [
            (f"{style}/{number:05d}", f"{style} {word}", style, style)
            for style in STYLES
            for number, word in enumerate(("one", "two"))
        ],
    ),
    "geneval": (
        [
            b"\n".join(
                json.dumps(item).encode()
                for item in (
                    {"tag": "single_object", "include": [{"class": "bench"}], "prompt": "a photo of a bench"},
                    {"tag": "counting", "include": [], "exclude": [], "prompt": "a photo of two cows"},
                )
            )
        ],
        [
            ("00000", "a photo of a bench", "evaluation", "single_object"),
            ("00001", "a photo of two cows", "evaluation", "counting"),
        ],
    ),
    "animals": (
        [b"cat\ndog\n"],
        [("00000", "cat", "evaluation", ""), ("00001", "dog", "evaluation", "")],
    ),
}
"""Set -> a small file in the published layout for each of its files, and its prompts."""


def small(name: str, contents: list[bytes] | None = None) -> tuple[PromptSet, Callable[[PromptSet, str], bytes]]:
    """A set that has these files and knows their digests where the set does, and its home."""
    one = prompt_sets()[name]
    given = contents or PUBLISHED[name][0]
    by_path = {file.path: content for file, content in zip(one.files, given, strict=True)}
    files = tuple(
        replace(file, sha256=file.sha256 and hashlib.sha256(by_path[file.path]).hexdigest()) for file in one.files
    )
    return replace(one, files=files, count=len(PUBLISHED[name][1])), lambda _, path: by_path[path]


def test_every_set_is_tested_here_and_well_formed() -> None:
    assert set(PUBLISHED) == set(prompt_sets())
    for one in prompt_sets().values():
        assert len(one.revision) == 40
        assert set(one.revision) <= set("0123456789abcdef")
        assert one.licence
        assert all(file.sha256 is None or len(file.sha256) == 64 for file in one.files)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_layout_becomes_a_table_of_prompts(tmp_path: Path, name: str) -> None:
    one, download = small(name)
    expected = PUBLISHED[name][1]
    line = fetch_set(one, tmp_path, download)
    assert line.startswith(f"{len(expected)} prompts from {one.repo}@")
    assert f"licence: {one.licence}" in line
    splits = list(dict.fromkeys(split for _, _, split, _ in expected))
    prompts = read_splits(tmp_path / f"{name}.csv", splits)
    assert [(prompt.prompt_id, prompt.caption, prompt.split) for prompt in prompts] == [row[:3] for row in expected]
    rows = (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    assert [row.rsplit(",", 1)[1] for row in rows] == ["category", *(row[3] for row in expected)]
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert (record["licence"], record["revision"], record["prompts"]) == (one.licence, one.revision, len(expected))
    assert fetch_set(one, tmp_path, lambda *_: pytest.fail("it is there")).startswith("there, ")


def test_the_ids_are_those_of_the_published_file_read_directly(tmp_path: Path) -> None:
    """So the initial noise of PartiPrompts is the same by name and by path."""
    (tmp_path / "parti.tsv").write_bytes(PUBLISHED["partiprompts"][0][0])
    by_path = read_splits(tmp_path / "parti.tsv", ["evaluation"])
    one, download = small("partiprompts")
    fetch_set(one, tmp_path, download)
    assert read_splits(tmp_path / "partiprompts.csv", ["evaluation"]) == by_path


def test_other_bytes_than_the_known_ones_are_refused(tmp_path: Path) -> None:
    one, _ = small("animals")
    with pytest.raises(UserError, match=r"simple_animals\.txt of kvablack/ddpo-pytorch@.* and .*… is known; it was"):
        fetch_set(one, tmp_path, lambda *_: b"cat\ncow\n")
    assert not list(tmp_path.iterdir())


def test_where_no_digest_is_known_the_first_fetch_is_recorded_and_later_ones_compared(tmp_path: Path) -> None:
    one, download = small("hps_v2_400")
    assert fetch_set(one, tmp_path, download).endswith("SHA-256 recorded, none is published")
    (tmp_path / "hps_v2_400.csv").unlink()
    other = json.dumps([ranking("a train"), ranking("a bus")]).encode()
    with pytest.raises(UserError, match=r"was recorded in .*hps_v2_400\.json"):
        fetch_set(one, tmp_path, lambda *_: other)
    assert fetch_set(one, tmp_path, download)
    (tmp_path / "hps_v2_400.csv").unlink()
    (tmp_path / "hps_v2_400.json").write_text("[]")
    with pytest.raises(UserError, match="not the record of a fetched prompt set; remove it"):
        fetch_set(one, tmp_path, download)


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("partiprompts", [b"Prompt\tKind\n"], r"PartiPrompts\.tsv:1: expected the columns Prompt, Category, Challenge"),
        ("partiprompts", [b"Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\n"], r"PartiPrompts\.tsv:2: not as many"),
        ("drawbench", [drawbench([("a", 11)])], ":1: expected a category from 0 to 10, found 11"),
        ("geneval", [b'{"prompt": "a"}\n'], ":1: expected text in 'tag', found None"),
        ("hps_v2_400", [b'[{"caption": "a"}]'], ":1: expected text in 'prompt', found None"),
        ("animals", [b"cat\n\ndog\n"], ":2: expected a prompt, found nothing"),
        ("animals", [b"cat\n"], "has 1 prompts, and 2 were published; nothing was written"),
    ],
)
def test_another_layout_is_named(tmp_path: Path, name: str, contents: list[bytes], words: str) -> None:
    one, download = small(name, contents)
    with pytest.raises(UserError, match=words):
        fetch_set(one, tmp_path / "sets", download)
    assert not (tmp_path / "sets").exists()


def test_a_home_that_cannot_be_reached(tmp_path: Path) -> None:
    def download(_one: PromptSet, _path: str) -> bytes:
        raise OSError("no route to host")

    with pytest.raises(
        UserError, match=r"cannot fetch .*simple_animals\.txt.*no route to host.*data/prompts/animals\.csv"
    ):
        fetch_set(prompt_sets()["animals"], tmp_path, download)


def test_a_name_stands_for_its_file_unless_there_is_one_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for field in FIELDS:
        assert convert(schema_fields()[field], "geneval") == "data/prompts/geneval.csv"
    assert convert(schema_fields()["data.path"], "geneval") == "geneval"
    assert set_at("data/prompts/geneval.csv") is prompt_sets()["geneval"]
    assert set_at("other/geneval.csv") is None
    assert missing_hint("other/geneval.csv") == ""
    (tmp_path / "geneval").write_text("mine")
    assert place_of("geneval") == "geneval"


def test_a_set_that_was_not_fetched_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = r"data/prompts/geneval\.csv: no such file.*the set 'geneval' of published prompts: run 'ablate prefetch"
    with pytest.raises(UserError, match=words):
        read_splits(Path(place_of("geneval")), ["evaluation"])
    monkeypatch.setattr("qsd.data.prompt_sets.fetch._from_home", small("geneval")[1])
    required = RequiredFile("evaluation.prompts", place_of("geneval"), "evaluation.prompts")
    assert "run 'ablate prefetch' with a network connection" in required.remedy
    with pytest.raises(UserError, match=r"and 5c48e0813e812e3c… is known"):
        fetch(required)
    assert not (tmp_path / FOLDER).exists()
