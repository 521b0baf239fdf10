"""ImageReward's rankings, in both published layouts.

The code's ``test.json`` is a JSON list of rankings, ``{"id": …, "prompt": …, "generations": [paths], "ranking":
[…]}``; its images are looked for beside the list and in ``test_images/`` (``<name of the list>_images``). ImageRewardDB
has one item per image, ``{"image_path": …, "prompt_id": …, "prompt": …, "rank": …, …}``, in a JSON list that lies among
its images, or in ``metadata-<split>.parquet`` at the root above ``images/<split>/<part>``; the parts may be zip
archives, as they are published. Ranks begin at 1, lower is better; every pair of a prompt's images is a row, equal
ranks are ties. Sources: THUDM/ImageReward and the card of THUDM/ImageRewardDB.
"""

from __future__ import annotations

from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from qsd.data.image_files import ImageFiles
from qsd.data.json_list import read_list
from qsd.data.listed import ListedPairs, check_keys, ranked, shown, text
from qsd.data.parquet import check_columns, is_numeric, is_text, open_parquet, stream
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from qsd.data.listed import Listed

_RANKING: dict[str, type] = {"id": object, "prompt": str, "generations": list, "ranking": list}
_IMAGE: dict[str, type] = {"image_path": str, "prompt_id": str, "prompt": str, "rank": int}
_COLUMNS = {
    "image_path": (is_text, "text"),
    "prompt_id": (is_text, "text"),
    "prompt": (is_text, "text"),
    "rank": (is_numeric, "a rank"),
}
_STREAMED_ROWS = 4096


def open_image_reward(path: Path) -> ListedPairs:
    """The pairs of a list of rankings or of ImageRewardDB's images.

    Raises:
        UserError: no such file, or not in these layouts.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a JSON list of rankings, or metadata-<split>.parquet of ImageRewardDB")
    if path.suffix == ".parquet":
        return ListedPairs(path, _grouped(path, _metadata(path)), ImageFiles(path.parent))
    items = read_list(path, dict)
    first = next(items, None)
    if first is None:
        return ListedPairs(path, [], ImageFiles(path.parent))
    items = chain([first], items)
    if "generations" in first:
        return ListedPairs(path, _rankings(path, items), ImageFiles(path.parent, ("", f"{path.stem}_images")))
    # The paths begin at the root of the data set, the list lies with its images: the file's name alone is right.
    images = ({**item, "image_path": _file_name(item.get("image_path"))} for item in items)
    return ListedPairs(path, _grouped(path, images), ImageFiles(path.parent))


def _rankings(path: Path, items: Iterable[dict[str, Any]]) -> Iterator[Listed]:
    for number, item in enumerate(items):
        check_keys(path, number, item, _RANKING)
        name = f"item-{number}/{shown(item['id'])}"
        yield from ranked(name, text(item["prompt"]), item["generations"] or [], item["ranking"] or [])


def _grouped(path: Path, images: Iterable[dict[str, Any]]) -> Iterator[Listed]:
    """The rankings of images that come one by one; prompts in the order in which they first appear."""
    groups: dict[tuple[str, str], tuple[list[str | None], list[Any]]] = {}
    for number, image in enumerate(images):
        check_keys(path, number, image, _IMAGE)
        group = groups.setdefault((image["prompt_id"], image["prompt"]), ([], []))
        group[0].append(text(image["image_path"]))
        group[1].append(image["rank"])
    for number, ((prompt_id, prompt), (paths, ranks)) in enumerate(groups.items()):
        yield from ranked(f"prompt-{number}/{shown(prompt_id)}", text(prompt), paths, ranks)


def _metadata(path: Path) -> Iterator[dict[str, Any]]:
    file, first = open_parquet(path), 0
    check_columns(path, file.schema_arrow, _COLUMNS)
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, list(_COLUMNS), _STREAMED_ROWS, first):
            yield from batch
            first += len(batch)


def _file_name(path: Any) -> Any:
    return PurePosixPath(path).name if isinstance(path, str) else path


def _recognises(path: Path) -> bool:
    if path.suffix == ".parquet":
        return path.is_file() and {"image_path", "prompt_id", "rank"} <= set(open_parquet(path).schema_arrow.names)
    if path.suffix != ".json":
        return False
    first: dict[str, Any] = next(read_list(path, dict), {})
    return "generations" in first or {"image_path", "prompt_id", "rank"} <= first.keys()


READER = Reader(open=open_image_reward, recognises=_recognises, digest=lambda path: open_image_reward(path).digest())
