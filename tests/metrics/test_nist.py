"""NIST against both tools' official scores, and against its definition on small texts."""

from __future__ import annotations

import math

import pytest

from lorakit.metrics.nist import nist, nist_mteval


@pytest.mark.parametrize(
    ("system", "port", "mteval"), [("TGEN", 8.5923, 8.6094), ("SLUG", 8.5824, 8.6130)]
)
def test_both_tools_scores_of_real_systems(official, system, port, mteval):
    texts, references = official.e2e(system)
    assert round(nist(texts, references), 4) == port
    assert round(nist_mteval(texts, references), 4) == mteval


def test_mtevals_score_on_the_dev_set(official):
    assert round(nist_mteval(*official.e2e("UKP_seed1_epoch16")), 4) == 8.5236


def test_the_definition_on_one_text():
    # Four different words: a word says log2(4), and what follows a word is certain.
    assert nist(["a b c d"], [["a b c d"]]) == pytest.approx(math.log2(4))


def test_two_thirds_of_the_length_cost_half():
    assert nist(["a b"], [["a b c"]]) == pytest.approx(math.log2(3) / 2)


def test_the_tools_differ_in_the_average_length_of_references():
    texts, references = ["a b c", "d"], [["a b c e"], ["d", "d", "d"]]
    lengths = {nist: 4 + 1, nist_mteval: 2 * (4 + 3) / 4}
    scores = {tool: tool(texts, references) for tool in lengths}
    penalty = math.exp(math.log(0.5) * (math.log(4 / lengths[nist]) / math.log(1.5)) ** 2)
    assert scores[nist] == pytest.approx(scores[nist_mteval] * penalty)


@pytest.mark.parametrize("tool", [nist, nist_mteval])
def test_edges(tool):
    assert tool([""], [["a b"]]) == 0
    assert tool(["x"], [["a b"]]) == 0
    assert tool(["a b"], [["a b", "", " "]]) == tool(["a b"], [["a b"]]) > 0
