"""Pictures of values as SVG, readable on light and on dark, the same each time.

Each function takes values and gives a `Panel`; several panels are small multiples of one `Figure`.
"""

from lorakit.pages.figures.areas import areas
from lorakit.pages.figures.categories import bars, dots, stacked_bars
from lorakit.pages.figures.heat_map import heat_map
from lorakit.pages.figures.lines import lines, scatter
from lorakit.pages.figures.panel import Panel
from lorakit.pages.figures.series import Axis, Point, Series

__all__ = [
    "Axis",
    "Panel",
    "Point",
    "Series",
    "areas",
    "bars",
    "dots",
    "heat_map",
    "lines",
    "scatter",
    "stacked_bars",
]
