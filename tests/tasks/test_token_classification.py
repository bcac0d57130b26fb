"""A tag for each word: how tables are read, examples made, outputs scored, and what is refused."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from lorakit.errors import ConfigError, FormatError, MissingDependencyError
from lorakit.losses import LOSSES
from lorakit.recipe.schema import from_mapping
from lorakit.tables.reading import read_table, to_table
from lorakit.tasks import TokenClassification
from lorakit.tasks.base import BareAdapter
from lorakit.tasks.baseline import Baseline
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.encoding import encode_table
from lorakit.tasks.registry import TASKS, task_of_type
from lorakit.tasks.spec import Columns
from lorakit.tasks.task_file import load_task, save_task
from tests.training import tiny

NAME = "token_classification"
WORDS = [["the", "film", "was", "good"], ["it"], ["a", "plot", "."]]
TAGS = [["O", "B-X", "I-X", "O"], ["B-Y"], ["O", "B-X", "O"]]
COLUMNS = {"tokens": WORDS, "tags": TAGS}


def made(columns: dict[str, Any] = COLUMNS, **given: Any) -> Any:
    rows = Dataset.from_dict(columns)
    return make_task(rows, resolve(rows, Columns(**given)), 16)


def logits_of(task: Any, tags: list[list[str]]) -> list[torch.Tensor]:
    """Outputs for which these are the predictions."""
    count = len(task.labels)
    return [torch.eye(count)[[task.labels.index(tag) for tag in row]] for row in tags]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (COLUMNS, ("tokens", "tags")),
        ({"id": ["1", "2", "3"], "words": WORDS, "labels": TAGS}, ("words", "labels")),
        ({"tokens": WORDS, "pos_tags": TAGS, "chunk_tags": TAGS, "ner_tags": TAGS},
         ("tokens", "ner_tags")),
        ({"Tokens": list(map(str, WORDS)), "Tags": list(map(str, TAGS))}, ("Tokens", "Tags")),
    ],
)  # fmt: skip
def test_columns_of_words_and_tags_are_guessed(columns, found) -> None:
    task = made(columns)
    assert isinstance(task, TokenClassification)
    assert ((*task.text, task.label), task.labels) == (found, ("B-X", "B-Y", "I-X", "O"))
    assert task.marks_apart


def test_the_column_of_tags_that_is_named_is_taken() -> None:
    task = made({**COLUMNS, "pos_tags": [["A"] * 4, ["B"], ["A"] * 3]}, label="pos_tags")
    assert (task.text, task.labels) == (("tokens",), ("A", "B"))


def test_texts_with_tags_between_spaces_are_learned_where_the_task_is_named() -> None:
    texts = {"tokens": [" ".join(w) for w in WORDS], "tags": [" ".join(t) for t in TAGS]}
    task = made(texts, task=NAME)
    assert [task.target(cell) for cell in texts["tags"]] == [made().target(row) for row in TAGS]


def test_lists_that_are_no_tags_of_words_stay_several_labels() -> None:
    columns = {"text": ["a b", "c", "d"], "labels": [["x", "y"], ["x"], []]}
    assert resolve(Dataset.from_dict(columns), Columns()).task == "multi_label_classification"


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved"])
def test_files_with_lists_are_read_and_numbers_by_the_names_of_their_classes(kind, tmp_path):
    names = ["O", "B-X", "I-X", "B-Y"]
    features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=names)))
    numbers = [[names.index(tag) for tag in row] for row in TAGS]
    rows = Dataset.from_dict({"tokens": WORDS, "ner_tags": numbers}, features)
    file = tmp_path / f"rows.{kind}"
    if kind == "saved":
        rows.save_to_disk(file)
    elif kind == "parquet":
        rows.to_parquet(file)
    else:
        rows = Dataset.from_dict({"tokens": WORDS, "ner_tags": TAGS})
        rows.to_json(file)
    read = read_table(str(file))
    assert resolve(read, Columns()) == Columns(NAME, ("tokens",), "ner_tags")
    assert (read["tokens"][:], read["ner_tags"][:]) == (WORDS, TAGS)


def test_numbers_without_names_are_tags_of_their_own() -> None:
    task = made({"tokens": WORDS, "tags": [[0, 1, 2, 0], [10], [0, 1, 0]]})
    assert (task.labels, task.best_metric) == (("0", "1", "2", "10"), "accuracy")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([["O", "B-X"], ["B-Y"], ["O"] * 3], r"'tokens' has 4 words, and 'tags' 2 tags: row 1"),
        ([["O", None, "O", "O"], ["B-X"], ["O"] * 3], r"has None in a list of labels: row 1"),
        ([["O"] * 4, ["O"], ["O"] * 3], r"only the tag 'O'; .* two different tags or more"),
        ([["O"] * 4, None, ["B-X"] * 3], r"'tags' is empty: row 2"),
        ([["O"] * 4, [["B-X"]], ["B-X"] * 3], r"in a list of labels: row 2"),
    ],
)
def test_tags_that_cannot_be_learned_are_refused_by_row(tags, message) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(to_table({"tokens": WORDS, "tags": tags}, "rows"), Columns(NAME))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": [[]], "tags": [[]]}, "'tokens' is an empty list: row 1"),
        ({"tokens": [["a"]], "tags": [["B-Z"]]}, "the label 'B-Z', which is not in the training"),
    ],
)
def test_rows_that_training_does_not_know_are_refused(row, message) -> None:
    with pytest.raises(ConfigError, match=message):
        made().check(Dataset.from_dict(row))


def test_rows_with_a_tag_that_only_they_have_are_found_for_the_split() -> None:
    unseen = TokenClassification.unseen_labels
    assert unseen(TAGS, [["O"], ["I-Y", "B-Z", "O"]]) == {1: "B-Z, I-Y"}


def test_the_first_piece_of_a_word_carries_its_tag(bert) -> None:
    rows = Dataset.from_dict(
        {"tokens": [["Angela", "in", "Uckermark"]], "tags": [["B-X", "O", "B-Y"]]}
    )
    task = TokenClassification(("tokens",), "tags", 16, ("B-X", "B-Y", "O"))
    encoded, _ = encode_table(task, bert, rows)
    pieces = bert.convert_ids_to_tokens(encoded[0]["input_ids"])
    labels = dict(zip(pieces, encoded[0]["labels"], strict=True))
    assert labels == {"[CLS]": -100, "angela": 0, "in": 2, "uc": 1, "##ker": -100,
                      "##mark": -100, "[SEP]": -100}  # fmt: skip


def batches_of(task: Any, columns: dict[str, Any] = COLUMNS) -> tuple[Any, list[Any]]:
    encoded, _ = encode_table(task, tiny.tokenizer(), Dataset.from_dict(columns))
    examples = [dict(example) for example in encoded]
    return task.collate(tiny.tokenizer(), examples), examples


def test_a_batch_is_padded_and_weighs_as_many_as_it_has_tagged_words() -> None:
    batch, _ = batches_of(made())
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == dict.fromkeys(("input_ids", "attention_mask", "labels"), (3, 6))
    assert int(made().weight(batch)) == sum(map(len, WORDS))
    assert batch["labels"][1].tolist() == [-100, 1, *[-100] * 4]


def test_rows_of_several_windows_come_back_as_one() -> None:
    task = TokenClassification(("tokens",), "tags", 7, ("A", "B"))
    long = {"tokens": [["the"] * 12, ["it"]], "tags": [["A", "B"] * 6, ["B"]]}
    batch, examples = batches_of(task, long)
    assert len(examples) > 3
    one_hot = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), 2).float()
    logits = task.joined(task.own(one_hot, examples), examples)
    labels = task.joined(task.own(batch["labels"], examples), examples)
    assert task.predictions(logits) == long["tags"]
    assert task.score(logits, labels) == {"accuracy": 1.0}


def test_entities_are_scored_by_f1_and_parts_of_speech_by_accuracy() -> None:
    task, tags = made(), [["O", "B-X", "O", "O"], ["B-Y"], ["O", "B-X", "O"]]
    labels = [torch.tensor(task.target(row)) for row in TAGS]
    found = task.score(logits_of(task, tags), labels)
    assert task.best_metric == "overall_f1"
    assert (found["overall_f1"], found["accuracy"]) == (pytest.approx(2 / 3), 7 / 8)
    assert (found["f1_X"], found["f1_Y"]) == (0.5, 1.0)
    pos = made({"tokens": WORDS, "tags": [["DET", "NOUN", "VERB", "ADJ"], ["NOUN"], ["X"] * 3]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pos.score(logits_of(pos, [["X"] * 4]), [torch.tensor(pos.target(["X"] * 4))])
    assert (pos.best_metric, found) == ("accuracy", {"accuracy": 1.0})


def test_seqeval_is_asked_for_before_training_where_entities_are_measured(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "seqeval.metrics.sequence_labeling", None)
    with pytest.raises(MissingDependencyError, match=r"seqeval: .*lorakit\[train\]"):
        made().require_packages()
    made({"tokens": WORDS, "tags": [["A"] * 4, ["B"], ["A"] * 3]}).require_packages()


def test_tags_that_keep_entities_from_being_measured_are_said() -> None:
    tags = [["O", "B-X", "b-x", "O"], ["_"], ["O", "I-X", "O"]]
    (said,) = made({"tokens": WORDS, "tags": tags}).remarks(None, None)
    assert said.startswith("The tags '_', 'b-x' are none of entities, as the others are")
    for fine in (TAGS, [["DET", "N", "V", "O"], ["N"], ["O"] * 3]):
        assert made({"tokens": WORDS, "tags": fine}).remarks(None, None) == []


def test_the_baseline_is_the_most_frequent_tag_in_the_metric_of_the_task() -> None:
    test = Dataset.from_dict(COLUMNS)
    assert made().baseline(test, test) == Baseline("tag O for every word", "overall_f1", 0.0)
    pos = made({"tokens": WORDS, "tags": [["DET", "N", "V", "A"], ["N"], ["X", "N", "."]]})
    test = Dataset.from_dict({"tags": [["N", "V"], ["N"]]})
    assert pos.baseline(test, test) == Baseline("tag N for every word", "accuracy", 2 / 3)


def test_one_tag_for_every_word_is_said() -> None:
    test = Dataset.from_dict(COLUMNS)
    said = made().sameness([["O"] * 4, ["O"], ["O"] * 3], test)
    assert said == "'O' is the prediction for 8 of 8 words of the rows."
    assert made().sameness(TAGS, test) is None


def test_a_text_is_answered_with_entities_and_a_list_with_tags() -> None:
    task = made()
    rows = {"tokens": ["The film (good).", ["it", "was"]]}
    tags = [["O", "B-X", "I-X", "I-X", "O", "O"], ["B-Y", "O"]]
    assert task.answers(rows, tags) == [
        [{"type": "X", "text": "film (good", "start": 4, "end": 14}],
        ["B-Y", "O"],
    ]
    plain = TokenClassification(("tokens",), None, 16, ("A", "B"))
    assert plain.answers({"tokens": ["a b."]}, [["A", "B"]]) == [
        [
            {"type": "A", "text": "a", "start": 0, "end": 1},
            {"type": "B", "text": "b.", "start": 2, "end": 4},
        ]
    ]


def test_a_text_file_is_of_columns_or_of_lines_by_its_content(tmp_path) -> None:
    file = tmp_path / "a.txt"
    for text, columns in (
        (
            "the O\nfilm B-X\n\nit O\n",
            {"tokens": [["the", "film"], ["it"]], "tags": [["O", "B-X"], ["O"]]},
        ),
        ("The film was good.\n\nIt was.\n", {"tokens": ["The film was good.", "It was."]}),
    ):
        file.write_text(text)
        table = TASKS[NAME].read_rows(str(file))
        assert {name: table[name][:] for name in table.column_names} == columns
    file.write_text("The DET\nfilm NOUN\n")
    with pytest.raises(FormatError, match=r"a word a line with its tag, or a sentence a line"):
        TASKS[NAME].read(str(file), "train")


def test_the_task_travels_in_its_file_and_an_adapter_alone_has_numbers(tmp_path) -> None:
    save_task(made(), tmp_path)
    assert load_task(tmp_path) == made()
    bare = TASKS[NAME].for_adapter(BareAdapter(("tokens",), None, 8, head_height=3))
    assert (bare.class_names, task_of_type("TOKEN_CLS")) == (("0", "1", "2"), NAME)


def test_a_length_below_the_special_tokens_is_refused() -> None:
    task = TokenClassification(("tokens",), "tags", 2, ("A", "B"))
    with pytest.raises(ConfigError, match=r"max_length is 2, and the tokenizer adds 2 special"):
        task.encode(tiny.tokenizer(), {"tokens": [["the"]]})


def test_losses_of_one_row_of_logits_are_refused_and_smoothing_is_not() -> None:
    assert "the task token_classification has none" in str(
        LOSSES["rdrop"].problem_with(TokenClassification, NAME)
    )
    recipe = {"base": "b", "output": "o", "data": {"train": "t.conll", "task": NAME}}
    assert from_mapping({**recipe, "training": {"label_smoothing": 0.1}}).training.label_smoothing
