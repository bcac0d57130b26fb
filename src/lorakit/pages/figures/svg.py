"""A drawing by matplotlib as SVG for a page: its colours are variables, its text is the page's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import Any
from xml.etree import ElementTree

from lorakit.errors import MissingDependencyError
from lorakit.pages.figures.palette import INK, LIGHT, MUTED, RULE

_SVG, _XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_POINTS_TO_PIXELS = 4 / 3
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lorakit",  # names in the file are the same each time
    "text.parse_math": False,  # a name with $ is a name
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "savefig.transparent": True,
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor"], INK),
    **dict.fromkeys(["xtick.color", "ytick.color"], MUTED),
    **dict.fromkeys(["xtick.labelcolor", "ytick.labelcolor"], INK),
    "grid.color": RULE,
}


def draw(paint: Callable[[Any], None], width: float, height: float) -> str:
    """The SVG of what `paint` does to empty axes of this size in inches.

    It depends on nothing else: no settings of the user's, no date, no place on the page.
    Raises MissingDependencyError without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Figures need the package matplotlib: pip install 'lorakit[train]'"
        ) from error
    buffer = StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font has not.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _for_a_page(buffer.getvalue())


def with_prefix(svg: str, prefix: str) -> str:
    """The SVG with its own names begun by `prefix`, so that a page can hold several."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, prefix + value)
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
    return _text(root)


def _for_a_page(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    _keep_used_names(root)
    for element in root.iter():
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))
        if "style" in element.attrib:
            element.set("style", _styled(element.attrib["style"]))
    for name in ("width", "height"):
        points = float(root.attrib[name].removesuffix("pt"))
        root.set(name, f"{points * _POINTS_TO_PIXELS:g}")
    return _text(root)


def _keep_used_names(root: ElementTree.Element) -> None:
    """Drop the ids that nothing in the drawing points to, and the metadata."""
    used = re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for v in e.attrib.values()))
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)


def _styled(style: str) -> str:
    """A style with variables for colours, and without a family of letters."""
    for variable, colour in LIGHT.items():
        style = style.replace(colour, f"var(--{variable}, {colour})")
    return re.sub(
        r"font: ([\w ]*?)([\d.]+px) [^;]+", r"font: \1\2 var(--letters, sans-serif)", style
    )


def _text(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")
