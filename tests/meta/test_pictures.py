"""A picture in the documentation is what the script beside it draws."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_draws_the_picture(script: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = tmp_path / "drawn.svg"
    runpy.run_path(str(script))["draw"](drawn)
    assert drawn.read_text("utf-8") == script.with_suffix(".svg").read_text("utf-8")


def test_every_picture_has_a_script() -> None:
    assert SCRIPTS
    assert {path.stem for path in FOLDER.glob("*.svg")} == {path.stem for path in SCRIPTS}
