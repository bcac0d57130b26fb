"""The tables of docs/reproduce/comparison.md, from the result files: no number is typed there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.comparison.claims import CLAIMS, answer
from benchmarks.comparison.keeping import Results
from benchmarks.report import source
from benchmarks.tables import markdown

PAGE = Path(__file__).parents[2] / "docs" / "reproduce" / "comparison.md"
SWEEPS = ("minilm", "smollm2", "minilm-rank", "minilm-weights")
LATENCY = "latency"
NAMES = (*SWEEPS, LATENCY)
SECTION_SEVEN = "section_seven"
_SHOWN = re.compile(r"effective|amplification|rank for|of dW$|phi\((1|8|64), 64\) of [AB]")
_BLOCK = re.compile(r"(<!-- begin: ([\w-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def filled(page: str, results: Results) -> str:
    """The page with the tables of these results between its marks."""
    texts = {name: _table(name, results.get(name)) for name in NAMES}
    texts["claims"] = claims_table(results)
    texts[SECTION_SEVEN] = _section_seven(results.get(SECTION_SEVEN))
    return _BLOCK.sub(lambda mark: f"{mark[1]}\n{texts[mark[2]]}\n\n{mark[3]}", page)


def claims_table(results: Results) -> str:
    """A row a claim: the difference of each pair, and the verdict."""
    rows = []
    for claim in CLAIMS:
        verdict, pairs = answer(claim, results.get(claim.result, {}).get("table"))
        said = "; ".join(f"{one} over {other} {text}" for (one, other), text in pairs.items())
        rows.append({"claim": claim.sentence, "points": said or "-", "verdict": f"**{verdict}**"})
    return markdown(rows)


def _table(name: str, result: Any | None) -> str:
    if result is None:
        return "Not measured yet."
    text = latency_table(result["table"]) if name == LATENCY else result["markdown"].strip()
    return f"{text}\n\n{source(result['provenance'])}"


def _section_seven(result: Any | None) -> str:
    """A row for a measure of one adapter or of two: query, value, and what chance gives."""
    if result is None:
        return "Not measured yet."
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for found in result["rows"]:
        if _SHOWN.search(found["measure"]):
            key = found["adapters"], found["measure"]
            row = rows.setdefault(key, dict(zip(("adapters", "measure"), key, strict=True)))
            row[found["matrices"]] = found["value"]
            row[f"{found['matrices']}, by chance"] = found["by chance"]
    return f"{markdown(list(rows.values()))}\n\n{source(result['provenance'])}"


def latency_table(table: Any) -> str:
    """A row a candidate, a column a batch and length: the slow-down in per cent, and quartiles."""
    rows: dict[str, dict[str, Any]] = {}
    for cell in table["cells"]:
        row = rows.setdefault(cell["candidate"], {"slow-down in %": cell["candidate"]})
        median, low, high = (
            100 * (cell["slowdown"][name] - 1) for name in ("median", "low", "high")
        )
        size = f"batch {cell['batch']}, length {cell['length']}"
        row[size] = f"{median:+.1f} ({low:+.1f} to {high:+.1f})"
        if cell["candidate"] == "base":
            row[size] = f"{cell['milliseconds']['median']:,.0f} ms"
    return markdown(list(rows.values()))
