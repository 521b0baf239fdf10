"""A real Chromium without a window, for tests of pages; Debian's package is installed where that may be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OFFLINE = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def chromium() -> str | None:
    """The path of a browser, installed first if this process is root and has apt-get; None where there is none."""
    program = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if program or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return program
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(command, env=environment, capture_output=True, check=False)
    return shutil.which("chromium")


@contextmanager
def started(program: str) -> Iterator[Browser]:
    """A browser that is closed in the end."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_OFFLINE))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, height: int = 900) -> Iterator[tuple[Page, list[str]]]:
    """A page from disk, and the list of what its console reports and what it asks the network for."""
    page = browser.new_page(viewport={"width": width, "height": height})
    reports: list[str] = []
    page.on("console", lambda message: reports.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: reports.append(f"error: {error}"))
    page.on("request", lambda request: None if _local(request.url, path) else reports.append(f"asks {request.url}"))
    page.goto(path.as_uri())
    yield page, reports
    page.close()


def _local(url: str, path: Path) -> bool:
    return url.startswith("data:") or url.partition("#")[0] == path.as_uri()
