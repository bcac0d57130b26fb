"""How an input and its references become tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.encoding import encode_table
from lorakit.tasks.generation import IGNORED
from lorakit.tasks.nlg.specs import CORPUS_TASKS
from lorakit.tasks.nlg.task import E2E, separator
from lorakit.tasks.registry import TASKS
from lorakit.tasks.spec import Columns

ROWS = {"input": ["the user", "b"], "references": [["asks the assistant", "a b"], ["c"]]}


def slow(tokenizer: Any, text: str, reference: str) -> tuple[list[int], list[int]]:
    """The definition, an example at a time: BPE(input), end, BPE(' ' + reference), end."""
    end = tokenizer.eos_token_id
    prompt = [*tokenizer(text)["input_ids"], end]
    answer = [*tokenizer(f" {reference}")["input_ids"], end]
    return prompt + answer, [IGNORED] * len(prompt) + answer


def test_each_reference_is_an_example_and_only_it_counts(gpt):
    encoded = E2E().encode(gpt, ROWS)
    expected = [
        slow(gpt, text, reference)
        for text, references in zip(*ROWS.values(), strict=True)
        for reference in references
    ]
    assert list(zip(encoded["input_ids"], encoded["labels"], strict=True)) == expected
    assert encoded[TRUNCATED] == [False] * 3


def test_a_prompt_is_the_example_up_to_the_first_token_that_counts(gpt):
    task = E2E()
    examples, prompts = task.encode(gpt, ROWS), task.prompts(gpt, ROWS)
    assert len(prompts["input_ids"]) == 2
    for prompt, row in zip(prompts["input_ids"], (0, 2), strict=True):
        labels = examples["labels"][row]
        first = next(i for i, label in enumerate(labels) if label != IGNORED)
        assert prompt == examples["input_ids"][row][:first]


def test_the_first_token_separates_where_there_is_one(gpt):
    assert separator(gpt) == gpt.eos_token_id
    gpt.add_special_tokens({"bos_token": "<|im_start|>"})
    assert separator(gpt) == gpt.convert_tokens_to_ids("<|im_start|>") != gpt.eos_token_id
    with pytest.raises(
        ConfigError, match="BOS or EOS token between input and text, and this tokenizer has neither"
    ):
        separator(SimpleNamespace(bos_token_id=None, eos_token_id=None))


def test_a_long_input_loses_its_beginning_and_is_counted(gpt):
    import datasets

    table = datasets.Dataset.from_dict({**ROWS, "input": ["the user " * 40, "b"]})
    encoded, cut = encode_table(E2E(max_length=12), gpt, table)
    assert (len(encoded), cut.rows) == (3, 2)
    assert all(len(ids) <= 12 for ids in encoded["input_ids"])
    assert all(labels[-1] == gpt.eos_token_id for labels in encoded["labels"])


@pytest.mark.parametrize("name", [spec.name for spec in CORPUS_TASKS])
def test_a_corpus_is_a_task_whose_columns_are_known(name):
    import datasets

    assert name in TASKS
    table = datasets.Dataset.from_dict(ROWS)
    columns = resolve(table, Columns(name))
    assert columns == Columns(name, ("input",), "references")
    task = make_task(table, columns, 99)
    assert (task.name, task.max_length, task.generates) == (name, 99, True)
