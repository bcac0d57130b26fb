"""How data and a run are shown before training: sections of aligned lines, what is learned marked.

On a terminal with colours what is learned is coloured; elsewhere it stands in [[ ]].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lorakit.text import duration_text, plural, size_text, table

if TYPE_CHECKING:
    from lorakit.recipe.data_preview import DataPreview, Lengths
    from lorakit.tasks.pieces import Piece
    from lorakit.training.preview import Preview

_LEARNED = "bold green"
_BAR = 24
_MOST_CLASSES = 12
_MOST_LETTERS = 400
"""Of a piece of an example; the rest of its middle is left out."""


def print_preview(found: Preview) -> None:
    """Print what a run would do."""
    console = _console()
    _print_data(console, found.data)
    _section(console, "What trains", found.report.splitlines(), is_table=True)
    _section(console, "Training", _training(found))
    console.print("\nNothing was written; the same command without --dry-run trains.")


def print_data(found: DataPreview) -> None:
    """Print what a file of data holds."""
    _print_data(_console(), found)


def _console() -> Console:
    return Console(highlight=False, emoji=False, markup=False)


def _print_data(console: Console, found: DataPreview) -> None:
    _section(console, "Data", _facts(found))
    _section(console, "Notes", found.notes)
    _print_examples(console, found)
    if found.classes:
        _section(console, "Classes", _classes(found.classes), is_table=True)
    if found.numbers:
        _section(console, "Labels", [", ".join(f"{n} {v:g}" for n, v in found.numbers.items())])
    _section(console, f"Lengths in {found.lengths.unit}", _lengths(found.lengths), is_table=True)


def _section(console: Console, title: str, lines: Iterable[str], is_table: bool = False) -> None:
    """A title and its lines; a table keeps its lines where the terminal is narrower."""
    if lines := list(lines):
        console.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            _print(console, Text(line), is_table)


def _print(console: Console, text: Text, is_table: bool = False) -> None:
    """A line, indented, and folded where the terminal ends."""
    if console.is_terminal and not is_table:
        console.print(Padding(text, (0, 0, 0, 2)))
        return
    for line in text.split(allow_blank=True):
        console.print(Text("  ") + line, soft_wrap=True)


def _facts(found: DataPreview) -> list[str]:
    facts = {
        "source": f"{found.source} ({found.read_as})",
        "rows": _rows(found.rows),
        "task": found.task,
        "text": ", ".join(found.text),
        "label": found.label,
        "not read" if found.task else "columns": ", ".join(found.unread),
    }
    facts = {name: value for name, value in facts.items() if value}
    width = max(map(len, facts))
    return [f"{name.ljust(width)}  {value}" for name, value in facts.items()]


def _rows(counts: Mapping[str, int]) -> str:
    """The rows of each table; of an only one without its name."""
    parts = (
        f"{count:,} {name}" if len(counts) > 1 else f"{count:,}" for name, count in counts.items()
    )
    return ", ".join(parts)


def _print_examples(console: Console, found: DataPreview) -> None:
    coloured = console.is_terminal and not console.no_color
    marked = "coloured" if coloured else "in [[ ]]"
    console.print(Text(f"\nFirst examples, what is learned {marked}", style="bold"))
    for number, pieces in enumerate(found.examples, start=1):
        text = Text.assemble(f"{number}  ", *(_piece(piece, coloured) for piece in pieces))
        _print(console, text)


def _piece(piece: Piece, coloured: bool) -> Text:
    text = _shortened(piece.text).replace("\n", "\n   ")
    if not piece.learned:
        return Text(text)
    return Text(text, style=_LEARNED) if coloured else Text(f"[[{text}]]")


def _shortened(text: str) -> str:
    half = _MOST_LETTERS // 2
    left_out = len(text) - 2 * half
    return text if left_out <= 0 else f"{text[:half]} ... ({left_out:,} letters) ... {text[-half:]}"


def _classes(counts: Mapping[str, int]) -> list[str]:
    shown = sorted(counts, key=lambda name: -counts[name])[:_MOST_CLASSES]
    names = [name for name in counts if name in shown]
    lines = _bars([(name, counts[name]) for name in names], sum(counts.values()))
    rest = [count for name, count in counts.items() if name not in shown]
    if rest:
        lines.append(f"and {len(rest):,} more, each {min(rest):,} to {max(rest):,} times")
    return lines


def _lengths(sizes: Lengths) -> list[str]:
    bins = [
        (f"{least:,}" if least == most else f"{least:,}-{most:,}", count)
        for least, most, count in sizes.histogram
    ]
    return [
        f"{plural(sizes.examples, 'example')}, {sizes.least:,} to {sizes.most:,}, "
        f"median {sizes.median:,}, 95% have at most {sizes.most_of_95_percent:,}",
        *_bars(bins, sizes.examples),
    ]


def _bars(counts: Sequence[tuple[str, int]], whole: int) -> list[str]:
    """A line for each count, with its share and a bar."""
    most = max(1, *(count for _, count in counts))
    return table(
        (name, f"{n:,}", f"{n / whole:6.1%}", "#" * round(_BAR * n / most)) for name, n in counts
    )


def _training(found: Preview) -> list[str]:
    measured = found.measured
    steps = plural(len(measured.step_seconds), "step")
    one = found.training_seconds / found.steps
    return [
        f"steps   {found.steps:,} of {found.total_batch:,} examples, {found.steps_per_epoch:,} an "
        f"epoch: {found.epochs:g} epoch{'' if found.epochs == 1 else 's'}",
        f"time    {duration_text(one)} a step, measured on {steps} ({measured.device}, "
        f"{found.dtype}); about {duration_text(found.training_seconds)} for all, without "
        "evaluation",
        f"memory  {size_text(measured.peak_memory_bytes)} at most for the {measured.memory_of}, "
        "measured over these steps",
    ]
