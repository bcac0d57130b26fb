"""Your own data: JSON lines with a prompt and one reference, or a list of them.

`{"prompt": "...", "references": ["...", "..."]}`, or `{"prompt": "...", "reference": "..."}`, or
the prompt alone where a text is to be written. What microsoft/LoRA's converters write, `context`,
`completion` and `cate`, reads as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorakit.errors import FormatError
from lorakit.tables.cells import is_blank, text_problem
from lorakit.tables.json_rows import parse_json_lines
from lorakit.tasks.nlg.inputs import Entry

_NAMES = (("prompt", "references"), ("prompt", "reference"), ("context", "completion"))


def parse_lines(text: str) -> Iterator[Entry]:
    """The entries; raises FormatError for other keys, and for blank prompts by their rows."""
    columns = parse_json_lines(text)
    names = next((pair for pair in _NAMES if set(pair) <= set(columns)), None)
    if names is None:
        yield from _prompts_alone(columns)
        return
    prompts, references = (columns[name] for name in names)
    rows = enumerate(zip(prompts, references, strict=True), start=1)
    if wrong := [f"row {n}" for n, (p, found) in rows if not (_is_text(p) and _has_text(found))]:
        raise FormatError(f"these rows have no {names[0]} or no {names[1]}", wrong[:5])
    for prompt, found in zip(prompts, references, strict=True):
        yield Entry(prompt, [found] if isinstance(found, str) else found)


def _prompts_alone(columns: Mapping[str, list[Any]]) -> Iterator[Entry]:
    name = next((name for name in ("prompt", "context") if name in columns), None)
    if name is None:
        raise FormatError(
            "it has no column 'prompt' or 'context'", [f"its columns are {', '.join(columns)}"]
        )
    rows = enumerate(columns[name], start=1)
    if wrong := [f"row {n}" for n, prompt in rows if not _is_text(prompt)]:
        raise FormatError(f"these rows have no {name}", wrong[:5])
    yield from (Entry(prompt, []) for prompt in columns[name])


def _is_text(value: Any) -> bool:
    """A string that is not blank, and is text."""
    return isinstance(value, str) and not is_blank(value) and text_problem(value) is None


def _has_text(value: Any) -> bool:
    """A string that is not blank, or a list of strings of which one is not."""
    texts = value if isinstance(value, list) else [value]
    return all(is_blank(text) or _is_text(text) for text in texts) and any(map(_is_text, texts))
