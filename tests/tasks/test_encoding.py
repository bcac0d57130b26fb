"""Examples are those of transformers: ids, masks, padding and labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding
from transformers.loss.loss_utils import ForCausalLMLoss

from lorakit.errors import ConfigError
from lorakit.tables.cells import label_names
from lorakit.tasks.base import TRUNCATED, Task
from lorakit.tasks.classification import Classification
from lorakit.tasks.encoding import Truncation, encode_table
from lorakit.tasks.generation import IGNORED, Generation
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.regression import Regression

TEXTS = ["A fine film.", "Dull, " * 20, "so so", ""]
OTHERS = ["yes", "It was very dull. " * 5, "no no no", "x"]
LABELS = ["neg", "pos", "neg", "pos"]


def examples_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def assert_batches_equal(task: Task, tokenizer: Any, columns: Any, expected: Any) -> None:
    """The task's own batch holds the same tensors under the same names."""
    batch = task.collate(tokenizer, examples_of(columns))
    assert set(batch) == set(expected)
    for name, tensor in expected.items():
        assert batch[name].dtype == tensor.dtype, name
        assert torch.equal(batch[name], tensor), name


@pytest.mark.parametrize("text", [("a",), ("a", "b")], ids=["one", "pair"])
@pytest.mark.parametrize("max_length", [12, 512])
def test_classification_encodes_as_transformers(
    bert: Any, text: tuple[str, ...], max_length: int
) -> None:
    rows = {"a": TEXTS, "b": OTHERS, "label": LABELS}
    task = Classification(text, "label", max_length, ("neg", "pos"))
    columns = task.encode(bert, rows)
    sources = [rows[name] for name in text]
    plain = bert(*sources, truncation=True, max_length=max_length)
    assert {name: columns[name] for name in plain} == dict(plain)
    lengths = [len(ids) for ids in bert(*sources, verbose=False)["input_ids"]]
    assert columns[TRUNCATED] == [max(0, length - max_length) for length in lengths]
    features = [
        {**{k: plain[k][i] for k in plain}, "labels": [0, 1, 0, 1][i]} for i in range(len(TEXTS))
    ]
    expected = DataCollatorWithPadding(bert)(features)
    assert_batches_equal(task, bert, columns, expected)


def test_a_text_that_just_fits_is_not_cut(bert: Any) -> None:
    length = len(bert(TEXTS[0])["input_ids"])
    task = Classification(("a",), None, length, ("0", "1"))
    assert task.encode(bert, {"a": TEXTS[:1]})[TRUNCATED] == [0]
    shorter = Classification(("a",), None, length - 1, ("0", "1"))
    assert shorter.encode(bert, {"a": TEXTS[:1]})[TRUNCATED] == [1]


def test_a_limit_without_room_for_text_is_refused(bert: Any) -> None:
    with pytest.raises(ConfigError, match="the tokenizer adds 2 special tokens"):
        Classification(("a",), None, 2, ("0", "1")).encode(bert, {"a": TEXTS})


@pytest.mark.parametrize("train", [[0, 1, 0], ["0", "1", "1"], [0.0, 1.0, 1.0]])
@pytest.mark.parametrize("test", [["0", "1"], [0, 1], [0.0, 1.0], ["0.0", " 1 "]])
def test_labels_are_the_same_in_all_kinds_of_files(train: list[Any], test: list[Any]) -> None:
    task = Classification(("a",), "label", 8, label_names(train))
    assert [task.target(value) for value in test] == [0, 1]


@pytest.mark.parametrize("test", [["false", "TRUE"], [False, True], ["False", "True"]])
def test_booleans_are_labels_of_either_spelling(test: list[Any]) -> None:
    task = Classification(("a",), "label", 8, label_names([True, False]))
    assert [task.target(value) for value in test] == [0, 1]


def test_regression_gives_floats(bert: Any) -> None:
    task = Regression(("a",), "label", 16)
    columns = task.encode(bert, {"a": TEXTS[:3], "label": ["1", 2.5, "-3e-1"]})
    batch = task.collate(bert, examples_of(columns))
    assert torch.equal(batch["labels"], torch.tensor([1.0, 2.5, -0.3]))


def test_multiple_choice_pads_over_all_choices(bert: Any) -> None:
    rows = {
        "q": ["What?", "Who is it?"],
        "x": ["a", "b b"],
        "y": ["c " * 9, "d"],
        "label": [1, "x"],
    }
    task = MultipleChoice(("q", "x", "y"), "label", 10)
    columns = task.encode(bert, rows)
    flat = bert(
        ["What?", "What?", "Who is it?", "Who is it?"],
        ["a", "c " * 9, "b b", "d"],
        truncation=True,
        max_length=10,
        padding=True,
        return_tensors="pt",
    )
    expected = {name: tensor.view(2, 2, -1) for name, tensor in flat.items()}
    expected["labels"] = torch.tensor([1, 0])
    assert_batches_equal(task, bert, columns, expected)
    assert columns[TRUNCATED] == [4, 0]


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("the user asks", "the assistant", "the user asks the assistant"),
        ("the user:\n", "asks", "the user:\nasks"),
        ("the user", "\nasks", "the user\nasks"),
        ("", "the user", "the user"),
    ],
)
def test_generation_learns_the_completion_as_it_stands(
    gpt: Any, prompt: str, completion: str, text: str
) -> None:
    task = Generation(("p",), "c", 64)
    columns = task.encode(gpt, {"p": [prompt], "c": [completion]})
    ids, start = gpt(text)["input_ids"] + [gpt.eos_token_id], len(gpt(prompt)["input_ids"])
    assert columns["input_ids"] == [ids]
    assert columns["attention_mask"] == [[1] * len(ids)]
    assert columns["labels"] == [[IGNORED] * start + ids[start:]]


def test_a_prompt_keeps_its_tokens_where_the_completion_would_join_them(gpt: Any) -> None:
    prompt, completion = "a\n", "\n b"
    alone = gpt(prompt)["input_ids"]
    assert gpt(prompt + completion)["input_ids"][: len(alone)] != alone
    columns = Generation(("p",), "c", 64).encode(gpt, {"p": [prompt], "c": [completion]})
    assert columns["input_ids"] == [alone + gpt(completion)["input_ids"] + [gpt.eos_token_id]]


def test_a_prompt_does_not_end_where_the_tokenizer_ends_texts(bert: Any) -> None:
    bert.eos_token = bert.sep_token
    columns = Generation(("p",), "c", 64).encode(bert, {"p": ["a film"], "c": ["is fine"]})
    assert columns["input_ids"] == [bert("a film is fine")["input_ids"]]


def test_generation_batches_equal_transformers(gpt: Any) -> None:
    task = Generation(("p",), "c", 64)
    columns = task.encode(gpt, {"p": ["the user", "a"], "c": ["b", "the assistant asks"]})
    features = [{k: v for k, v in e.items() if k != TRUNCATED} for e in examples_of(columns)]
    expected = DataCollatorForSeq2Seq(gpt, label_pad_token_id=IGNORED)(features)
    assert_batches_equal(task, gpt, columns, expected)
    assert int(task.weight(expected)) == sum(
        label != IGNORED for row in columns["labels"] for label in row[1:]
    )


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_its_end(gpt: Any) -> None:
    task = Generation(("p",), "c", 6)
    columns = task.encode(gpt, {"p": ["xyzxyz", "xy"], "c": ["\n12", "\n123456789"]})
    assert [gpt.decode(ids) for ids in columns["input_ids"]] == ["yz\n12<|im_end|>", "y\n1234"]
    assert [row.count(IGNORED) for row in columns["labels"]] == [2, 1]
    assert columns[TRUNCATED] == [4, 7]


def test_several_prompt_columns_become_paragraphs(gpt: Any) -> None:
    rows = {"i": ["asks", "asks"], "x": ["b", ""], "c": ["a", "a"]}
    columns = Generation(("i", "x"), None, 64).prompts(gpt, rows)
    assert [gpt.decode(ids) for ids in columns["input_ids"]] == ["asks\n\nb", "asks"]


def test_a_causal_loss_of_the_batch_is_that_of_the_completions(gpt: Any) -> None:
    task = Generation(("p",), "c", 64)
    columns = task.encode(gpt, {"p": ["the user", "a"], "c": ["b", "the assistant"]})
    batch = task.collate(gpt, examples_of(columns))
    logits = torch.randn(*batch["input_ids"].shape, len(gpt))
    losses, hits = [], []
    for row, labels in enumerate(columns["labels"]):
        for place, label in enumerate(labels):
            if label != IGNORED:
                losses.append(-logits[row, place - 1].log_softmax(-1)[label])
                hits.append(logits[row, place - 1].argmax() == label)
    loss = ForCausalLMLoss(logits, batch["labels"], len(gpt))
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()))
    scores = task.score(logits, batch["labels"])
    assert scores["token_accuracy"] == pytest.approx(float(torch.stack(hits).float().mean()))


def test_a_table_says_how_much_was_cut(bert: Any) -> None:
    table = Dataset.from_dict({"a": ["film " * 9, "ok", "film " * 8], "label": ["0", "1", "0"]})
    encoded, cut = encode_table(Classification(("a",), "label", 8, ("0", "1")), bert, table)
    assert cut == Truncation(rows=2, tokens=(9 + 2 - 8) + (8 + 2 - 8))
    assert encoded.column_names == ["input_ids", "token_type_ids", "attention_mask", "labels"]


def test_a_table_without_labels_needs_none(bert: Any) -> None:
    table = Dataset.from_dict({"a": ["x"], "label": ["unknown"]})
    task = Classification(("a",), "label", 8, ("0", "1"))
    assert "labels" not in encode_table(task, bert, table, labelled=False)[0].column_names
    with pytest.raises(ConfigError, match="'unknown', which is not in the training data"):
        encode_table(task, bert, table)
