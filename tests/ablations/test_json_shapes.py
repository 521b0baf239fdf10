"""Shapes tell files of ours from damaged ones and from those of another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.json_shapes import Shape, fields, flag, listing, mapping, number, optional, read_shaped, text, whole


@pytest.mark.parametrize(
    ("shape", "fits", "others"),
    [
        (text, ["", "a"], [None, 1, [], {}]),
        (flag, [True, False], [0, 1, None, "true"]),
        (whole, [0, -1, 2**70], [True, 1.0, "1", None]),
        (number, [0, 1.5], [False, "1", None]),
        (optional(text), [None, "a"], [1, []]),
        (listing(whole), [[], [1, 2]], [[1, "2"], {}, None, "12"]),
        (mapping(text), [{}, {"a": "b"}], [{"a": 1}, [], None]),
        (fields(a=text, b=optional(whole)), [{"a": "x"}, {"a": "x", "b": 1, "c": []}], [{}, {"a": "x", "b": "y"}, []]),
    ],
)
def test_a_shape_fits_its_own_values_alone(shape: Shape, fits: list[Any], others: list[Any]) -> None:
    assert [value for value in fits if not shape(value)] == []
    assert [value for value in others if shape(value)] == []


def test_a_file_of_another_shape_is_read_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_shaped(path, fields(a=text)) is None
    for content, expected in (('{"a": 1}', None), ("[", None), ('{"a": "b", "c": 1}', {"a": "b", "c": 1})):
        path.write_text(content)
        assert read_shaped(path, fields(a=text)) == expected
