"""An example as text: what the model reads, and what is learned of it."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.tasks import (
    Chat,
    Classification,
    Generation,
    LanguageModeling,
    MultiLabelClassification,
    MultipleChoice,
    Regression,
    Task,
    TokenClassification,
)
from lorakit.tasks.pieces import Piece, decoded_runs
from lorakit.tasks.text_models import TEXT_MODELS
from tests.training import tiny

TALK = [
    {"role": "system", "content": "be warm"},
    {"role": "user", "content": "the film"},
    {"role": "assistant", "content": "was good", "weight": 0},
    {"role": "user", "content": "it"},
    {"role": "assistant", "content": "was fine"},
]


def marked(pieces: list[Piece]) -> str:
    return "".join(f"[[{piece.text}]]" if piece.learned else piece.text for piece in pieces)


def seen(task: Task, row: dict[str, Any]) -> str:
    """The only row, encoded and shown again."""
    words = tiny.tokenizer()
    columns = task.encode(words, {name: [cell] for name, cell in row.items()})
    return marked(task.pieces(words, {name: cells[0] for name, cells in columns.items()}))


TEXT_TASKS: dict[str, tuple[Task, Any, str]] = {
    "a class": (Classification(("text",), "label", 9, ("bad", "good")), "good", "good"),
    "labels": (
        MultiLabelClassification(("text",), "label", 9, ("dull", "fine", "warm")),
        ["warm", "dull"],
        "dull, warm",
    ),
    "no label": (MultiLabelClassification(("text",), "label", 9, ("dull", "fine")), [], "none"),
    "a number": (Regression(("text",), "label", 9), "2.50", "2.5"),
}


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_a_label_is_shown_beside_the_text_that_the_model_reads(name: str) -> None:
    task, label, shown = TEXT_TASKS[name]
    row = {"text": "the film was unheard", "label": label}
    assert seen(task, row) == f"[CLS] the film was [UNK] [SEP] -> [[{shown}]]"
    assert marked(task.row_pieces(row)) == f"the film was unheard -> [[{label}]]"


def test_the_right_choice_is_learned() -> None:
    task = MultipleChoice(("q", "a", "b"), "label", 9)
    row = {"q": "the film", "a": "was good", "b": "was dull", "label": "b"}
    assert seen(task, row).splitlines() == [
        "[CLS] the film [SEP] was good [SEP]",
        "[[[CLS] the film [SEP] was dull [SEP]]]",
    ]
    assert marked(task.row_pieces(row)) == "q: the film\na: was good\n[[b: was dull]]"


def test_each_word_is_shown_with_its_tag() -> None:
    task = TokenClassification(("tokens",), "tags", 9, ("B-PER", "O"))
    row = {"tokens": ["the", "actor", "was"], "tags": ["O", "B-PER", "O"]}
    assert seen(task, row) == "[CLS] the/[[O]] actor/[[B-PER]] was/[[O]] [SEP]"
    assert marked(task.row_pieces(row)) == "the/[[O]] actor/[[B-PER]] was/[[O]] "


def test_a_completion_is_learned_with_its_end() -> None:
    row = {"prompt": "the film", "completion": "was good"}
    task = Generation(("prompt",), "completion", 9)
    assert seen(task, row) == "[CLS] the film[[ was good [SEP]]]"
    assert marked(task.row_pieces(row)) == "the film -> [[was good]]"


def test_an_encoder_decoder_learns_what_its_decoder_writes() -> None:
    task = Generation(
        ("prompt",), "completion", 9, architecture=TEXT_MODELS["encoder_decoder"].name
    )
    shown = seen(task, {"prompt": "the film", "completion": "was good"})
    assert shown == "[CLS] the film [SEP] -> [[[CLS] was good [SEP]]]"


def test_the_columns_of_a_row_are_named_where_there_are_several() -> None:
    row = {"instruction": "do", "input": "it", "output": "done"}
    pieces = Generation(("instruction", "input"), "output", 9).row_pieces(row)
    assert marked(pieces) == "instruction: do\ninput: it -> [[done]]"


def test_a_whole_text_is_learned() -> None:
    task = LanguageModeling(("text",), None, 9)
    assert seen(task, {"text": "the film"}) == "[[[CLS] the film [SEP]]]"
    assert marked(task.row_pieces({"text": "the film"})) == "[[the film]]"


def test_the_turns_of_a_conversation_that_are_learned_are_marked() -> None:
    words = tiny.tokenizer()
    words.chat_template = (
        "{% for m in messages %}{{ '[MASK] ' + m['content'] + ' [SEP] ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[MASK] ' }}{% endif %}"
    )
    task = Chat(("messages",), None, 40)
    columns = task.encode(words, {"messages": [TALK]})
    shown = marked(task.pieces(words, {name: cells[0] for name, cells in columns.items()}))
    assert shown.endswith("[MASK] it [SEP] [MASK][[ was fine [SEP]]]")
    assert "[[ was good" not in shown
    lines = marked(task.row_pieces({"messages": TALK})).splitlines()
    assert lines == [
        "system: be warm", "user: the film", "assistant: was good", "user: it",
        "assistant: [[was fine]]",
    ]  # fmt: skip


def test_tokens_that_are_written_otherwise_at_a_beginning_are_shown_as_they_are_alone() -> None:
    class Joining:
        """Writes three tokens together, and two of them in capitals."""

        def decode(self, ids: list[int]) -> str:
            text = "".join("abc"[i] for i in ids)
            return text.upper() if len(ids) == 2 else text

    assert decoded_runs(Joining(), [0, 1, 2], [False, False, True]) == [
        Piece("AB"),
        Piece("c", learned=True),
    ]


def test_tags_are_counted_by_words() -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "tags": [["O", "X"], ["O"]]})
    task = TokenClassification(("tokens",), "tags", 9, ("O", "X"))
    assert task.class_counts(rows) == {"O": 2, "X": 1}


def test_classes_are_counted_and_numbers_have_a_range() -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a"] * 3, "label": ["x", "y", "x"]})
    assert Classification(("text",), "label", 9, ("y", "x")).class_counts(rows) == {"y": 1, "x": 2}
    rows = datasets.Dataset.from_dict({"text": ["a"] * 2, "label": [["x", "y"], ["x"]]})
    several = MultiLabelClassification(("text",), "label", 9, ("x", "y"))
    assert several.class_counts(rows) == {"x": 2, "y": 1}
    rows = datasets.Dataset.from_dict({"q": ["a"] * 3, "c": ["b"] * 3, "d": ["e"] * 3,
                                       "label": [0, 1, 1]})  # fmt: skip
    assert MultipleChoice(("q", "c", "d"), "label", 9).class_counts(rows) == {"c": 1, "d": 2}
    rows = datasets.Dataset.from_dict({"text": ["a"] * 3, "label": ["1", "2", "6"]})
    found = Regression(("text",), "label", 9).number_range(rows)
    assert found == {"least": 1.0, "mean": 3.0, "greatest": 6.0}
