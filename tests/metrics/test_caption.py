"""ROUGE-L and CIDEr against the official scores of systems on E2E, of TGEN's also text by text."""

from __future__ import annotations

import pytest

from lorakit.metrics.caption import cider, rouge_l
from lorakit.metrics.ptb import simple_tokens


@pytest.mark.parametrize(
    ("metric", "name", "published"), [(rouge_l, "rouge_l", 0.6850), (cider, "cider", 2.2338)]
)
def test_official_scores_of_all_and_of_each_text(official, metric, name, published):
    rows = official.segments()
    found = metric([row["hyp_ptb"] for row in rows], [row["refs_ptb"] for row in rows])
    assert round(found.score, 4) == published
    assert found.segments == pytest.approx([row[name] for row in rows], abs=5.1e-7)


@pytest.mark.parametrize(
    ("system", "rouge", "consensus"),
    [("SLUG", 0.6772, 2.2615), ("UKP_seed1_epoch16", 0.7404, 2.4766)],
)
def test_official_scores_of_other_systems(official, system, rouge, consensus):
    predictions, references = official.e2e(system)
    texts = [simple_tokens(text) for text in predictions]
    groups = [[simple_tokens(text) for text in group] for group in references]
    assert round(rouge_l(texts, groups).score, 4) == rouge
    assert round(cider(texts, groups).score, 4) == consensus


def test_edges_of_rouge_l():
    assert rouge_l([""], [["a pub"]]).score == 0
    assert rouge_l(["a pub", "x"], [["a pub"], ["y"]]).segments == [1, 0]


def test_edges_of_cider():
    assert cider([""], [["a pub"]]).score == 0
    assert cider(["a pub"], [["", ""]]).score == 0
    assert cider(["a pub"], [["a pub"]]).score == 0  # no other text: every word is everywhere
    assert cider(["a b c d", "e"], [["a b c d"], ["f"]]).segments == pytest.approx([10, 0])
