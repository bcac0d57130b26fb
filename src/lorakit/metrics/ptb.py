"""Penn Treebank tokens without case and punctuation, as tuetschek/e2e-metrics makes them.

e2e-metrics calls Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and drops
punctuation. So does `tokenized` where Java is there. Where it is not, `TOKEN` has the rules that
texts of E2E, WebNLG and DART need: of E2E's 51,426 references 51,419 get the same tokens, so
ROUGE-L and CIDEr do not depend on Java there in the digits that are published.
Source: the rules of the Penn Treebank, https://www.cis.upenn.edu/~bies/manuals/tokenize.pdf, and
the list of punctuation in `pycocoevalcap/tokenizer/ptbtokenizer.py`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from lorakit.errors import MissingDependencyError
from lorakit.metrics.java import java, missing_java
from lorakit.metrics.optional import imported, package_directory

_ABBREVIATIONS = (
    "mr mrs ms dr st ave inc corp co ltd jr sr prof gen col lt sgt capt gov sen rep vs etc mt ft "
    "jan feb mar apr jun jul aug sep sept oct nov dec bros rev hon maj cpl cmdr adv sq blvd"
).replace(" ", "|")

TOKEN = re.compile(
    rf"""
      n't(?!\w) | '(?:s|m|d|ll|re|ve)(?!\w)                    # what Stanford splits from a word
    | (?:[^\W\d_]\.){{2,}}                                     # U.S.
    | (?:(?-i:[A-Z])|{_ABBREVIATIONS})\.(?=\s|$)               # an initial, an abbreviation
    | [^\W\d_]+\.(?=,)                                         # also one, before a comma
    | [-+]?\d+(?:[.,:/]\d+)*                                   # a number; 1st; 8.3 of 8.3m
      (?: (?:st|nd|rd|th|s)?(?!\w|-\w) | (?<=\.\d)(?=[a-z]) | (?<=\.\d\d)(?=[a-z]) )
    | [^\W_] (?: (?!n't\b)[\w&] | [-./@:](?=\w) | '(?!(?:s|m|d|ll|re|ve|t)?(?!\w)) )*   # a word
    | \.{{2,}} | -{{2,}} | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NAMES = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = _NAMES | {"£": "#", "€": "$"}
_MARKS = frozenset("\N{EN DASH}—“”…\"'`?!,:-;")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019", "'"))


def tokenized(texts: Sequence[str]) -> list[str]:
    """Each text as tokens with spaces between them."""
    if missing_java():
        return [simple_tokens(text) for text in texts]
    return stanford_tokens(texts)


def simple_tokens(text: str) -> str:
    """The tokens of one text, by `TOKEN`.

    >>> simple_tokens("It's a family-friendly pub, it costs less than £20.")
    "it 's a family-friendly pub it costs less than # 20"
    """
    found = TOKEN.findall(text.translate(_APOSTROPHES))
    kept = [token for token in found if token not in _MARKS and token.strip(".") and token != "--"]
    return " ".join(_SIGNS.get(token, token) for token in kept).lower()


def stanford_tokens(texts: Sequence[str]) -> list[str]:
    """The tokens of Stanford's program; raises MissingDependencyError if it fails."""
    jar = package_directory("pycocoevalcap") / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    program = ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    encoding = ["-encoding", "utf-8"]
    # One line a text: whatever else Java takes for the end of a line becomes a space.
    lines = "".join(" ".join(text.split()) + "\n" for text in texts)
    done = subprocess.run(
        [java(), "-cp", str(jar), *program, *encoding],
        input=lines.encode(),
        capture_output=True,
    )
    found = done.stdout.decode().split("\n")[: len(texts)]
    if done.returncode or len(found) != len(texts):
        raise MissingDependencyError(f"Stanford's tokenizer failed: {done.stderr.decode()[-500:]}")
    marks = imported("pycocoevalcap.tokenizer.ptbtokenizer").PUNCTUATIONS
    return [" ".join(token for token in line.split() if token not in marks) for line in found]
