"""BLEU against the official scores of real systems, and at the edges."""

from __future__ import annotations

import sys

import pytest

from lorakit.errors import MissingDependencyError
from lorakit.metrics.bleu import mteval_bleu, multi_bleu, multi_bleu_detok
from lorakit.tasks.nlg.corpora import read_entries
from lorakit.tasks.nlg.inputs import REFERENCES, table_of


@pytest.mark.parametrize(
    ("system", "published"), [("TGEN", 0.6593), ("SLUG", 0.6619), ("UKP_seed1_epoch16", 0.7109)]
)
def test_mteval_bleu_is_what_the_e2e_scorer_gives(official, system, published):
    assert round(mteval_bleu(*official.e2e(system)), 4) == published


def test_multi_bleu_is_what_the_script_gives_for_webnlg_2017(official):
    names = [f"ref{i}_all-cat" for i in range(3)]
    texts, references = official.files("webnlg2017", "hyp_bart-large_all-cat", names)
    assert round(multi_bleu(texts, references), 2) == 58.06


@pytest.mark.parametrize(("count", "published"), [(1, 25.82), (2, 35.79), (3, 41.56), (4, 51.32)])
def test_multi_bleu_detok_counts_a_blank_reference_as_one_of_length_0(official, count, published):
    names = [f"reference{i}" for i in range(count)]
    texts, references = official.files("webnlg2020", "hypothesis", names)
    assert round(multi_bleu_detok(texts, references), 2) == published


def test_tokenized_references_of_e2e_are_other_texts(official, shared):
    texts, _ = official.e2e("TGEN")
    names = ("testset_w_refs.csv.gz", "lora_format/test.txt.gz")
    files = [read_entries(shared / "data/e2e_nlg" / name, "e2e") for name in names]
    pairs = zip(*([entry.references[0].strip() for entry in file] for file in files), strict=True)
    assert sum(ours == theirs for ours, theirs in pairs) == 139
    scores = [mteval_bleu(texts, table_of(entries)[REFERENCES]) for entries in files]
    assert [round(score, 4) for score in scores] == [0.6593, 0.6350]


@pytest.mark.parametrize("bleu", [mteval_bleu, multi_bleu, multi_bleu_detok])
def test_empty_texts_score_0(bleu):
    assert bleu(["", ""], [["a pub by the river"], ["a pub by the river"]]) == 0.0


@pytest.mark.parametrize("bleu", [mteval_bleu, multi_bleu, multi_bleu_detok])
def test_nothing_is_smoothed(bleu):
    assert bleu(["a b c"], [["a b c"]]) == 0.0  # no n-gram of length 4


def test_a_blank_reference_changes_mteval_bleu_in_nothing():
    texts, group = ["a pub by the river"], ["a cheap pub by the river in town", "a pub by the bank"]
    assert mteval_bleu(texts, [[*group, "", " "]]) == mteval_bleu(texts, [group]) > 0


def test_case_counts_in_detok_only():
    texts, references = ["A PUB BY THE RIVER"], [["a pub by the river"]]
    assert mteval_bleu(texts, references) == pytest.approx(1)
    assert multi_bleu(texts, references) == pytest.approx(100)
    assert multi_bleu_detok(texts, references) == 0


def test_without_sacrebleu_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingDependencyError, match=r"sacrebleu.*lorakit\[nlg\]"):
        multi_bleu(["a"], [["a"]])
