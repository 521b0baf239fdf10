"""The schema, YAML with positions, and digests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.config import digest as digests
from qsd.config.check import convert, problem, schema_fields, unknown_key
from qsd.config.fields import Kind
from qsd.config.load import build, load_flat, override
from qsd.config.yaml_nodes import parse
from qsd.errors import UserError

REQUIRED = {
    "data.path": "pairs",
    "model.path": "model",
    "reward.model": "clip_emoji",
    "reward.weights": "weights",
    "training.steps": 2,
    "training.pairs_per_step": 2,
    "training.learning_rate": 0.1,
    "evaluation.prompts": "prompts.csv",
    "evaluation.scorers": ["clip_emoji"],
}


def experiment_text(values: dict[str, Any]) -> str:
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "e.yaml:1:1: the file is empty"),
        ("- 1", "e.yaml:1:1: the top level must be a mapping"),
        ("a:\n\tb: 1", "e.yaml:2:1: a tab; indent with spaces"),
        ("a: &x 1\nb: *x", "e.yaml:1:4: anchors and aliases"),
        ("a: 1\nb: 2\na: 3", "e.yaml:3:1: duplicate key 'a' (first on line 1)"),
        ("a: {<<: {b: 1}}", "e.yaml:1:5: merge keys"),
        ("a: [1", "e.yaml:1:6: expected ',' or ']'"),
        ("a: !!python/object:os.system 1", "e.yaml:1:4: the tag !!python/object:os.system is not allowed"),
        ("a: !x [1]", "e.yaml:1:4: the tag !x is not allowed"),
        ("a: !!set {b}", "e.yaml:1:4: the tag !!set is not allowed"),
        ("04e3: 1", "e.yaml:1:1: a key must be text, not 04e3; put it in quotes: '04e3'"),
        ("1: 2", "e.yaml:1:1: a key must be text, not 1"),
        ("a: '\x01'", "e.yaml:1:1: a character that YAML does not allow"),
        ("a: " + "[" * 50 + "]" * 50, "e.yaml:1:"),
        ("a: b: c", "e.yaml:1:5: mapping values are not allowed here: a colon inside of text; put the a in quotes"),
        (
            "b: 1\nquestion: does x: y?",
            "e.yaml:2:17: mapping values are not allowed here: a colon inside of text; put the q",
        ),
        ("b: 1\naxes\n  x: [1]", "e.yaml:2:1: 'axes' has no colon; write 'name: value'"),
        ("a: " + "[" * 100_000, "e.yaml:1:24: nested deeper than 20 levels"),
        ("- " * 20_000 + "a", "e.yaml:1:43: nested deeper than 20 levels"),
        ('a: !!int ""', "e.yaml:1:4: '' is not a readable value"),
        ('a: !!float ""', "e.yaml:1:4: '' is not a readable value"),
        ('a: !!bool "x"', "e.yaml:1:4: 'x' is not a readable value"),
        (f"a: {'9' * 5000}", f"e.yaml:1:4: '{'9' * 37}...' is not a readable value"),
        ('a: "\\ud83d"', "e.yaml:1:4: half of a surrogate pair; write the character itself"),
        ('"\\ud83d": 1', "e.yaml:1:1: half of a surrogate pair"),
        ("010: 1", "e.yaml:1:1: a key must be text, not 010; put it in quotes: '010'"),
        ("a: 'open", "e.yaml:1:9: found unexpected end of stream"),
        ("a: 1\n---\nb: 2", "e.yaml:2:1: but found another document"),
        ("seed:\u00a01", "e.yaml:1:6: a character that cannot be seen (U+00A0, no-break space); write a plain space"),
        ("a: 1\nseed:\u00a01", "e.yaml:2:6: a character that cannot be seen (U+00A0"),
        ("a: 1\nseed: 1\u00a0", "e.yaml:2:8: a character that cannot be seen (U+00A0"),
        ("a:\n  b: 1\n\u00a0 c: 2", "e.yaml:3:1: a character that cannot be seen (U+00A0"),
        ("name: dp\u200bo", "e.yaml:1:9: a character that cannot be seen (U+200B, zero width space)"),
        ("a: [1,\u30002]", "e.yaml:1:7: a character that cannot be seen (U+3000, ideographic space)"),
    ],
)
def test_unreadable_yaml_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text, "e.yaml")
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "est-ce\u00a0vrai ou pas\u00a0?",
        "\u3053\u308c\u306f\u3000\u4f55",
        "'\u00a0x'",
        "a # \u00a0",
        "a \U0001f468\u200d\U0001f469 b",
    ],
)
def test_such_characters_stay_in_sentences_quotes_and_comments(text: str) -> None:
    assert parse(f"question: {text}", "e.yaml").plain()["question"] == text.strip("'").partition(" #")[0]


@pytest.mark.slow
@given(st.text(max_size=60))
def test_any_text_parses_or_is_a_user_error(text: str) -> None:
    message = "e.yaml:"
    try:
        parse(text, "e.yaml")
    except UserError as error:
        message = str(error)
    assert message.startswith("e.yaml:")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lora.rnk: 3", "e.yaml:10:1: unknown key 'lora.rnk' (did you mean 'lora.rank'?)"),
        ("lora: {rank: 0}", "e.yaml:10:14: lora.rank must be at least 1 and at most 1024, not 0"),
        ("trainig: {steps: 3}", "e.yaml:10:1: unknown key 'trainig' (did you mean 'training'?)"),
        (
            "tracking.wandb: off",
            "e.yaml:10:17: tracking.wandb must be text, not False; known: offline, online, disabled",
        ),
        ("lora: 3", "e.yaml:10:7: 'lora' is a section"),
        ("lora.rank: true", "e.yaml:10:12: lora.rank must be a whole number, not True"),
        ("lora.rank: 2.5", "e.yaml:10:12: lora.rank must be a whole number, not 2.5"),
        ("loss.name: dpoo", "e.yaml:10:12: unknown loss 'dpoo' (did you mean 'dpo'?)"),
        ("selection.fraction: 533", "e.yaml:10:21: selection.fraction must be above 0 and at most 100 (percent"),
        ("selection.fraction: .nan", "e.yaml:10:21: selection.fraction must be finite"),
        ("training.precision: fp61", "e.yaml:10:21: unknown training.precision 'fp61'; known: fp32, bf16"),
        ("evaluation.splits: []", "e.yaml:10:20: evaluation.splits must not be empty"),
        ("evaluation.splits: [a, a]", "e.yaml:10:20: evaluation.splits names something twice"),
        ("reward: {model: x}", "e.yaml:10:10: 'reward.model' is given twice (first on line 3)"),
        ("seed: null", "e.yaml:10:7: seed must be a whole number, not null"),
        ("data.reader: ''", "e.yaml:10:14: data.reader must not be empty"),
        (
            "lora.rank: 010",
            "e.yaml:10:12: lora.rank must be a whole number, not 010 (write 10, or put it in q",
        ),
        ("lora.rank: !!int '010'", "e.yaml:10:12: lora.rank must be a whole number, not 010"),
        ("lora.rank: 0x10", "e.yaml:10:12: lora.rank must be a whole number, not 0x10"),
        ("lora.rank: 1_6", "e.yaml:10:12: lora.rank must be a whole number, not 1_6"),
        ("lora.alpha: 019", "e.yaml:10:13: lora.alpha must be a number, not 019"),
        (
            "tracking.project: 00123",
            "e.yaml:10:19: tracking.project must be text, not 00123; put it in quotes: '00123'",
        ),
        ("tracking.project: 123", "e.yaml:10:19: tracking.project must be text, not 123; put it in quotes"),
        ("evaluation.splits: [no]", "e.yaml:10:20: evaluation.splits must be text, not False; put it in quotes"),
        (
            "evaluation.splits: ['${seed}']",
            "e.yaml:10:20: evaluation.splits: ${...} is not replaced here, in '${seed}'",
        ),
        ("encode.scope: ???", "e.yaml:10:15: encode.scope must not be empty"),
        (f"lora.alpha: 1{'0' * 400}", "e.yaml:10:13: lora.alpha is a number of 401 digits"),
        (f"seed: 1{'0' * 23}", "e.yaml:10:7: seed is a number of 24 digits; that is too large"),
        ("seed: 2147483648", "e.yaml:10:7: seed must be at least 0 and at most 2147483647, not 2147483648"),
        ("threads: 100000000", "e.yaml:10:10: threads must be at least 1 and at most 1024, not 100000000"),
        ("reward.shards: 1000000", "e.yaml:10:16: reward.shards must be at least 1 and at most 10000, not 1000000"),
    ],
)
def test_wrong_values_are_named_with_their_place(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(experiment_text(REQUIRED) + line + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_flat(path, "e.yaml")
    assert str(error.value).startswith(expected)


def test_missing_field_is_named_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'data.path' is missing \(file or folder with the pairs\)"):
        load_flat(path)


def test_sections_and_dotted_names_mean_the_same(tmp_path: Path) -> None:
    dotted, nested = tmp_path / "a.yaml", tmp_path / "b.yaml"
    dotted.write_text(experiment_text({**REQUIRED, "lora.rank": 4}), encoding="utf-8")
    nested.write_text(experiment_text(REQUIRED) + "lora:\n  rank: 4\n", encoding="utf-8")
    assert load_flat(dotted) == load_flat(nested)


def test_digits_of_other_scripts_are_text() -> None:
    assert parse("a: 4\uff100", "e.yaml").plain() == {"a": "4\uff100"}


def test_yaml_exponents_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(experiment_text({**REQUIRED, "training.learning_rate": 1}).replace(": 1\n", ": 1e-4\n"))
    assert load_flat(path)["training.learning_rate"] == 1e-4


def test_a_home_folder_is_expanded_and_a_quoted_number_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/place/of/ada")
    path = tmp_path / "e.yaml"
    values = {**REQUIRED, "model.path": "~/model", "tracking.project": "00123", "evaluation.splits": ["1_0"]}
    path.write_text(experiment_text(values))
    flat = load_flat(path)
    assert (flat["model.path"], flat["tracking.project"]) == ("/place/of/ada/model", "00123")
    assert override(flat, {"data.path": "~/pairs"})["data.path"] == "/place/of/ada/pairs"
    assert build(flat).evaluation.splits == ["1_0"]


def test_deep_brackets_are_refused_at_once() -> None:
    """The parser takes minutes for them; it must not be asked for more than the levels that are allowed."""
    begin = time.process_time()
    with pytest.raises(UserError, match="nested deeper"):
        parse("a: " + "[" * 400_000, "e.yaml")
    many = time.process_time() - begin
    assert many < 100 * max(0.01, _seconds_of("a: " + "[" * 400))


def _seconds_of(text: str) -> float:
    begin = time.process_time()
    with pytest.raises(UserError):
        parse(text, "e.yaml")
    return time.process_time() - begin


def test_typed_configuration_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(experiment_text(REQUIRED), encoding="utf-8")
    config = build(override(load_flat(path), {"lora.rank": 3, "selection.fraction": 7}))
    assert config.lora.rank == 3
    assert config.selection.fraction == 7.0
    assert isinstance(config.selection.fraction, float)
    assert config.lora.alpha is None


def test_override_refuses_what_the_schema_does_not_know() -> None:
    with pytest.raises(UserError, match="unknown key 'lossname'"):
        override({}, {"lossname": "dpo"})
    assert "is a section" in unknown_key("loss")


def test_a_judge_must_not_select() -> None:
    for name in ("judge_emoji", "clip_emoji_b"):
        with pytest.raises(UserError, match=f"'{name}' is an independent judge.*aesthetic_emoji.*clip_emoji"):
            override({}, {"reward.model": name})


def test_every_field_says_why_and_what_it_changes() -> None:
    for name, info in schema_fields().items():
        assert isinstance(info.kind, Kind), name
        assert len(info.why) > 3, name
        if not info.required and not info.needed and info.default is not None:
            assert problem(info, info.default) is None, name
            assert convert(info, info.default) == info.default


def test_defaults_are_frozen() -> None:
    """Keys hold only what differs from a default, so a changed default silently changes what old keys mean.

    When this fails: change the value where it is used (an experiment), or raise the version of every stage that reads
    the field, and then this file.
    """
    frozen = Path(__file__).parents[1] / "schema_defaults.json"
    stated = json.loads(frozen.read_text(encoding="utf-8"))
    meanings = {name: info for name, info in schema_fields().items() if info.kind is Kind.MEANING}
    for name, default in stated.items():
        assert name in meanings, f"{name} is gone; old keys that name it can no longer be explained"
        assert meanings[name].default == default, name


def test_a_relative_path_is_another_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.bin").write_text(name)
    values = []
    for name in ("a", "b", "a"):
        monkeypatch.chdir(tmp_path / name)
        values.append(digests.digest(Path("x.bin")))
    assert values[0] != values[1]
    assert values[0] == values[2]


def test_digest_follows_content_not_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "x.bin").write_bytes(b"1")
    assert digests.digest(tmp_path / "a") == digests.digest(tmp_path / "b")
    (tmp_path / "c" / "inner").mkdir(parents=True)
    (tmp_path / "c" / "inner" / "x.bin").write_bytes(b"2")
    assert digests.digest(tmp_path / "c") != digests.digest(tmp_path / "a")
    with pytest.raises(UserError, match="no such file or folder"):
        digests.location_digest(str(tmp_path / "missing"))
    assert digests.location_digest("someone/some-model@main") == "hub:someone/some-model@main"


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=5))
def test_hash_ignores_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digests.hash_of(value) == digests.hash_of(backwards)
    assert digests.hash_of(value) != digests.hash_of({**value, "one more key": 1})
