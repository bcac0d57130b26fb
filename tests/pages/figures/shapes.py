"""What a drawing holds, read from its SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from lorakit.pages.figures import Panel

_SVG = "{http://www.w3.org/2000/svg}"


def texts(panel: Panel) -> list[str]:
    """The texts in the order they were drawn in."""
    return ["".join(text.itertext()) for text in _elements(panel, "text")]


def marks(panel: Panel, colour: str) -> int:
    """How many points have a rim of this variable's colour; the cap of a spread is one line."""
    shapes = {path.attrib.get("id"): path.attrib["d"] for path in _elements(panel, "path")}
    return sum(
        f"stroke: var(--{colour}," in use.attrib["style"]
        and len(re.findall("[LC]", shapes[use.attrib["href"][1:]])) > 1
        for use in _elements(panel, "use")
    )


def fillings(panel: Panel) -> list[list[tuple[float, float]]]:
    """The corners of each filled area, in the order they were drawn in."""
    found = []
    for path in _elements(panel, "path"):
        if "fill: var(--series" in path.attrib.get("style", ""):
            numbers = [float(one) for one in re.findall(r"-?[\d.]+", path.attrib["d"])]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def _elements(panel: Panel, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(panel.svg).iter(f"{_SVG}{name}"))
