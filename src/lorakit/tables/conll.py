"""CoNLL columns: a word a line with its tag in the last column, an empty line between sentences.

    # id 12
    EU       NNP  B-ORG        cells between tabs, or between spaces
    rejects  VBZ  O
                               the table's rows are the sentences; `tokens` and `tags` are lists,
    -DOCSTART- -X- O           and so are the columns in between: column_2, column_3, ...

A first column that numbers the words of each sentence, as CoNLL-U's, is left out. `#` begins a
comment in front of a sentence, unless the line is as wide as others and ends in a tag of theirs:
then `#` is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from lorakit.errors import FormatError
from lorakit.text import plural

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2")
TOKENS, TAGS = "tokens", "tags"

_DOCUMENT = "-DOCSTART-"
_ENTITY = re.compile(r"O|[BILUES]-.+")
_SPACES = re.compile(r"[ \t]+")  # str.split splits at other characters, too, which may be words
_PARTS = re.compile(r"\d+[-.]\d+")  # CoNLL-U's numbers of contractions and of words left out
_SNIFFED = 200
"""Lines by which a text is told to be of columns."""

Columns = dict[str, list[list[str]]]


@dataclass(frozen=True)
class _Line:
    number: int
    cells: list[str]


_Sentence = list[_Line]


def is_tagged(text: Iterable[str]) -> bool:
    """Whether a text, by lines, has columns, of which the last has tags of entities.

    >>> is_tagged(["EU B-ORG", "rejects O", "", "Peter B-PER"]), is_tagged(["To be or not to be"])
    (True, False)
    """
    first = (line.rstrip("\r\n") for line in islice(text, _SNIFFED))
    lines = [*chain.from_iterable(_sentences("\n".join(first)))]
    tags = {line.cells[-1] for line in lines}
    return _are_even(lines) and tags > {"O"} and all(map(_ENTITY.fullmatch, tags))


def may_be_columns(text: str) -> bool:
    """Whether all lines have equally many words, two or more."""
    return _are_even(chain.from_iterable(_sentences(text)))


def parse_conll(text: str) -> Columns:
    """The sentences' columns; of a file of one column `tokens` alone.

    Raises FormatError that lists the lines with another number of columns than most.
    """
    sentences = _sentences(text)
    if not sentences:
        raise FormatError("it has no words")
    widths = [len(line.cells) for sentence in sentences for line in sentence]
    width = max(set(widths), key=widths.count)
    _require_even([line for sentence in sentences for line in sentence], width)
    names = [TOKENS, *(f"column_{i}" for i in range(2, width)), TAGS] if width > 1 else [TOKENS]
    counted = [[line for line in s if not _PARTS.fullmatch(line.cells[0])] for s in sentences]
    skipped = 1 if width > 2 and all(map(_are_numbered, counted)) else 0
    if skipped:
        sentences, names = counted, [TOKENS, *names[2:]]
    return {
        name: [[line.cells[i] for line in sentence] for sentence in sentences]
        for i, name in enumerate(names, start=skipped)
    }


def _sentences(text: str) -> list[_Sentence]:
    """The lines of words by sentences, without comments and marks of documents."""
    blocks = [*_blocks(text)]
    shapes = {_shape(line) for line in chain.from_iterable(blocks) if not _is_hash(line)}
    for block in blocks:
        while block and _is_hash(block[0]) and _shape(block[0]) not in shapes:
            del block[0]
    return [block for block in blocks if block]


def _blocks(text: str) -> Iterator[_Sentence]:
    """Lines that no empty line and no mark of a document parts."""
    block: _Sentence = []
    tabs = None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip(" \t\r")
        if not line or line.startswith(_DOCUMENT):
            yield block
            block = []
            continue
        if tabs is None and not line.startswith("#"):
            tabs = "\t" in line
        cells = line.split("\t") if tabs else _SPACES.split(line.lstrip(" \t"))
        block.append(_Line(number, [cell.strip(" ") for cell in cells]))
    yield block


def _is_hash(line: _Line) -> bool:
    return line.cells[0].startswith("#")


def _shape(line: _Line) -> tuple[int, str]:
    return len(line.cells), line.cells[-1]


def _are_even(lines: Iterable[_Line]) -> bool:
    widths = {len(line.cells) for line in lines}
    return len(widths) == 1 and widths != {1}


def _are_numbered(sentence: _Sentence) -> bool:
    return [line.cells[0] for line in sentence] == [str(i) for i in range(1, len(sentence) + 1)]


def _require_even(lines: Sequence[_Line], width: int) -> None:
    uneven = [line for line in lines if len(line.cells) != width]
    if not uneven:
        return
    found = [
        f"line {line.number} has {len(line.cells)}: {' '.join(line.cells)[:40]}"
        for line in uneven[:5]
    ]
    more = [f"and {len(uneven) - 5} more lines"] if len(uneven) > 5 else []
    raise FormatError(f"most of its lines have {plural(width, 'column')}", [*found, *more])
