"""Predictions as they are printed: a line a text, or where they were written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorakit.cli.output import show
from lorakit.text import table

if TYPE_CHECKING:
    from lorakit.inference.prediction import Predictions

Names = Sequence[str | None]


def print_predictions(
    about: dict[str, Any],
    output: Path | None,
    texts: Sequence[str],
    found: Predictions,
    as_json: bool,
    names: Names | None = None,
) -> None:
    """Print what was predicted for `texts`, or how many rows are in `output`.

    `about` is what --json says of the adapters; `names` are those of the texts, where there are
    several.
    """
    if as_json:
        content = {**about, "rows": len(found.values), "truncated_rows": found.truncated_rows}
        content |= {"output": str(output)} if output else {}
        show(content | (_content(texts, found, names) if texts else {}), as_json)
        return
    from lorakit.inference.prediction import truncation

    if texts:
        print(*_lines(texts, found, names), sep="\n")
    if output is not None:
        print(f"{output}: {len(found.values):,} rows with their predictions")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")


def _content(texts: Sequence[str], found: Predictions, names: Names | None) -> dict[str, Any]:
    probabilities = found.probabilities
    if names is None:
        more = {"probabilities": probabilities} if probabilities else {}
        return {"predictions": found.values, **more}
    rows = zip(names, texts, found.values, strict=True)
    each = [{"adapter": name, "text": text, "prediction": value} for name, text, value in rows]
    if probabilities is not None:
        pairs = zip(each, probabilities, strict=True)
        each = [{**row, "probabilities": own} for row, own in pairs]
    return {"predictions": each}


def _lines(texts: Sequence[str], found: Predictions, names: Names | None) -> list[str]:
    """The texts after what was predicted, in columns, with titles if there are several."""
    shown = list(map(_shown, found.values))
    if found.probabilities is None and names is None:
        width = max(map(len, shown))
        return [f"{value.ljust(width)}  {text}" for value, text in zip(shown, texts, strict=True)]
    columns = {} if names is None else {"adapter": list(map(str, names))}
    columns["prediction"] = shown
    answers = dict.fromkeys(answer for row in found.probabilities or () for answer in row)
    rows = [
        [*(cells[i] for cells in columns.values()), *_probabilities(found, i, answers), text]
        for i, text in enumerate(texts)
    ]
    return table([[*columns, *answers, "text"], *rows])


def _probabilities(found: Predictions, row: int, answers: Iterable[str]) -> list[str]:
    """Those of a row; nothing for the answers of other adapters."""
    own = found.probabilities[row] if found.probabilities is not None else {}
    return [f"{own[answer]:.4f}" if answer in own else "" for answer in answers]


def _shown(value: Any) -> str:
    """A prediction for people; a list of labels, or of entities, without brackets."""
    return ", ".join(map(_part, value)) or "-" if isinstance(value, list) else str(value)


def _part(value: Any) -> str:
    return f"{value['text']} ({value['type']})" if isinstance(value, dict) else str(value)
