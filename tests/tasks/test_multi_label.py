"""Several labels at once: how cells are read, decided and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoModelForSequenceClassification, BertConfig

from lorakit.errors import ConfigError
from lorakit.losses import LOSSES
from lorakit.recipe.schema import from_mapping
from lorakit.tables.reading import read_table
from lorakit.tasks import MultiLabelClassification
from lorakit.tasks.base import BareAdapter
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.encoding import encode_table
from lorakit.tasks.registry import TASKS
from lorakit.tasks.spec import Columns
from lorakit.tasks.task_file import load_task, save_task
from tests.training import tiny

NAME = "multi_label_classification"
NAMES = [["joy", "fear"], [], ["fear"], ["joy"]]
BITS = [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]


def table(labels: list[Any], column: str = "labels") -> Any:
    return Dataset.from_dict({"text": [f"row {i}" for i in range(len(labels))], column: labels})


def made(labels: list[Any]) -> Any:
    rows = table(labels)
    return make_task(rows, resolve(rows, Columns()), 16)


@pytest.mark.parametrize(
    ("labels", "names", "indicators", "first"),
    [
        (NAMES, ("fear", "joy"), False, [1, 1]),
        (BITS, ("0", "1", "2"), True, [0, 1, 1]),
        ([[True, False], [False, False]], ("0", "1"), True, [1, 0]),
        ([[1.0, 0.0], [0.0, 1.0]], ("0", "1"), True, [1, 0]),
        (["[0, 1]", "[1, 1]"], ("0", "1"), True, [0, 1]),
        (['["b", "a"]', "[]"], ("a", "b"), False, [1, 1]),
        ([[3, 20], [20]], ("3", "20"), False, [1, 1]),
        ([["0"], ["1"], ["0", "1"]], ("0", "1"), False, [1, 0]),
        ([[0, 1], [1, 2]], ("0", "1", "2"), False, [1, 1, 0]),
    ],
)
def test_lists_of_names_and_of_0_and_1_are_guessed(labels, names, indicators, first) -> None:
    task = made(labels)
    assert isinstance(task, MultiLabelClassification)
    assert (task.labels, task.indicators) == (names, indicators)
    assert task.target(labels[0]) == first


@pytest.mark.parametrize("column", ["labels", "kinds"])
@pytest.mark.parametrize("labels", [NAMES, BITS])
def test_targets_are_floats_under_any_name_of_the_column(labels, column) -> None:
    rows = table(labels, column)
    task = make_task(rows, resolve(rows, Columns(label=column)), 16)
    encoded, _ = encode_table(task, tiny.tokenizer(), rows)
    batch = task.collate(tiny.tokenizer(), [dict(example) for example in encoded])
    assert batch["labels"].dtype is torch.float32
    assert batch["labels"].tolist() == [task.target(cell) for cell in labels]


def test_numbered_classes_in_lists_are_read_by_their_names(tmp_path) -> None:
    features = Features(text=Value("string"), labels=List(ClassLabel(names=["joy", "fear"])))
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "labels": [[0, 1], [1], []]}, features)
    rows.save_to_disk(tmp_path / "saved")
    read = read_table(str(tmp_path / "saved"))
    assert read["labels"][:] == [["joy", "fear"], ["fear"], []]
    assert resolve(read, Columns()) == Columns(NAME, ("text",), "labels")


def test_the_loss_is_transformers_binary_cross_entropy() -> None:
    task = made(BITS)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, **task.head(),
    )  # fmt: skip
    assert config.problem_type == NAME
    model = AutoModelForSequenceClassification.from_config(config).eval()
    labels = torch.tensor([task.target(cell) for cell in BITS])
    output = model(torch.arange(8).view(4, 2), labels=labels)
    p = output.logits.sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(output.loss, expected)


def test_predictions_have_the_form_of_the_labels_and_follow_the_thresholds() -> None:
    logits = torch.tensor([[2.0, -2.0, 0.1], [-1.0, -1.0, -1.0]])  # p: 0.88, 0.12, 0.52 and 0.27
    task = made(BITS)
    assert task.predictions(logits) == [[1, 0, 1], [0, 0, 0]]
    assert task.with_thresholds([0.2]).predictions(logits) == [[1, 0, 1], [1, 1, 1]]
    each = task.with_thresholds([0.9, 0.1, 0.2])
    assert each.predictions(logits) == [[0, 1, 1], [0, 1, 1]]
    assert each.score(logits, torch.tensor([[0.0, 1, 1], [0, 0, 1]]))["f1_micro"] == 6 / 7
    named = MultiLabelClassification(("text",), "labels", 8, ("a", "b", "c"))
    assert named.predictions(logits) == [["a", "c"], []]


@pytest.mark.parametrize("thresholds", [[0.5, 0.5], [0.0], [1.5], [float("nan")], []])
def test_thresholds_that_cannot_be_used_are_refused(thresholds) -> None:
    with pytest.raises(ConfigError, match=r"one for all labels, or one for each \(3 labels\)"):
        made(BITS).with_thresholds(thresholds)


def test_a_task_without_thresholds_says_so() -> None:
    with pytest.raises(ConfigError, match="classification has no thresholds; leave them out"):
        made(["a", "b"]).with_thresholds([0.5])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [1]], r"one 0 or 1, which may say .* or be the number of one of two labels"),
        ([[0, 1], [1, 0], [0, 1, 1]], r"equally long: row 3, where most .* numbers of labels"),
        ([[0, 1, 1], [1, 0], [0, 1, 0]], r"row 2, where most have 3 values\. .* are damaged"),
        (["[0, 1]", "[1, 0]", "[]"], r"equally long: row 3, where most have 2 values"),
        ([[0], [1], [0, 1]], r"equally long: row 3, .* or write the numbers as names"),
        ([["a", "b"], ["a", "a"]], r"has 'a' more than once in \['a', 'a'\]: row 2"),
        ([[3, 20], [20, 20]], r"has '20' more than once in \[.*\]: row 2"),
        ([[], []], "has no labels; it needs lists of names, or lists of 0 and 1"),
        ([["a", None], ["b"]], r"has None in a list of labels: row 1"),
        ([[["a"]], [["b"]]], r"in a list of labels: row 1"),
        (['["a"]', None], "'labels' is empty: row 2"),
        (['["a"]', "b"], "'b', which is not a list of labels; write a list"),
    ],
)
def test_lists_that_cannot_be_learned_are_refused(labels, message) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(table(labels), Columns(NAME))


def test_lists_are_no_classes_and_the_task_for_them_is_named() -> None:
    with pytest.raises(ConfigError, match=f"lists of labels; .* the task {NAME}"):
        resolve(table(BITS), Columns("classification"))
    with pytest.raises(ConfigError, match=f"has a list of labels; .* the task {NAME}: row 1"):
        made(["a", "b"]).check(table([["a"]]))


@pytest.mark.parametrize(
    ("train", "cell", "message"),
    [
        (NAMES, ["joy", "anger"], r"the label 'anger', which is not in the training data"),
        (BITS, [0, 1], "training had 3 labels, each 0 or 1"),
        (BITS, [0, 1, 2], "training had 3 labels, each 0 or 1"),
        (BITS, ["1"], "training had 3 labels, each 0 or 1"),
    ],
)
def test_labels_that_training_did_not_have_are_refused(train, cell, message) -> None:
    with pytest.raises(ConfigError, match=message):
        made(train).check(table([cell]))


def test_labels_that_only_the_other_part_has_are_found() -> None:
    unseen = MultiLabelClassification.unseen_labels
    assert unseen(NAMES, [["joy"], ["b", "a"], []]) == {1: "a, b"}
    assert unseen([[1, 0, 0], [1, 1, 0]], [[0, 0, 1], [1, 1, 0]]) == {0: "2"}


def test_the_task_travels_in_its_file(tmp_path) -> None:
    task = made(BITS).with_thresholds([0.25])
    save_task(task, tmp_path)
    assert load_task(tmp_path) == task


def test_an_adapter_alone_gets_its_labels_by_number() -> None:
    task = TASKS[NAME].for_adapter(BareAdapter(("text",), None, 8, head_height=2))
    assert (task.labels, task.thresholds) == (("0", "1"), (0.5,))


def test_losses_of_one_class_are_refused() -> None:
    problem = str(LOSSES["rdrop"].problem_with(MultiLabelClassification, NAME))
    assert "of one class or number, and the task multi_label_classification has none" in problem
    recipe = {"base": "b", "output": "o", "data": {"train": "t.csv", "task": NAME}}
    assert from_mapping({**recipe, "data": {**recipe["data"], "thresholds": 0.3}}).data.thresholds
    with pytest.raises(ConfigError, match="learns a set of labels; leave it out"):
        from_mapping({**recipe, "training": {"label_smoothing": 0.1}})
