"""Sphinx configuration: pages are Markdown (MyST), docstrings come from the installed package."""

import logging
from importlib.metadata import version as installed_version

project = "lorakit"
author = "lorakit authors"
project_copyright = author
release = version = installed_version("lorakit")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

# A section of the table of contents may have no page yet. Sphinx gives this warning a subtype and
# no type, so `suppress_warnings` cannot name it.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"lorakit {release}"
