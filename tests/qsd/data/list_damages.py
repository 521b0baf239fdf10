"""Random damages to lists of pairs, and what a list says read by other programs' readers."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from qsd.data.pairs import image_uid
from tests.qsd import tiny_lists as lists

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.qsd.models.damages import Kind

    Rows = list[dict[str, Any]]

LISTS = {
    "csv": ("own_pairs", lists.own_csv),
    "parquet": ("own_pairs", lists.own_parquet),
    "json lines": ("table", lists.table_json_lines),
    "table": ("table", lists.table_csv),
    "parquet with images": ("table", lists.table_images),
    "votes": ("hpd_v2", lists.hpd_train),
}
"""Name -> the reader, and what writes a folder of it."""
_COLUMNS = (("caption", "prompt"), ("winner", "chosen"), ("loser", "rejected"))
_HOSTILE: tuple[Any, ...] = (
    *("", " ", "9" * 400, "1e400", "-0", "nan", "word " * 60_000, "a,b", 'a "red" dog', "a\nb", "a\rb", "\x07\x1b[31m"),
    *("\u2028", "\u202egnp.exe", "\ufeff", "\0", "../../etc/passwd", "/dev/zero", "C:\\x.png", "x" * 5000, "<b>|`"),
    *("\ud83d", None, 10**400, -1, 0.5, float("nan"), True, [], {}, ["a"]),
)
_VOTES: tuple[Any, ...] = (
    *([1, 1], [0, 0], [2, -1], [1], [1, 0, 0], [], "x", None, 1, [None, 1], ["1", "0"], [True, False]),
    *([0.5, 0.5], [float("nan"), 1], [10**400, 0], [[1], [0]]),
)


def some_pairs() -> list[lists.Pair]:
    """Eight pairs."""
    return lists.some_pairs(8)


def _read(path: Path) -> Rows:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def _write(path: Path, rows: Rows) -> None:
    if path.suffix == ".parquet":
        _write_parquet(path, rows)
        return
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        written = text.getvalue()
    elif path.suffix == ".jsonl":
        written = "".join(f"{json.dumps(row)}\n" for row in rows)
    else:
        written = json.dumps(rows)
    path.write_bytes(written.encode("utf-8", "surrogatepass"))


def _write_parquet(path: Path, rows: Rows) -> None:
    """Columns keep their type where they can; else all values are texts."""
    for change in (lambda value: value, lambda value: repr(value).encode("ascii", "replace").decode()):
        try:
            columns = {name: [change(row.get(name)) for row in rows] for name in rows[0]}
            pq.write_table(pa.table(columns), path, row_group_size=3)
            return
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue


def _rows(change: Callable[[Rows, random.Random], object]) -> Kind:
    """A change of the rows of a list."""

    def changed(path: Path, chance: random.Random) -> None:
        rows = _read(path)
        change(rows, chance)
        if rows:
            _write(path, rows)

    return changed


def _column_gone(rows: Rows, chance: random.Random) -> None:
    name = chance.choice(sorted(rows[0]))
    for row in rows:
        row.pop(name, None)


def _column_renamed(rows: Rows, chance: random.Random) -> None:
    name = chance.choice(sorted(rows[0]))
    for row in rows:
        row[chance.choice([f"{name} ", name.upper(), f"{name}\x1b[0m"])] = row.pop(name)


def _cell(rows: Rows, chance: random.Random) -> None:
    row = chance.choice(rows)
    row[chance.choice(sorted(row))] = chance.choice(_HOSTILE)


def _vote(rows: Rows, chance: random.Random) -> None:
    row = chance.choice(rows)
    name = "human_preference" if "human_preference" in row else min(row)
    row[name] = chance.choice(_VOTES)


def _against(rows: Rows, chance: random.Random) -> None:
    """The opposite judgement of the same pair."""
    row = dict(chance.choice(rows))
    first, second = next(
        ((one, other) for one, other in (("winner", "loser"), ("chosen", "rejected")) if one in row), ("", "")
    )
    if first:
        row[first], row[second] = row[second], row[first]
    elif isinstance(row.get("human_preference"), list):
        row["human_preference"] = row["human_preference"][::-1]
    rows.append(row)


def _text(change: Callable[[bytes, random.Random], bytes]) -> Kind:
    return lambda path, chance: path.write_bytes(change(path.read_bytes(), chance))


def _insert(what: bytes) -> Kind:
    def change(content: bytes, chance: random.Random) -> bytes:
        place = chance.randrange(len(content))
        return content[:place] + what + content[place:]

    return _text(change)


ROWS: dict[str, Kind] = {
    "row twice": _rows(lambda rows, chance: rows.append(chance.choice(rows))),
    "row gone": _rows(lambda rows, chance: rows.remove(chance.choice(rows))),
    "other order": _rows(lambda rows, chance: chance.shuffle(rows)),
    "column gone": _rows(_column_gone),
    "column renamed": _rows(_column_renamed),
    **{f"cell {number}": _rows(_cell) for number in range(6)},
    **{f"vote {number}": _rows(_vote) for number in range(2)},
    "opposite vote": _rows(_against),
    "Latin-1": _insert(b"\xe9"),
    "NUL": _insert(b"\0"),
    "stray quote": _insert(b'"'),
    "stray comma": _insert(b","),
    "line break": _insert(b"\n"),
    "UTF-16": _text(lambda content, _: content.decode("utf-8", "replace").encode("utf-16")),
    "old Mac's lines": _text(lambda content, _: content.replace(b"\r\n", b"\n").replace(b"\n", b"\r")),
    "end twice": _text(lambda content, _: content + content[len(content) // 2 :]),
}
"""Of the file with the list."""


def pairs_in(path: Path) -> set[tuple[str, str, str]] | None:
    """(caption, winner's uid, loser's uid) of all rows whose images can be opened; None where the list is not read."""
    try:
        rows = _read(path)
        return {pair for row in rows for pair in _pair(path.parent, row)}
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException, TypeError, AttributeError, KeyError):
        return None


def _pair(folder: Path, row: dict[str, Any]) -> list[tuple[str, str, str]]:
    caption, winner, loser = (next((row[name] for name in names if name in row), None) for names in _COLUMNS)
    if "human_preference" in row:
        winner, loser = (f"train/{name}" for name in row["file_path"])
        winner, loser = (winner, loser) if row["human_preference"][0] else (loser, winner)
    images = [_image(folder, image) for image in (winner, loser)]
    return [] if None in images or not caption else [(caption, images[0] or "", images[1] or "")]


def _image(folder: Path, image: Any) -> str | None:
    try:
        content = image["bytes"] if isinstance(image, dict) else (folder / str(image).replace("\\", "/")).read_bytes()
        Image.open(io.BytesIO(content)).load()
    except (OSError, ValueError, SyntaxError, TypeError, UnidentifiedImageError):
        return None
    return image_uid(content)
