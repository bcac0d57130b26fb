"""Every file of the package is short enough to be read in one sitting."""

from __future__ import annotations

from pathlib import Path

import lorakit

MOST_LINES = 300


def test_no_file_of_the_package_is_too_long() -> None:
    package = Path(lorakit.__file__).parent
    lines = {
        str(file.relative_to(package)): len(file.read_text(encoding="utf-8").splitlines())
        for file in package.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
