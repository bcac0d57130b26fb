"""The rooms of tasks and metrics load nothing that only reading a file needs."""

from __future__ import annotations

import subprocess
import sys

ROOMS = """
import pkgutil, sys
import lorakit.metrics, lorakit.tasks
for room in (lorakit.tasks, lorakit.metrics):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        __import__(module.name)
print(*sys.modules)
"""
LAZY = {"datasets", "jinja2", "pandas", "pyarrow", "scipy", "sklearn", "transformers"}


def loaded(code: str) -> set[str]:
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_importing_tasks_and_metrics_is_light() -> None:
    modules = loaded(ROOMS)
    assert "lorakit.tasks.chat" in modules
    assert not modules & LAZY
