"""Fetching a prompt set: its files from their home, checked, and written as one table with a record of their origin.

``<name>.csv`` has prompt_id, caption, split and category; ``<name>.json`` beside it the home, the revision, the
licence and the digest of every file. The record is written first and kept, so that a set that is fetched again must
have the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.data.prompt_sets import FOLDER
from qsd.errors import UserError, reason
from qsd.files import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qsd.data.prompt_sets.prompt_set import PromptSet, SetPrompt

    Download = Callable[[PromptSet, str], bytes]
    """(set, path of one of its files) -> its bytes."""

_PATIENCE_S = 30.0
_MOST_BYTES = 64 * 1024 * 1024
"""Of one file; the largest has 0.4 MB."""
_GITHUB = "https://raw.githubusercontent.com"


def fetch_set(one: PromptSet, folder: Path = FOLDER, download: Download | None = None) -> str:
    """Fetch a set unless its file is there; what it is and under which licence, in a line.

    Args:
        one: the set.
        folder: where its table and its record belong.
        download: how a file is fetched; by default from the set's home.

    Raises:
        UserError: the home cannot be reached, a file has other bytes than it must have, or is in another layout.
    """
    table, record = folder / f"{one.name}.csv", folder / f"{one.name}.json"
    if table.is_file():
        return f"there, {_origin(one)}"
    known = _recorded(record)
    contents = {file.path: _download(one, file.path, download or _from_home) for file in one.files}
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    for file in one.files:
        _check_digest(one, file.path, digests[file.path], file.sha256, known.get(file.path), record)
    prompts = _read(one, contents)
    if len(prompts) != one.count:
        raise UserError(
            f"prompt set '{one.name}': {one.home} has {len(prompts):,} prompts, and {one.count:,} were published; "
            "nothing was written"
        )
    stated = {"name": one.name, "about": one.about, "licence": one.licence, "prompts": len(prompts)}
    home = {"repo": one.repo, "revision": one.revision, "hub": one.hub}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, {**stated, **home, "sha256": digests})
    write_bytes(table, _as_table(prompts))
    unknown = [file.path for file in one.files if file.sha256 is None]
    checked = "SHA-256 recorded, none is published" if unknown else "SHA-256 as known"
    return f"{len(prompts):,} prompts from {_origin(one)}; {checked}"


def _origin(one: PromptSet) -> str:
    return f"{one.home}; licence: {one.licence}"


def _read(one: PromptSet, contents: dict[str, bytes]) -> list[SetPrompt]:
    """The prompts in the fetched bytes, through files with the published names, by whose endings they are read."""
    with tempfile.TemporaryDirectory() as place:
        paths: Sequence[Path] = [Path(place) / Path(path).name for path in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_bytes(content)
        try:
            return list(one.read(paths))
        except UserError as error:
            raise UserError(f"prompt set '{one.name}': {str(error).replace(place, one.repo)}") from None


def _as_table(prompts: Sequence[SetPrompt]) -> bytes:
    """The prompts as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("prompt_id", "caption", "split", "category"))
    writer.writerows((one.prompt_id, one.caption, one.split, one.category) for one in prompts)
    return stream.getvalue().encode()


def _recorded(record: Path) -> dict[str, str]:
    """Digests by file of an earlier fetch; none without one.

    Raises:
        UserError: a record that is no such record.
    """
    content: Any = read_json(record)
    if content is None and not record.exists():
        return {}
    digests = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
        raise UserError(f"{record}: not the record of a fetched prompt set; remove it, then what is fetched is new")
    return digests


def _check_digest(
    one: PromptSet, path: str, digest: str, known: str | None, recorded: str | None, record: Path
) -> None:
    """Refuse other bytes than those that are known, or that an earlier fetch recorded.

    Raises:
        UserError: with both digests.
    """
    for expected, where in ((known, "is known"), (recorded, f"was recorded in {record}")):
        if expected is not None and digest != expected:
            raise UserError(
                f"prompt set '{one.name}': {path} of {one.home} has SHA-256 {digest[:16]}…, and {expected[:16]}… "
                f"{where}; it was changed on the way or at its home, and nothing was written"
            )


def _download(one: PromptSet, path: str, download: Download) -> bytes:
    """One file.

    Raises:
        UserError: it cannot be fetched; with a way to fetch it by hand.
    """
    try:
        return download(one, path)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"prompt set '{one.name}': cannot fetch {path} of {one.home} ({reason(error)}); run 'ablate prefetch' on a "
            f"machine with a network connection and copy {FOLDER / one.name}.csv and .json"
        ) from None


def _from_home(one: PromptSet, path: str) -> bytes:
    """The bytes of a file at its home."""
    if one.hub:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(one.repo, path, repo_type="dataset", revision=one.revision)).read_bytes()
    from urllib.request import urlopen

    with urlopen(f"{_GITHUB}/{one.repo}/{one.revision}/{path}", timeout=_PATIENCE_S) as answer:
        content: bytes = answer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES:,} bytes")
    return content
