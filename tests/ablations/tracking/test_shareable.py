"""Nothing leaves the machine that names people, machines or keys."""

from __future__ import annotations

import pytest

from ablations.tracking.shareable import shareable


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/data/someone/sd15", "sd15"),
        ("~/models/sd15", "sd15"),
        ("no such file: '/scratch/u/x.csv' or /data/y.csv", "no such file: 'x.csv' or y.csv"),
        ("owner/name@0123abc", "owner/name@0123abc"),
        ("world/prompts.csv", "world/prompts.csv"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("wandb key 0123456789abcdef0123456789abcdef01234567", "(withheld: a W&B key)"),
        ("https://u:secret@example.org/x", "(withheld: a URL with a password)"),
        (3.5, 3.5),
        (None, None),
        ({"path": ["/a/b/c", 1], "/x/y": True}, {"path": ["c", 1], "y": True}),
    ],
)
def test_paths_lose_their_folders_and_keys_are_withheld(value, expected) -> None:
    assert shareable(value) == expected
