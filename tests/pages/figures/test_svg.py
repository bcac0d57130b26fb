"""Drawings are alike each time and everywhere, and stand on any background."""

from __future__ import annotations

import re
import sys
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

from lorakit.errors import MissingDependencyError
from lorakit.pages.figures import Axis, Point, Series, bars, dots, heat_map, lines, scatter
from lorakit.pages.figures.palette import LIGHT
from lorakit.pages.figures.panel import Panel
from lorakit.pages.figures.svg import draw, with_prefix
from tests.pages.figures.shapes import texts

NAME = "<b> & $x_1$ \\frac"
SERIES = [
    Series(NAME, [Point(1, 0.5, 0.4, 0.7, (0.4, 0.7)), Point(8, 0.8)]),
    Series("other", [Point(8, 0.6)], hollow=True),
]
PANELS = {
    "lines": lambda: lines(SERIES, Axis("rank", log=True), Axis(NAME), "title"),
    "scatter": lambda: scatter(SERIES, Axis("parameters", log=True), Axis(NAME), "title"),
    "dots": lambda: dots(SERIES, Axis(NAME), "title"),
    "bars": lambda: bars(SERIES, Axis(NAME), "title"),
    "heat_map": lambda: heat_map([[0.1, 0.9]], ("i", ["1"]), (NAME, ["1", "2"]), title="title"),
}


@pytest.fixture(params=PANELS)
def panel(request: pytest.FixtureRequest) -> Panel:
    drawn: Panel = PANELS[request.param]()
    return drawn


def test_text_stays_text_and_means_itself(panel: Panel) -> None:
    assert NAME in texts(panel)
    assert "title" in texts(panel)


@pytest.mark.parametrize("kind", PANELS)
def test_drawing_is_the_same_whatever_the_user_has_set(kind: str) -> None:
    first = PANELS[kind]().svg
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        assert PANELS[kind]().svg == first
        assert matplotlib.rcParams["font.size"] == 30


def test_every_colour_is_a_variable(panel: Panel) -> None:
    styles = " ".join(
        element.attrib.get("style", "") for element in ElementTree.fromstring(panel.svg).iter()
    )
    fixed = set(re.findall(r"(?<!, )#[0-9a-f]{6}", styles))
    assert fixed <= {"#ffffff", "#000000"}  # on the cells of a heat map
    assert f"var(--ink, {LIGHT['ink']})" in styles


def test_drawing_holds_no_date_and_nothing_from_elsewhere(panel: Panel) -> None:
    assert "<metadata" not in panel.svg
    assert "DOCTYPE" not in panel.svg
    assert not re.search(r'href="(?!#|data:)', panel.svg)


def test_prefix_renames_names_and_what_points_to_them(panel: Panel) -> None:
    renamed = with_prefix(panel.svg, "f1-")
    names = re.findall(r' id="([^"]+)"', renamed)
    assert names
    assert all(name.startswith("f1-") for name in names)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', renamed)
    assert {one or other for one, other in used} <= set(names)
    assert texts(Panel(renamed)) == texts(panel)


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(_axes: Any) -> None: ...

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"lorakit\[train\]"):
        draw(paint, 1, 1)
