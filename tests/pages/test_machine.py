"""What made a page."""

from __future__ import annotations

import os
from importlib.metadata import version

from lorakit.pages import provenance


def test_provenance_names_command_versions_and_machine() -> None:
    facts = dict(provenance("lorakit compare sweep.yaml"))
    assert facts["Command"] == "lorakit compare sweep.yaml"
    assert facts["Date"].endswith("UTC")
    assert f"torch {version('torch')}" in facts["Versions"]
    assert f"{os.cpu_count()} cores" in facts["Machine"]
