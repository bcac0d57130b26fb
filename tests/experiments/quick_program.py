"""A program in place of `python -m lorakit train`, which would take seconds to start."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = f"""#!{sys.executable}
# In place of Python with lorakit: python -m lorakit train RECIPE
import json, os, sys, time
from pathlib import Path
import yaml
from lorakit.locks import exclusive

given = yaml.safe_load(Path(sys.argv[4]).read_text())
print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
exec(os.environ.get("BEFORE", ""))
for recipe in given.get("adapters", {{"": given}}).values():
    output = Path(recipe["output"])
    with exclusive(output):
        (output / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        with (output.parent / f"{{output.name}}.begun").open("a") as begun:
            begun.write("x")
        exec(os.environ.get("PROGRAM", ""))
        content = {{
            "method": recipe["method"], "task": "classification", "metrics": {{"accuracy": 0.5}},
            "trainable_parameters": 1, "adapter_bytes": 1, "examples": {{"test": 1}}, "steps": 1,
            "seconds": 1.0, "peak_memory_bytes": 1, "seed": recipe["training"]["seed"],
            "versions": {{}}, "commit": None, "output": recipe["output"], "base": recipe["base"],
        }}
        (output / "result.new").write_text(json.dumps(content))
        os.replace(output / "result.new", output / "result.json")
"""


def install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs run it; what stands in the environment variable PROGRAM is done in the middle.

    What stands in BEFORE is done before it holds its directory.
    """
    file = directory / "program"
    file.write_text(PROGRAM)
    file.chmod(0o700)
    monkeypatch.setattr("lorakit.experiments.job_process.sys.executable", str(file))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds, at most for a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
