"""What the browser tests stand on: Debian's Chromium, driven by Playwright, and a real site on loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def launched_chromium() -> Iterator[Browser]:
    """Give a running Chromium and close it afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def chromium_or_skip() -> Iterator[Browser]:
    """Be a fixture's body: a browser, or a skip that says why; on CI a missing browser is a failure."""
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with launched_chromium() as browser:
        yield browser


@contextmanager
def running_site(folder: Path, **settings: str) -> Iterator[str]:
    """Serve a real Pillarbox out of an empty folder, its mail going into `folder / "mail"`; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = Path(__file__).parents[1] / "src"
    chosen = {"PORT": str(port), "RATE_LIMIT": "off", "SITE_NAME": "Ada's Bookshop", **settings}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(source), **chosen}
    with (folder / "log").open("wb") as log:
        site = subprocess.Popen(
            [sys.executable, "-m", "pillarbox", "serve"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _await_health(address, site, folder / "log")
        yield address
    finally:
        site.terminate()
        site.wait(20)


def _await_health(address: str, site: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and site.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"the site did not start: {log.read_text()}")
