"""Fixtures that several tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.qsd.tiny_stages import TinyStages


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyStages:
    """A tiny world with the stages data, select and encode done."""
    from tests.qsd import tiny_stages

    return tiny_stages.make(tmp_path_factory.mktemp("world"))
