"""The same pairs in every layout, in the published schemas."""

from __future__ import annotations

import csv
import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from qsd.data.pairs import image_uid
from tests.qsd.tiny_world import picture, write_rows


class Pair(NamedTuple):
    """A caption, the winner's bytes, the loser's bytes."""

    caption: str
    winner: bytes
    loser: bytes


def some_pairs(count: int = 6) -> list[Pair]:
    """Pairs; neighbours share their winner."""
    return [
        Pair(f'picture {number}, "tiny" style', picture(number // 2), picture(100 + number, 40, 28, "JPEG"))
        for number in range(count)
    ]


def put(folder: Path, data: bytes, name: str | None = None) -> str:
    """Write an image; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    name = name or f"{image_uid(data)}.jpg"
    (folder / name).write_bytes(data)
    return name


def encoded(mode: str, value: float, kind: str = "PNG", size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    """An image file of one colour in one of Pillow's modes."""
    stream = io.BytesIO()
    Image.new(mode, size, value).save(stream, kind, **options)
    return stream.getvalue()


def pack(folder: Path, inside: str = "") -> None:
    """Replace a folder by a stored zip archive beside it; its members' names begin with ``inside``."""
    with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{inside}{file.name}")
            file.unlink()
    folder.rmdir()


def write_list(path: Path, items: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(items, indent=0, ensure_ascii=False))
    return path


def choices(folder: Path, pairs: list[Pair], below: str = "") -> list[dict[str, Any]]:
    """Items of HPD v2's ``train.json``; the preferred image is first and second in turn."""
    items: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs):
        files = [f"{below}{put(folder, pair.winner)}", f"{below}{put(folder, pair.loser)}"]
        preference = [1, 0]
        if number % 2:
            files, preference = files[::-1], preference[::-1]
        hashed = f"{number % 3:064x}"
        items.append({"human_preference": preference, "prompt": pair.caption, "file_path": files, "user_hash": hashed})
    return items


def hpd_train(folder: Path, pairs: list[Pair]) -> Path:
    return write_list(folder / "train.json", choices(folder / "train", pairs))


def hpd_train_zip(folder: Path, pairs: list[Pair]) -> Path:
    path = hpd_train(folder, pairs)
    pack(folder / "train")
    return path


def hpd_emoji(folder: Path, pairs: list[Pair]) -> Path:
    items = choices(folder / "images", pairs, "images/")
    for item in items:
        del item["user_hash"]
    pack(folder / "images", "images/")
    return write_list(folder / "train.json", items)


def hpd_test(folder: Path, pairs: list[Pair]) -> Path:
    items = [
        {
            "prompt": pair.caption,
            "image_path": [put(folder / "test", pair.loser), put(folder / "test", pair.winner)],
            "rank": [1.75, 1.25],
            "raw_annotations": [{"rank": [2, 1], "user_hash": "0" * 64}],
        }
        for pair in pairs
    ]
    return write_list(folder / "test.json", items)


def hpd_published(folder: Path) -> Path:
    """Two groups in the keys and types of the published ``hpd_v2/test.json``; ``rank`` orders the mean places."""
    opinions = {
        "a red kite": ([0, 1, 3, 2], [[0, 1, 2, 3], [0, 1, 2, 3], [2, 1, 3, 0]]),
        "three blue cups": ([2, 3, 1, 0], [[2, 3, 0, 1], [3, 2, 1, 0], [1, 2, 3, 0]]),
    }
    items = []
    for number, (prompt, (rank, own)) in enumerate(opinions.items()):
        names = [put(folder / "test", picture(300 + 4 * number + one)) for one in range(4)]
        people = [
            {"annotation": places, "user_hash": (-1) ** one * (3263872624304660318 + one)}
            for one, places in enumerate(own)
        ]
        items.append({"prompt": prompt, "rank": rank, "image_path": names, "raw_annotations": people})
    return write_list(folder / "test.json", items)


def rankings(folder: Path, pairs: list[Pair]) -> Path:
    items = []
    for number, pair in enumerate(pairs):
        part = f"part-005658/images/{number:04d}"
        names = [put(folder / "test_images" / part, data, f"{uuid.uuid4()}.webp") for data in pair[1:]]
        generations = [f"{part}/{name}" for name in names]
        items.append({"id": f"005658-{number:04d}", "prompt": pair.caption, "generations": generations})
        items[-1]["ranking"] = [2, 5]
    return write_list(folder / "test.json", items)


def images_of(folder: Path, pairs: list[Pair], part: str) -> list[dict[str, Any]]:
    """Items of ImageRewardDB, losers first."""
    items = []
    for side, rank in (("loser", 3), ("winner", 1)):
        for number, pair in enumerate(pairs):
            name = put(folder / part, getattr(pair, side), f"{uuid.uuid4()}.webp")
            items.append(
                {
                    "image_path": f"{part}/{name}",
                    "prompt_id": f"001324-{number:04d}",
                    "prompt": pair.caption,
                    "classification": "Outdoor Scenes",
                    "image_amount_in_total": 2,
                    "rank": rank,
                    "overall_rating": 6,
                    "image_text_alignment_rating": 6,
                    "fidelity_rating": 6,
                }
            )
    return items


def reward_db_part(folder: Path, pairs: list[Pair]) -> Path:
    part = "images/train/train_1"
    return write_list(folder / part / "train_1.json", images_of(folder, pairs, part))


def reward_db(folder: Path, pairs: list[Pair]) -> Path:
    half = len(pairs) // 2
    items = images_of(folder, pairs[:half], "images/train/train_1")
    others = images_of(folder, pairs[half:], "images/train/train_2")
    for item in others:
        item["prompt_id"] = item["prompt_id"].replace("001324", "001325")
    pack(folder / "images/train/train_2")
    pq.write_table(pa.Table.from_pylist([*items, *others]), folder / "metadata-train.parquet", row_group_size=5)
    return folder / "metadata-train.parquet"


def own_rows(folder: Path, pairs: list[Pair]) -> list[dict[str, Any]]:
    return [
        {
            "caption": pair.caption,
            "winner": f"pictures/{put(folder / 'pictures', pair.winner)}",
            "loser": f"pictures/{put(folder / 'pictures', pair.loser)}",
            "annotator": f"me {number % 2}",
        }
        for number, pair in enumerate(pairs)
    ]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def own_csv(folder: Path, pairs: list[Pair]) -> Path:
    return write_csv(folder / "mine.csv", own_rows(folder, pairs))


def own_csv_zip(folder: Path, pairs: list[Pair]) -> Path:
    path = own_csv(folder, pairs)
    pack(folder / "pictures", "pictures/")
    return path


def own_parquet(folder: Path, pairs: list[Pair]) -> Path:
    rows = own_rows(folder, pairs)
    pq.write_table(pa.Table.from_pylist(rows), folder / "mine.parquet", row_group_size=4)
    return folder / "mine.parquet"


def pickapic_rows(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Rows with all columns of the published files."""
    rows = []
    for number, pair in enumerate(pairs):
        label = float(number % 2)
        first, second = (pair.winner, pair.loser) if label else (pair.loser, pair.winner)
        rows.append(
            {
                "are_different": True,
                "best_image_uid": str(uuid.uuid4()),
                "caption": pair.caption,
                "created_at": 1_675_000_000_000 + number,
                "has_label": True,
                "image_0_uid": image_uid(first),
                "image_0_url": "",
                "image_1_uid": image_uid(second),
                "image_1_url": "",
                "jpg_0": first,
                "jpg_1": second,
                "label_0": label,
                "label_1": 1 - label,
                "model_0": "a",
                "model_1": "b",
                "ranking_id": number,
                "user_id": number % 3,
                "num_example_per_prompt": 1,
                "__index_level_0__": number,
            }
        )
    return rows


def pickapic(folder: Path, pairs: list[Pair]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_rows(folder / "train.parquet", pickapic_rows(pairs))


def pickapic_shards(folder: Path, pairs: list[Pair]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = pickapic_rows(pairs)
    for shard in range(3):
        part = rows[shard * len(rows) // 3 : (shard + 1) * len(rows) // 3]
        write_rows(folder / f"train-{shard:05d}-of-00003-{shard:016x}.parquet", part, group=1)
    return folder


def hpdv3(folder: Path, pairs: list[Pair]) -> Path:
    """Keys and types of the published ``train.json``; path1 is preferred."""
    items = [
        {
            "prompt": pair.caption,
            "path1": f"images/{put(folder / 'images', pair.winner)}",
            "path2": f"images/{put(folder / 'images', pair.loser)}",
            "model1": "flux",
            "model2": "real_images",
            "confidence": None if number % 2 else 0.9 + number / 100,
            "choice_dist": [12, 7],
        }
        for number, pair in enumerate(pairs)
    ]
    return write_list(folder / "train.json", items)


def _table_rows(folder: Path, pairs: list[Pair]) -> list[dict[str, str]]:
    """Rows under the names that trainers of language models use."""
    return [
        {
            "source": "x",
            "prompt": pair.caption,
            "chosen": f"images/{put(folder / 'images', pair.winner)}",
            "rejected": f"images/{put(folder / 'images', pair.loser)}",
        }
        for pair in pairs
    ]


def table_json_lines(folder: Path, pairs: list[Pair]) -> Path:
    path = folder / "pairs.jsonl"
    lines = [json.dumps(row) for row in _table_rows(folder, pairs)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def table_csv(folder: Path, pairs: list[Pair]) -> Path:
    rows = _table_rows(folder, pairs)
    path = folder / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def table_images(folder: Path, pairs: list[Pair]) -> Path:
    """A parquet file with the images in its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "prompt": [pair.caption for pair in pairs],
        "chosen": [{"bytes": pair.winner, "path": None} for pair in pairs],
        "rejected": [{"bytes": pair.loser, "path": None} for pair in pairs],
    }
    pq.write_table(pa.table(columns), folder / "pairs.parquet", row_group_size=2)
    return folder / "pairs.parquet"


LAYOUTS = {
    "hpdv3": hpdv3,
    "table jsonl": table_json_lines,
    "table csv": table_csv,
    "table parquet with images": table_images,
    "pickapic": pickapic,
    "pickapic shards": pickapic_shards,
    "hpd_v2 train": hpd_train,
    "hpd_v2 train, zip": hpd_train_zip,
    "hpd_v2 emoji": hpd_emoji,
    "hpd_v2 test": hpd_test,
    "image_reward rankings": rankings,
    "image_reward part": reward_db_part,
    "image_reward metadata": reward_db,
    "own_pairs csv": own_csv,
    "own_pairs csv, zip": own_csv_zip,
    "own_pairs parquet": own_parquet,
}
"""Writers (folder, pairs) -> path, by the reader's name and a word."""
