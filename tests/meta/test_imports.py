"""Importing lorakit is light: a fresh interpreter says what it loaded (`python -X importtime`)."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"accelerate", "huggingface_hub", "numpy", "safetensors", "torch", "transformers"}


def imported_by(*arguments: str) -> set[str]:
    """The modules that `python ARGUMENTS` imports; raises if it fails."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    trace = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    assert result.returncode == 0, result.stderr.splitlines()[-1]
    return {line.rpartition("|")[2].strip() for line in trace}


def assert_light(*arguments: str) -> None:
    imported = imported_by(*arguments)
    assert "lorakit" in imported
    assert not imported & HEAVY, f"python {' '.join(arguments)} imports {imported & HEAVY}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert_light("-c", "import lorakit")


@pytest.mark.parametrize("command", [[], ["train"], ["inspect"]], ids=" ".join)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    assert_light("-m", "lorakit", *command, "--help")


def test_completion_loads_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    call = "import sys; sys.argv = ['lorakit']; from lorakit.cli import main; main()"
    monkeypatch.setenv("_LORAKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "2")
    for word in ("rev", "--set"):
        monkeypatch.setenv("COMP_WORDS", f"lorakit train {word}")
        assert_light("-c", call)


def test_errors_and_configs_load_nothing_heavy() -> None:
    assert_light("-c", "import lorakit; lorakit.errors.LorakitError; lorakit.LoraConfig()")


def test_adapting_a_model_loads_no_file_formats_and_no_locks() -> None:
    imported = imported_by("-c", "import lorakit; lorakit.inject")
    assert "lorakit.injection.installation" in imported
    assert not imported & {"filelock", "lorakit.checkpoint", "safetensors"}


def test_a_heavy_import_would_be_seen() -> None:
    assert "torch" in imported_by("-c", "import lorakit; lorakit.Linear")
