"""Nothing leaves the machine that names people, machines or keys."""

from __future__ import annotations

import pytest

from ablations.tracking.shareable import folders_in, shareable, without_folders


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/srv/someone/models/sd15", "sd15"),
        ("~/models/sd15", "sd15"),
        ("no such file: '/scratch/u/x.csv' or /data/y.csv", "no such file: 'x.csv' or y.csv"),
        ("owner/name@0123abc", "owner/name@0123abc"),
        ("world/prompts.csv", "world/prompts.csv"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080/a/b"),
        ("file:///srv/someone/x.csv", "file://x.csv"),
        ("node7:/srv/someone/x.csv", "node7:x.csv"),
        ("~someone/models/sd15", "sd15"),
        ("wandb key 0123456789abcdef0123456789abcdef01234567", "(withheld: a W&B key)"),
        ("https://u:secret@example.org/x", "(withheld: a URL with a password)"),
        (3.5, 3.5),
        (None, None),
        ({"path": ["/a/b/c", 1], "/x/y": True}, {"path": ["c", 1], "y": True}),
    ],
)
def test_paths_lose_their_folders_and_keys_are_withheld(value, expected) -> None:
    assert shareable(value) == expected


def test_a_file_loses_the_folders_that_are_known_and_nothing_else() -> None:
    folders = folders_in({"reason": "cannot read '/srv/some&one/x.csv'", "axes": {"model.path": ["~/models/a"]}})
    page = b"<p>cannot read '/srv/some&amp;one/x.csv'</p>,~/models/a\" src=\"data:image/jpeg;base64,/9j/4AAQ/x+/srv/"
    expected = b"<p>cannot read 'x.csv'</p>,a\" src=\"data:image/jpeg;base64,/9j/4AAQ/x+/srv/"
    assert without_folders(page, folders) == expected
    assert without_folders(page, set()) == page
