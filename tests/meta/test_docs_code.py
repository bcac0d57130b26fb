"""The Python in the documentation runs: each file is one program, made of its blocks in order.

A block that cannot run says why, in one of two ways; without a reason it runs, or the test fails:

    <!-- not run: needs two GPUs -->          ```python notest: needs two GPUs
    ```python

A page about another library names what its blocks import, and is skipped where that is missing:

    <!-- runs with: trl, datasets -->
"""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown_it import MarkdownIt

from lorakit.checkpoint import FORMATS
from lorakit.losses import LOSSES
from lorakit.methods import METHODS
from lorakit.tasks import TASKS
from lorakit.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    ROOT / "README.md",
    *(path for path in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in path.parts),
]
NOT_RUN = re.compile(r"<!--\s*not run:(?P<reason>.*?)-->", re.DOTALL)
RUNS_WITH = re.compile(r"^<!--\s*runs with:(?P<packages>.*?)-->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    code: str
    """Padded with empty lines, so that a traceback shows the line of the file."""

    line: int
    reason: str | None
    """Why it is not run; None if it is."""


def python_blocks(markdown: str) -> list[Block]:
    """The fenced blocks in Python; raises ValueError if one is skipped without a reason."""
    tokens = MarkdownIt("commonmark").parse(markdown)
    blocks = []
    for before, token in pairwise([None, *tokens]):
        language, _, rest = token.info.strip().partition(" ")
        if token.type != "fence" or language != "python" or token.map is None:
            continue
        first = token.map[0] + 1  # the fence; the code begins on the next line
        comment = NOT_RUN.fullmatch(before.content.strip()) if before else None
        reason = comment["reason"].strip() if comment else None
        if rest.startswith("notest"):
            reason = rest.removeprefix("notest").strip(" :")
        if reason == "":
            raise ValueError(f"line {first}: the block is not run, and no reason is given")
        blocks.append(Block("\n" * first + token.content, first, reason))
    return blocks


def other_libraries(markdown: str) -> list[str]:
    """The packages without which the blocks of a page cannot run."""
    found = [match["packages"].split(",") for match in RUNS_WITH.finditer(markdown)]
    return [package.strip() for packages in found for package in packages]


def require_libraries(path: Path) -> None:
    """Skip a page whose libraries are not installed; their own warnings are not ours to mend."""
    needed = other_libraries(path.read_text(encoding="utf-8"))
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if needed:
        warnings.simplefilter("default")


def run(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the blocks of a file in one new `__main__`, as a reader would; returns how many ran."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)  # where pickle looks for their classes
    blocks = [b for b in python_blocks(path.read_text(encoding="utf-8")) if b.reason is None]
    for block in blocks:
        exec(compile(block.code, str(path), "exec"), vars(main))
    return len(blocks)


@pytest.fixture
def tables_as_before() -> Iterator[None]:
    """What a page registers is gone after it."""
    tables: list[dict[str, Any]] = [VARIANTS, METHODS, FORMATS, TASKS, LOSSES]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_libraries(path)
    monkeypatch.chdir(tmp_path)
    run(path, monkeypatch)


def write(folder: Path, markdown: str) -> Path:
    path = folder / "page.md"
    path.write_text(markdown, encoding="utf-8")
    return path


def test_blocks_share_one_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write(tmp_path, "```python\nx = 1\n```\n- item\n  ```python\n  assert x == 1\n  ```\n")
    assert run(page, monkeypatch) == 2


def test_failing_block_fails_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write(tmp_path, "# A page\n\n```python\nx = 1\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        run(page, monkeypatch)
    assert error.traceback[-1].lineno + 1 == 5  # pytest counts from 0


@pytest.mark.parametrize(
    "markdown",
    [
        "<!-- not run: needs a GPU -->\n```python\n1 / 0\n```\n",
        "```python notest: needs a GPU\n1 / 0\n```\n",
        "```console\n1 / 0\n```\n",
    ],
)
def test_other_blocks_do_not_run(
    markdown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(write(tmp_path, markdown), monkeypatch) == 0


@pytest.mark.parametrize(
    "markdown", ["<!-- not run: -->\n```python\n1 / 0\n```\n", "```python notest\n1 / 0\n```\n"]
)
def test_block_without_a_reason_is_an_error(markdown: str) -> None:
    with pytest.raises(ValueError, match="no reason is given"):
        python_blocks(markdown)


def test_page_without_its_library_is_skipped_by_name(tmp_path: Path) -> None:
    page = write(tmp_path, "# A page\n\n<!-- runs with: json, no_such_library -->\n")
    with pytest.raises(pytest.skip.Exception, match="not installed: no_such_library"):
        require_libraries(page)


def test_page_with_its_libraries_is_run(tmp_path: Path) -> None:
    assert other_libraries("text\n<!-- runs with: json, re -->\n") == ["json", "re"]
    require_libraries(write(tmp_path, "<!-- runs with: json, re -->\n"))
