"""WebNLG 2017 (Gardent et al., P17-1017) and 2020: triples from DBpedia become a text.

Three kinds of files: the challenge's XML, its JSON, and JSON lines with `triples` and `lexs`. Only
lexicalisations whose comment is "good" or empty (2020's test set) are references, and an entry that
has others alone is left out, as in microsoft/LoRA; JSON lines have no comments. Categories that the
training set of 2017 has are seen, the test set's others are unseen; scores are given for both and
all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from lorakit.errors import FormatError
from lorakit.tables.json_rows import parse_json_lines
from lorakit.tasks.nlg.inputs import Entry, split_triple, triples_text

SEEN_CATEGORIES = frozenset(
    ("Airport", "Astronaut", "Building", "City", "ComicsCharacter", "Food", "Monument",
     "SportsTeam", "University", "WrittenWork")
)  # fmt: skip
_GOOD = ("good", "")  # the others: "toFix"


def parse_xml(text: str) -> Iterator[Entry]:
    """The entries of the challenge's XML."""
    for element in xml_entries(text):
        lexes = [*element.iter("lex")]
        good = _good((lex.get("comment"), lex.get("lang"), lex.text or "") for lex in lexes)
        if good or not lexes:
            yield _entry(xml_triples(element), good, element.get("category"))


def parse_json(text: str) -> Iterator[Entry]:
    """The entries of the challenge's JSON: `{"entries": [{"1": {...}}, {"2": {...}}]}`."""
    try:
        content = json.loads(text)
        entries = [entry for numbered in content["entries"] for entry in numbered.values()]
        for entry in entries:
            triples = [
                [part[name] for name in ("subject", "property", "object")]
                for part in entry["modifiedtripleset"]
            ]
            lexes = entry.get("lexicalisations", [])
            good = _good((lex.get("comment"), lex.get("lang"), lex["lex"]) for lex in lexes)
            if good or not lexes:
                yield _entry(triples, good, entry.get("category"))
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"it is not WebNLG's JSON ({error!r})") from error


def parse_lines(text: str) -> Iterator[Entry]:
    """The entries of JSON lines: `triples` as texts, `lexs`, `category` and, in a test set, `seen`.

    Raises FormatError for rows without triples, and for lexicalisations that are not a list.
    """
    columns = parse_json_lines(text)
    problems = [
        f"line {row}: {name} is not a list"
        for name in ("triples", "lexs")
        for row, value in enumerate(columns.get(name, [None] if name == "triples" else []), start=1)
        if not isinstance(value, list)
    ]
    problems += [
        f"line {row}: seen is neither true nor false"
        for row, value in enumerate(columns.get("seen", []), start=1)
        if not isinstance(value, bool | None)
    ]
    if problems:
        raise FormatError("it is not WebNLG as JSON lines", problems[:5])
    for values in zip(*columns.values(), strict=True):
        row: Mapping[str, Any] = dict(zip(columns, values, strict=True))
        triples = [split_triple(triple) for triple in row["triples"]]
        yield _entry(triples, row.get("lexs", []), row.get("category"), row.get("seen"))


def xml_entries(text: str) -> Iterator[ElementTree.Element]:
    """The elements `entry` of a benchmark file; raises FormatError for broken XML."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise FormatError(f"it is not XML: {error}") from error
    return root.iter("entry")


def xml_triples(element: ElementTree.Element) -> list[list[str]]:
    """The modified triples of an entry."""
    return [split_triple(triple.text or "") for triple in element.iter("mtriple")]


def _good(lexes: Iterable[tuple[str | None, str | None, str]]) -> list[str]:
    """The texts of (comment, language, text) that count; FormatError for several languages."""
    good = [(language, text) for comment, language, text in lexes if (comment or "") in _GOOD]
    if len(languages := sorted({str(language) for language, _ in good})) > 1:
        raise FormatError(
            f"an entry has texts in {' and '.join(languages)}; keep those of one language"
        )
    return [text for _, text in good]


def _entry(
    triples: list[list[str]], good: list[str], category: str | None, seen: bool | None = None
) -> Entry:
    if seen is None and category is not None:
        seen = category in SEEN_CATEGORIES
    return Entry(triples_text(triples), good, category, seen)
