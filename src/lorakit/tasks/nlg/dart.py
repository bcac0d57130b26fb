"""DART 1.1.1 (Nan et al., arXiv 2007.02871): triples from tables and other corpora become a text.

JSON with `tripleset` and `annotations`, or XML of WebNLG's form; of its lexicalisations every one
counts, since their comment names a source. Relations are written in lower case, as microsoft/LoRA
does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from lorakit.errors import FormatError
from lorakit.tasks.nlg.inputs import Entry, triples_text
from lorakit.tasks.nlg.webnlg import xml_entries, xml_triples


def parse_json(text: str) -> Iterator[Entry]:
    """The entries of the JSON file."""
    try:
        for entry in json.loads(text):
            texts = [annotation["text"] for annotation in entry.get("annotations", [])]
            yield _entry(entry["tripleset"], texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"it is not DART's JSON ({error!r})") from error


def parse_xml(text: str) -> Iterator[Entry]:
    """The entries of the XML file."""
    for element in xml_entries(text):
        yield _entry(xml_triples(element), [lex.text or "" for lex in element.iter("lex")])


def _entry(triples: Sequence[Sequence[str]], references: Sequence[str]) -> Entry:
    return Entry(triples_text((s, relation.lower(), o) for s, relation, o in triples), references)
