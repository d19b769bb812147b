"""The browser and the site that the browser tests share, one of each a module."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from tests.browser import chromium_or_skip, running_site


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from chromium_or_skip()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    with running_site(tmp_path_factory.mktemp("site")) as address:
        yield address
