"""One browser for all tests that open pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.pages.chromium import PROGRAM, Browser, browser


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed: apt-get install {PROGRAM}")
    with browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened
