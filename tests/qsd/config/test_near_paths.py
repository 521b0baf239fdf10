"""What may have been meant by a path with nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsd.config.near_paths import suggest_path
from qsd.data.opening import open_path
from qsd.errors import UserError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/pair.csv", " (did you mean 'data/pairs.csv'?)"),
        ("dat/pairs.csv", " (did you mean 'data'?)"),
        ("data/zebra", ""),
        ("data/pairs.csv", ""),
        ("data/pairs.csv/x", ""),
        ("", ""),
    ],
)
def test_the_first_missing_part_is_compared_with_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pairs.csv").touch()
    assert suggest_path(Path(path)) == expected


def test_a_missing_data_set_is_named_with_a_near_file(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").touch()
    with pytest.raises(UserError) as error:
        open_path(tmp_path / "pair.csv")
    near = tmp_path / "pairs.csv"
    assert str(error.value) == f"{tmp_path / 'pair.csv'}: no such file or folder (did you mean '{near}'?)"
