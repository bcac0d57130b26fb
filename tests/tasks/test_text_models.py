"""Prompts and completions as an encoder-decoder sees them."""

from __future__ import annotations

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
    T5Config,
    XLMConfig,
)

from lorakit.errors import ConfigError, FormatError
from lorakit.models.loading import load_for_task
from lorakit.tasks import Chat, Classification, Generation
from lorakit.tasks.batching import length
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.nlg.task import WebNLG
from lorakit.tasks.registry import task_of_type
from lorakit.tasks.task_file import load_task, save_task
from lorakit.tasks.text_models import DECODER, text_model_of
from tests.training import tiny
from tests.training.tiny_seq2seq import MODELS

CLS, SEP = 2, 3
ROWS = {"prompt": ["good film", "the very dull plot"], "completion": ["bad", "it was fine"]}


def ids(text: str) -> list[int]:
    return [tiny.WORDS.index(word) for word in text.split()]


def text_to_text(max_length: int = 16) -> Generation:
    task = Generation(("prompt",), "completion", max_length).for_base(T5Config())
    assert isinstance(task, Generation)
    return task


def test_the_config_decides_which_kind_it_is(tmp_path) -> None:
    task = Generation(("prompt",), "completion", 16)
    assert task.for_base(GPT2Config()) == task
    assert task.auto_class == "AutoModelForCausalLM"
    assert text_to_text().auto_class == "AutoModelForSeq2SeqLM"
    save_task(text_to_text(), tmp_path)
    assert load_task(tmp_path) == text_to_text()
    assert task_of_type("SEQ_2_SEQ_LM") == "generation"


def test_prompt_and_completion_are_sequences_of_their_own() -> None:
    task, words = text_to_text(), tiny.tokenizer()
    encoded = task.encode(words, ROWS)
    assert encoded["input_ids"] == [[CLS, *ids(text), SEP] for text in ROWS["prompt"]]
    assert encoded["labels"] == [[CLS, *ids(text), SEP] for text in ROWS["completion"]]
    assert [length({k: v[i] for k, v in encoded.items()}) for i in (0, 1)] == [4 + 3, 6 + 5]
    examples = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    batch = task.collate(words, examples)
    assert batch["input_ids"].shape == (2, 6)
    assert batch["labels"].tolist()[0] == [CLS, *ids("bad"), SEP, IGNORED, IGNORED]
    assert batch["decoder_attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert int(task.weight(batch)) == 3 + 5
    assert "labels" not in task.prompts(words, ROWS)


def test_a_tokenizer_without_eos_in_texts_gets_it_behind_completions() -> None:
    words = tiny.tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    encoded = text_to_text().encode(words, ROWS)
    assert encoded["input_ids"][0] == ids("good film")
    assert encoded["labels"][0] == [*ids("bad"), SEP]
    other = text_to_text().with_end_token(words, "[MASK]")
    assert other.encode(words, ROWS)["labels"][0] == [*ids("bad"), tiny.WORDS.index("[MASK]")]


def test_what_is_too_long_is_truncated_at_its_end() -> None:
    encoded = text_to_text(4).encode(tiny.tokenizer(), ROWS)
    assert encoded["input_ids"][1] == [CLS, *ids("the very"), SEP]
    assert encoded["labels"][1] == [CLS, *ids("it was fine")], "an end that is cut off is none"
    assert encoded["truncated"] == [0, 3]


@pytest.mark.parametrize("kind", MODELS)
def test_loss_and_accuracy_are_those_of_the_decoder(kind) -> None:
    model, words, task = MODELS[kind]().eval(), tiny.tokenizer(), text_to_text()
    encoded = task.encode(words, ROWS)
    examples = [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    batch = task.collate(words, examples)
    output = model(**batch)
    log_p = output.logits.log_softmax(-1)
    places = [(b, t, i) for b, row in enumerate(encoded["labels"]) for t, i in enumerate(row)]
    losses = [-log_p[place] for place in places]
    hits = [float(log_p[b, t].argmax() == label) for b, t, label in places]
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    accuracy = task.score(output.logits, batch["labels"])["token_accuracy"]
    assert accuracy == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize("task", [Chat(("messages",), None, 9), WebNLG()])
def test_other_tasks_of_text_say_which_one_takes_an_encoder_decoder(task) -> None:
    with pytest.raises(
        ConfigError, match=r"encoder-decoder \(t5\), which .* use the task generation"
    ):
        task.for_base(T5Config())
    labels = Classification(("text",), "label", 9, ("a", "b"))
    assert labels.for_base(T5Config()) == labels


def test_completions_have_room_of_their_own() -> None:
    model = text_to_text().text_model
    assert model.lengths(16, 16, default=128) == (16, 16)
    assert model.lengths(16, None, default=128) == (16, 16), "the default is no request"
    assert model.longest_completion(16) == 16
    with pytest.raises(ConfigError, match="17, and a completion has 16 tokens at most"):
        model.lengths(16, 17, default=128)
    assert DECODER.lengths(16, None, default=10) == (6, 10)


@pytest.mark.parametrize("config", [DistilBertConfig(), T5Config()])
def test_a_base_of_another_kind_is_refused_in_a_sentence(config, tmp_path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match="for which transformers has no class of") as caught:
        load_for_task(str(tmp_path), "AutoModelForCausalLM", {})
    assert len(str(caught.value)) < 400
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=r"is a bert model, .* AutoModelForSeq2SeqLM"):
        load_for_task(str(tmp_path), "AutoModelForSeq2SeqLM", {})


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig, DistilBertConfig, XLMConfig])
@pytest.mark.parametrize("task", [Generation, Chat])
def test_an_encoder_is_refused_by_tasks_that_generate(kind, task) -> None:
    said = rf"is an encoder \({kind.model_type}\), .* use a decoder .* or an encoder-decoder"
    with pytest.raises(ConfigError, match=said):
        task(("prompt",), "completion", 16).for_base(kind())


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (BertConfig(is_decoder=True), "decoder"),
        (XLMConfig(causal=True), "decoder"),
        (LlamaConfig(), "decoder"),
        (BartConfig(), "encoder_decoder"),
        (BartConfig(is_encoder_decoder=False, is_decoder=True), "decoder"),
    ],
)
def test_what_says_that_it_is_causal_is_a_decoder(config, model) -> None:
    assert text_model_of(config).name == model
