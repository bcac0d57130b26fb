"""The notebooks run from top to bottom, and are committed without their output.

Numbers and pictures differ in their last digits between machines, so a committed output would be
stale at once; every cell that claims something about a number asserts it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"lora_three_layers": 3, "rank_and_svd": 4}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what this user has set up for Jupyter nor a window for pictures plays a part."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)


def execute(notebook: Any, folder: Path) -> Any:
    """Run every cell in `folder`, in a kernel of the interpreter that runs the tests."""
    specs = KernelSpecManager(kernel_dirs=[])  # leaves the one that ipykernel itself gives
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, km=kernel, timeout=120, resources=resources)
    return client.execute(cleanup_kc=True)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_both_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PICTURES)


@each_notebook
def test_notebook_is_committed_without_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@each_notebook
def test_notebook_is_mostly_text_and_short_cells(path: Path) -> None:
    """Written to be learned from: an explanation before each step, no cell longer than a screen."""
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert sum(cell.cell_type == "markdown" for cell in cells) >= len(cells) // 2
    assert max(len(cell.source.splitlines()) for cell in cells) <= 40


@each_notebook
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    executed = execute(nbformat.read(path, as_version=4), tmp_path)
    noise = [output.text for output in outputs(executed) if output.get("name") == "stderr"]
    assert not noise
    pictures = [output for output in outputs(executed) if "image/png" in output.get("data", {})]
    assert len(pictures) == PICTURES[path.stem]


def test_failing_cell_fails_in_this_interpreter(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("import sys\nassert False, sys.executable")]
    with pytest.raises(CellExecutionError) as error:
        execute(notebook, tmp_path)
    assert sys.executable in str(error.value)
