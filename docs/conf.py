"""Sphinx configuration: pages are Markdown (MyST), docstrings come from the installed package."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where mathml.py is

project = "lorakit"
author = "lorakit authors"
project_copyright = author
release = version = installed_version("lorakit")

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"

default_role = "literal"  # `name` in a docstring

copybutton_prompt_text = "$ "  # with it, what a command prints is not copied either
copybutton_line_continuation_character = "\\"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"lorakit {release}"
