"""A base whose tokenizer has tokens that it has no rows for: they train as rows of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

from lorakit.inference.generation import generate_texts
from lorakit.inference.session import open_session
from lorakit.merging import merge_files
from lorakit.recipe.decoding import DecodingConfig
from lorakit.runs.next_steps import usage
from lorakit.training import train
from tests.training import tiny, tiny_chat
from tests.training.printed import run_lines
from tests.training.tiny_chat import ANSWERS, CHATML

OLD = ["<|endoftext|>", "[UNK]", "user", "assistant", *tiny.GOOD, *tiny.BAD, *tiny.OTHER]
NEW = ["<|im_start|>", "<|im_end|>"]
ROWS = [len(OLD), len(OLD) + 1]
SHORT = DecodingConfig(max_new_tokens=6)


def save_base(path: Path, tied: bool) -> Path:
    """A Llama that was not taught ChatML, with a tokenizer that has its marks since."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 40}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": 0, "initializer_range": 0.4}
    config = LlamaConfig(vocab_size=len(OLD), tie_word_embeddings=tied, **sizes, **heads, **ends)
    LlamaForCausalLM(config).save_pretrained(path)
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(OLD)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    settings = {"eos_token": OLD[0], "unk_token": "[UNK]", "chat_template": CHATML}
    words = Fast(tokenizer_object=inner, model_max_length=40, **settings)
    words.add_special_tokens({"additional_special_tokens": NEW})
    words.save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new_tokens")
    base = save_base(path / "base", request.param)
    data = tiny_chat.save_conversations(path / "chats.jsonl")
    said: list[str] = []
    train(tiny_chat.recipe(base, data, path / "run", epochs=1), said.append)
    assert f"the tokenizer has {len(OLD) + 2} tokens and the base {len(OLD)} rows" in "".join(said)
    assert not any("random and frozen" in line for line in said)
    return path / "run"


def test_a_run_trains_the_rows_of_new_tokens_and_keeps_no_table(run: Path) -> None:
    tensors = load_file(run / "adapter/adapter_model.safetensors")
    shapes = {key: value.shape for key, value in tensors.items() if "lora_" not in key}
    tied = len(shapes) == 1
    assert {tuple(shape) for shape in shapes.values()} == {(2, 32)}
    session = open_session(str(run))
    assert session.model.lm_head.site.rows == tuple(ROWS)
    assert session.model.config.tie_word_embeddings is tied
    rows = session.model.model.embed_tokens.trainable_tokens_delta.cpu()
    start = load_file(run.parent / "base/model.safetensors")["model.embed_tokens.weight"].mean(0)
    assert ((rows - start).abs().amax(1) > 0.01).all()
    assert len(generate_texts(session, list(ANSWERS), SHORT).texts) == len(ANSWERS)


@pytest.mark.parametrize("tool", ["lorakit", "peft"])
def test_the_printed_lines_have_the_new_rows(run: Path, tool: str) -> None:
    names = run_lines(usage(str(run)), tool)
    ids = torch.tensor([[ROWS[0], 2, 5, ROWS[1]]])
    expected = open_session(str(run)).model.cpu()(ids).logits
    torch.testing.assert_close(names["model"].eval()(ids).logits, expected)


WHOLE = {
    "full": {"method": "full"},
    "modules to save": {"lora": {"r": 2, "modules_to_save": ["embed_tokens", "lm_head"]}},
}
"""What trains whole tables of the vocabulary, in place of its new rows."""


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("settings", WHOLE.values(), ids=WHOLE)
def test_the_printed_lines_have_whole_tables_that_grew(
    settings: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", tied)
    data = tiny_chat.save_conversations(tmp_path / "chats.jsonl")
    recipe = tiny.recipe(base, data, tmp_path / "run", training={"max_steps": 1}, **settings)
    train(recipe, lambda text: None)
    names = run_lines(usage(str(tmp_path / "run")))
    assert names["model"].get_input_embeddings().weight.shape[0] == len(OLD) + len(NEW)
    ids = torch.tensor([[ROWS[0], 2, 5, ROWS[1]]])
    expected = open_session(str(tmp_path / "run")).model.cpu()(ids).logits
    torch.testing.assert_close(names["model"].eval()(ids).logits, expected)


def test_the_printed_lines_have_new_rows_that_nothing_trained(tmp_path: Path) -> None:
    """As a head alone leaves them; without them the new token would be out of range."""
    base, words = tiny.save_encoder(tmp_path / "base"), tiny.tokenizer()
    words.add_tokens(["novel"])
    words.save_pretrained(base)
    data = tiny.save_reviews(tmp_path / "reviews.csv")
    data.write_text(data.read_text().replace("actor", "novel"))
    recipe = tiny.recipe(base, data, tmp_path / "run", method="head", training={"max_steps": 1})
    train(recipe, lambda text: None)
    names = run_lines(usage(str(tmp_path / "run")))
    batch = names["tokenizer"]("the novel was good", return_tensors="pt")
    assert len(tiny.WORDS) in batch["input_ids"]
    expected = open_session(str(tmp_path / "run")).model.cpu()(**batch).logits
    torch.testing.assert_close(names["model"].eval()(**batch).logits, expected)


def test_a_merged_run_has_the_new_rows(run: Path, tmp_path: Path) -> None:
    merge_files(str(run / "adapter"), None, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    rows = open_session(str(run)).model.lm_head.trainable_tokens_delta
    torch.testing.assert_close(merged.lm_head.weight[ROWS], rows.cpu())


def test_tokens_that_the_data_do_not_have_leave_the_base_as_it_is(tmp_path: Path) -> None:
    base = tiny.save_encoder(tmp_path / "base")
    words = tiny.tokenizer()
    words.add_tokens(["spare"])
    words.save_pretrained(base)
    data = tiny.save_reviews(tmp_path / "reviews.csv")
    recipe = tiny.recipe(base, data, tmp_path / "run", training={"max_steps": 1})
    train(recipe, lambda text: None)
    keys = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    assert not any("token_adapter" in key for key in keys)
