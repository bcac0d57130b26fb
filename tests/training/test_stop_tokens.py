"""What training marked as the end of an answer stops generation: in a run, an adapter, merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from lorakit.errors import ConfigError, FormatError
from lorakit.inference.generation import DecodingConfig, generate_texts
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import LoadOptions, evaluation_tables, open_session
from lorakit.merging import merge_files
from lorakit.runs.next_steps import usage
from lorakit.training import train
from tests.training import tiny, tiny_chat
from tests.training.printed import run_lines
from tests.training.tiny_chat import ANSWERS, END_OF_TEXT, END_OF_TURN, ENDLESS

LONG = DecodingConfig(12)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.save_conversations(tmp_path_factory.mktemp("chats") / "chats.jsonl")


@pytest.fixture(scope="module")
def run(chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a base whose EOS is not the end of a turn."""
    directory = tmp_path_factory.mktemp("chat")
    base = tiny_chat.save_llama(directory / "base")
    result = train(tiny_chat.recipe(base, chats, directory / "run"), lambda text: None)
    assert result.metrics["loss"] < 0.005
    return directory / "run"


def plain_answers(model: Any, tokenizer: Any) -> list[list[int]]:
    """New tokens for each question, by transformers alone."""
    asked = [[{"role": "user", "content": question}] for question in ANSWERS]
    batch = tokenizer.apply_chat_template(
        asked,
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        output = model.generate(**batch, max_new_tokens=12, do_sample=False)
    return output[:, batch["input_ids"].shape[1] :].tolist()


def assert_stops(answers: list[list[int]], tokenizer: Any) -> None:
    """Each answer is the one that was learned, its end, and padding."""
    for said, ids in zip(ANSWERS.values(), answers, strict=True):
        learned = [*tokenizer(said)["input_ids"], END_OF_TURN]
        assert ids == learned + [tokenizer.pad_token_id] * (len(ids) - len(learned))
        assert len(ids) == 4


def test_a_run_stops_at_the_end_of_a_turn(run):
    assert generate_texts(open_session(str(run)), list(ANSWERS), LONG).texts == [*ANSWERS.values()]


def test_a_saved_adapter_stops_at_the_end_of_a_turn(run, tmp_path):
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    session = open_session(str(tmp_path / "adapter"))
    assert generate_texts(session, list(ANSWERS), LONG).texts == [*ANSWERS.values()]


def test_a_merged_model_stops_at_the_end_of_a_turn(run, tmp_path):
    merge_files(str(run / "adapter"), None, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged", padding_side="left")
    assert model.generation_config.eos_token_id == [END_OF_TURN, END_OF_TEXT]
    assert_stops(plain_answers(model, tokenizer), tokenizer)


@pytest.mark.parametrize("tool", ["lorakit", "peft"])
def test_the_printed_lines_stop_at_the_end_of_a_turn(tool, run):
    names = run_lines(usage(str(run)), tool)
    assert_stops(plain_answers(names["model"], names["tokenizer"]), names["tokenizer"])


def test_an_adapter_names_its_stop_tokens_as_transformers_does(run):
    config = GenerationConfig.from_pretrained(run / "adapter")
    assert config.eos_token_id == [END_OF_TURN, END_OF_TEXT]
    assert f"--generation-config {run}/adapter" in usage(str(run))


def test_an_adapter_without_them_stops_as_its_chat_template_ends_a_turn(run, tmp_path):
    """Another tool's adapter, or an older one."""
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / "generation_config.json").unlink()
    (tmp_path / "adapter" / "lorakit_task.json").unlink()
    session = open_session(str(tmp_path / "adapter"), LoadOptions(task="chat", text=("messages",)))
    assert generate_texts(session, list(ANSWERS), LONG).texts == [*ANSWERS.values()]


def test_another_tools_adapter_is_merged_with_the_end_of_its_tokenizer(tmp_path):
    """As TRL saves it: the tokenizer beside the adapter ends a text with the end of a turn."""
    base = tiny_chat.save_llama(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    peft.get_peft_model(model, peft.LoraConfig(r=2)).save_pretrained(tmp_path / "adapter")
    own = tiny_chat.tokenizer()
    own.eos_token = "<|im_end|>"
    own.save_pretrained(tmp_path / "adapter")
    merge_files(str(tmp_path / "adapter"), None, tmp_path / "merged")
    config = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert config.eos_token_id == [END_OF_TURN, END_OF_TEXT]


def test_a_damaged_generation_config_is_named(run, tmp_path):
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / "generation_config.json").write_text("{")
    with pytest.raises(FormatError, match=r"generation_config\.json is damaged"):
        open_session(str(tmp_path / "adapter"))


def test_a_base_with_an_inconsistent_generation_config_is_trained_and_merged(chats, tmp_path):
    """As published with Llama 2: a temperature, and no sampling."""
    base = tiny_chat.save_llama(tmp_path / "base")
    settings = {"do_sample": False, "temperature": 0.9, "eos_token_id": END_OF_TEXT}
    (base / "generation_config.json").write_text(json.dumps(settings))
    train(tiny_chat.recipe(base, chats, tmp_path / "run", 1), lambda text: None)
    merge_files(str(tmp_path / "run" / "adapter"), None, tmp_path / "merged")
    config = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert config.eos_token_id == [END_OF_TURN, END_OF_TEXT]


# --- a template that closes no turn


def test_a_template_without_an_end_is_said_with_the_setting_for_one(chats, tmp_path):
    base = tiny_chat.save_llama(tmp_path / "base", ENDLESS)
    said: list[str] = []
    train(tiny_chat.recipe(base, chats, tmp_path / "run", 1), said.append)
    (line,) = [line for line in said if line.startswith("No end is learned")]
    assert "Set data.end_token" in line
    assert "'<|endoftext|>'" in line


@pytest.mark.parametrize("token", ["<|endoftext|>", "it"], ids=["special", "a plain word"])
def test_end_token_ends_the_turns_of_such_a_template(token, chats, tmp_path):
    base = tiny_chat.save_llama(tmp_path / "base", ENDLESS)
    said: list[str] = []
    recipe = tiny_chat.recipe(base, chats, tmp_path / "run", end_token=token)
    result = train(recipe, said.append)
    assert not [line for line in said if line.startswith("No end is learned")]
    session = open_session(str(tmp_path / "run"))
    assert generate_texts(session, list(ANSWERS), LONG).texts == [*ANSWERS.values()]
    metrics = evaluate(session, evaluation_tables(session, None)["test"], "test").metrics
    assert metrics == pytest.approx(result.metrics, rel=1e-4)


def test_an_end_token_that_the_tokenizer_lacks_is_refused(chats, tmp_path):
    base = tiny_chat.save_llama(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"is no token of the tokenizer \(did you mean"):
        train(tiny_chat.recipe(base, chats, tmp_path / "run", end_token="<|im_en|>"))
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_an_end_token_of_a_task_without_completions_is_refused(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", data={"end_token": "[SEP]"})
    with pytest.raises(ConfigError, match="the task classification generates no text"):
        train(recipe, lambda text: None)
