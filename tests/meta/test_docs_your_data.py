"""The files whose first lines docs/how-to/your-data.md shows are read as the page says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorakit.errors import ConfigError
from lorakit.tables import read_table
from lorakit.tasks.columns import resolve
from lorakit.tasks.spec import Columns

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "your-data.md"
SHOWN = re.compile(
    r"^`(?P<file>\w+\.(?:conll|csv|jsonl?|parquet|txt))`[^\n]*\n\n```(?P<language>\w+)\n(?P<content>.*?)"
    r"```\n(?:\nRead as `(?P<task>\w+)`: text (?P<text>`\w+`(?:, `\w+`)*)"
    r"(?:, label `(?P<label>\w+)`)?\.)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Form:
    file: str
    program: bool
    """Whether what is shown is Python that writes the file."""
    content: str
    columns: Columns | None
    """What the file is read as; None: it is refused."""

    def write(self) -> None:
        if self.program:
            exec(self.content, {})
        else:
            Path(self.file).write_text(self.content, encoding="utf-8")


def form_of(shown: re.Match[str]) -> Form:
    text = tuple(re.findall(r"\w+", shown["text"] or ""))
    columns = Columns(shown["task"], text, shown["label"]) if shown["task"] else None
    return Form(shown["file"], shown["language"] == "python", shown["content"], columns)


FORMS = [form_of(shown) for shown in SHOWN.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.file)
def test_file_is_read_as_the_page_says(
    form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    form.write()
    if form.columns is None:
        with pytest.raises(ConfigError, match="is empty: row"):
            resolve(read_table(form.file), Columns())
    else:
        assert resolve(read_table(form.file), Columns()) == form.columns


def test_every_form_is_shown() -> None:
    assert len({form.file for form in FORMS}) == len(FORMS) == 10
