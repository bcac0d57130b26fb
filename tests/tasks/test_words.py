"""Words of cells, their pieces and their windows."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lorakit.tasks.word_examples import ANSWERS, word_examples
from lorakit.tasks.word_pieces import frame_of, pieces_of
from lorakit.tasks.word_windows import windows
from lorakit.tasks.words import have_marks_apart, places, tags_of, words_of, words_problem
from tests.training import tiny

WORDS = ["EU", "rejects", "Uckermark's", "U.S.", "café", "500", "\U0001f600", ",", "the"]


def test_a_text_is_split_at_white_space_and_at_marks_where_the_training_data_is() -> None:
    text = '"In  (old) Rome, $5: don\'t!"'
    assert words_of(text) == ['"In', "(old)", "Rome,", "$5:", "don't!\""]
    apart = ['"', "In", "(", "old", ")", "Rome", ",", "$", "5", ":", "don't", "!", '"']
    assert words_of(text, parts_marks=True) == apart
    assert [text[first:last] for first, last in places(text, parts_marks=True)] == apart
    assert words_of("... की", parts_marks=True) == [".", ".", ".", "की"]


def test_lists_stay_as_they_are_also_in_the_text_of_a_csv() -> None:
    for cell in (["a,", 5], '["a,", 5]', "['a,', 5]"):
        assert words_of(cell, parts_marks=True) == ["a,", "5"]
    assert tags_of("['B-X', 'O']") == tags_of("B-X  O") == ["B-X", "O"]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ([], "is an empty list"),
        (["a", None], "has None in a list of words"),
        ([["a"]], "has a word that is a list, where text is wanted"),
        (["a", "\ud83d"], "has a word that has half a surrogate pair, which is no text"),
        (["a", " ", 5], None),
    ],
)
def test_problems_of_lists_of_words(cell, problem) -> None:
    assert words_problem(cell) == problem


def test_marks_are_apart_if_one_is_a_word() -> None:
    assert have_marks_apart([["a"], ["b", "."]])
    assert not have_marks_apart([["a."], ["--", "b"]])


def metaspace() -> Any:
    """A tokenizer of words that begin with SentencePiece's mark."""
    vocabulary = {"[UNK]": 0, "▁": 1} | {f"▁{w}": i for i, w in enumerate(WORDS, 2)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


@pytest.mark.parametrize("kind", ["bert", "gpt", "metaspace"])
def test_pieces_are_those_of_transformers_for_words(kind, request) -> None:
    """For byte-level tokenizers with add_prefix_space=True, without which it glues the words."""
    tokenizer = metaspace() if kind == "metaspace" else request.getfixturevalue(kind)
    pieces = pieces_of(tokenizer, WORDS)
    ours = frame_of(tokenizer).around([i for word in WORDS for i in pieces[word]])
    if kind == "gpt":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    theirs = tokenizer(WORDS, is_split_into_words=True)
    assert ours == dict(theirs)
    starts = [theirs.word_ids().index(i) for i in range(len(WORDS))]
    (example,) = word_examples(frame_of(tokenizer), [pieces[w] for w in WORDS], None, 1000)
    assert example[ANSWERS] == starts


def test_a_word_without_pieces_is_unknown(bert) -> None:
    assert pieces_of(bert, ["\u200d", "", "a"]) == {
        "\u200d": [bert.unk_token_id],
        "": [bert.unk_token_id],
        "a": bert("a", add_special_tokens=False)["input_ids"],
    }


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(9, 30))
def test_windows_fit_and_answer_for_each_word_once(sizes, room) -> None:
    found = windows(sizes, room)
    assert all(sum(sizes[w.start : w.stop]) <= room for w in found)
    assert all(w.start <= w.first < w.last <= w.stop for w in found)
    assert [i for w in found for i in range(w.first, w.last)] == [*range(len(sizes))]
    assert sum(sizes) > room or len(found) == 1


@given(st.integers(9, 200), st.integers(8, 40))
def test_a_word_has_an_eighth_of_a_window_around_it(count, room) -> None:
    for window in windows([1] * count, room):
        assert window.first == 0 or window.first - window.start >= room // 8
        assert window.last == count or window.stop - window.last >= room // 8


def test_examples_of_windows_hold_each_tag_once_and_long_words_are_cut() -> None:
    pieces = [[10], [11] * 50, [12, 13], [14], [15, 16]]
    found = [*word_examples(frame_of(tiny.tokenizer()), pieces, [0, 1, 2, 3, 4], 8)]
    assert all(len(example["input_ids"]) <= 10 for example in found)
    labels = [[x for x in example["labels"] if x != -100] for example in found]
    assert [*chain(*labels)] == [0, 1, 2, 3, 4]
    first = [[e["input_ids"][place] for place in e[ANSWERS]] for e in found]
    assert [*chain(*first)] == [10, 11, 12, 14, 15]
    assert [example["continues"] for example in found] == [False, *[True] * (len(found) - 1)]
