"""Which metrics a task has, of which groups, and what is refused."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from lorakit.errors import ConfigError, MissingDependencyError
from lorakit.metrics import data_to_text, optional
from lorakit.metrics.caption import Segmented
from lorakit.metrics.data_to_text import lines, prepared, score

TEXTS = ["A pub by the river.", "Madrid-Barajas is an airport."]
REFERENCES = [["a pub by the river .", ""], ["Madrid-Barajas is an airport."]]
TRANSLATED = ["bleu", "meteor", "ter", "chrf++"]


@pytest.fixture
def meteor(monkeypatch):
    """METEOR without its half a minute: how many references there are."""

    @contextmanager
    def program():
        yield lambda texts, references: Segmented(float(sum(map(len, references))), [])

    monkeypatch.setattr(data_to_text, "_meteor", program)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("e2e", ["bleu", "nist", "nist_mteval", "meteor", "rouge_l", "cider"]),
        ("webnlg", TRANSLATED),
        ("dart", TRANSLATED),
        ("data_to_text", TRANSLATED),
    ],
)
def test_each_task_has_its_scorers_metrics(meteor, task, names):
    assert list(score(task, TEXTS, REFERENCES)) == names


def test_without_java_the_others_still_come(monkeypatch):
    monkeypatch.setenv("PATH", "")
    metrics = score("e2e", TEXTS, REFERENCES)
    assert list(metrics) == ["bleu", "nist", "nist_mteval", "rouge_l", "cider"]
    assert metrics["rouge_l"] == 1


def test_texts_of_webnlg_are_prepared_and_own_ones_are_not(meteor):
    assert score("webnlg", TEXTS, REFERENCES)["ter"] == 0
    assert score("data_to_text", TEXTS, REFERENCES)["ter"] > 0


def test_prepared_texts_stay_as_they_are(official):
    for text in official.lines("webnlg2017/ref0_all-cat")[::20]:
        assert prepared(text) == text


def test_seen_and_unseen_are_scored_apart(meteor):
    metrics = score("webnlg", ["a pub", "x"], [["a pub"], ["y"]], seen=[True, False])
    assert (metrics["ter"], metrics["ter_seen"], metrics["ter_unseen"]) == (1 / 3, 0, 1)
    metrics = score("webnlg", ["a pub", "x"], [["a pub"], ["y"]], seen=[True, None])
    assert "ter_seen" in metrics
    assert "ter_unseen" not in metrics


def test_with_more_than_six_references_the_first_six_are_scored_too(meteor):
    seventh = [["a", "b", "c", "d", "e", " ", "f", "x"], ["x"]]
    metrics = score("dart", ["x", "x"], seventh)
    assert metrics["ter"] == 0.0 < metrics["ter_six"]
    assert metrics["bleu_six"] == score("dart", ["x", "x"], [[*"abcdef"], ["x"]])["bleu"]
    assert "ter_six" not in score("dart", ["x"], [[*"abcdef"]])
    assert "ter_six" not in score("data_to_text", ["x", "x"], seventh)


@pytest.mark.parametrize("task", data_to_text.SUITES)
def test_the_order_of_texts_and_of_references_changes_nothing(meteor, task):
    texts = [*TEXTS, "An airport by the river in Spain.", ""]
    references = [*REFERENCES, ["A river.", "An airport by a river."], ["A pub.", "A cheap pub."]]
    turned = score(task, texts[::-1], [group[::-1] for group in references[::-1]])
    assert turned == pytest.approx(score(task, texts, references))


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        score("e2e", ["a"], [["a"], [" "], []], seen=[True])
    assert caught.value.problems == (
        "1 text, but references for 3 texts",
        "1 value of 'seen', but references for 3 texts",
        "no reference for 2 texts: 2, 3",
    )
    with pytest.raises(ConfigError, match="no references"):
        score("e2e", [], [])


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'webnlp' \(did you mean 'webnlg'\?\).*e2e, webnlg"):
        score("webnlp", ["a"], [["a"]])


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pycocoevalcap.*lorakit\[nlg\]"):
        data_to_text.check_task("e2e")


def test_the_table_has_a_column_for_each_group():
    metrics = {"bleu": 55.3, "chrf++": 0.5, "bleu_unseen": 46.7, "chrf++_unseen": 0.25}
    assert lines(metrics) == [
        "metric      all  unseen",
        "bleu    55.3000 46.7000",
        "chrf++   0.5000  0.2500",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_official_scores_from_texts_to_table(official):
    metrics = score("e2e", *official.e2e("TGEN"))
    metrics.pop("meteor", None)  # its own test holds it, where Java is
    assert {name: round(value, 4) for name, value in metrics.items()} == {
        "bleu": 0.6593,
        "nist": 8.5923,
        "nist_mteval": 8.6094,
        "rouge_l": 0.6850,
        "cider": 2.2338,
    }
