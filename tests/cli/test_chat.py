"""`chat`: a conversation in the template, from a pipe or a terminal, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lorakit as lora
from demo import smollm2
from lorakit.inference import dialogue as dialogues
from lorakit.inference.batch_generation import generate_batch
from lorakit.recipe.decoding import DecodingConfig
from lorakit.recipe.schema import from_mapping
from lorakit.training import train
from tests.training import tiny, tiny_chat

CONFIG = lora.LoraConfig(
    r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_chat.save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    model = AutoModelForCausalLM.from_pretrained(base)
    lora.inject(model, CONFIG)
    return lora.save_adapter(model, tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def talk(run, base, adapter, monkeypatch):
    """Run `lorakit chat` on these lines of standard input."""

    def talk_with(lines: str, *more: object, source: object = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        which = (source,) if source else (adapter, "--base", base, "--max-new-tokens", 6)
        return run("chat", *which, *more)

    return talk_with


def expected(base: Path, adapter: Path, *texts: str, system: str | None = None) -> list[str]:
    """The definition: all of the conversation in the template, and a greedy answer to it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), tiny_chat.tokenizer()
    lora.load_adapter(model, adapter)
    messages = [{"role": "system", "content": system}] if system else []
    model.generation_config.eos_token_id = [0, 2]
    answers: list[str] = []
    for text in texts:
        messages.append({"role": "user", "content": text})
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        with torch.no_grad():
            tokenizer.pad_token = tokenizer.eos_token
            decoding = DecodingConfig(max_new_tokens=6)
            answers += generate_batch(model, tokenizer, [prompt], decoding)
        messages.append({"role": "assistant", "content": answers[-1]})
    return answers


def test_each_line_is_answered_after_all_that_was_said(talk, base, adapter):
    texts = ["the film", "the plot"]
    answers = expected(base, adapter, *texts)
    assert answers[1] != expected(base, adapter, texts[1])[0], "the history shows"
    code, out, err = talk("the film\n\nthe plot\n")
    assert code == 0, err
    assert out.splitlines() == answers
    cleared = talk("the film\n/clear\nthe plot\n/exit\nvery\n")[1].splitlines()
    assert cleared == [answers[0], *expected(base, adapter, texts[1])]


def test_json_has_all_messages_and_a_system_message_is_the_first(talk, base, adapter):
    found = json.loads(talk("the film\n", "--system", "very", "--json")[1])
    answer = expected(base, adapter, "the film", system="very")[0]
    assert found["messages"] == [
        {"role": "system", "content": "very"},
        {"role": "user", "content": "the film"},
        {"role": "assistant", "content": answer},
    ]


def test_the_oldest_turns_go_and_a_message_that_never_fits_is_refused(talk):
    code, out, err = talk("the film\nthe plot\nvery\nthe film\n")
    assert code == 0, err
    assert len(out.splitlines()) == 4
    assert "2 turns no longer fitted" in err
    code, _, err = talk("film " * 40)
    assert code == 1
    assert "tokens too long: beside an answer of 6 tokens" in " ".join(err.split())


def test_on_a_terminal_answers_come_in_parts_and_errors_do_not_end_it(
    talk, run, base, adapter, monkeypatch
):
    typed = iter(["film " * 40, KeyboardInterrupt(), "the film", EOFError()])

    def read(prompt: str) -> str:
        print(prompt, end="")
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    parts: list[str] = []
    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("lorakit.cli.chat.print_part", parts.append)
    code, out, err = run("chat", adapter, "--base", base, "--max-new-tokens", 6)
    assert code == 0, err
    answer = expected(base, adapter, "the film")[0]
    assert "".join(parts) == answer
    assert len(parts) == len(answer.split())
    assert out == "> > \n> \n> \n"
    assert "tokens too long" in err
    assert "/exit or Ctrl-D ends" in err


def test_ctrl_c_ends_the_answer_and_keeps_what_was_said(talk, monkeypatch):
    whole = dialogues.generate_batch
    calls = []

    def interrupted(model, tokenizer, prompts, decoding, say):
        calls.append(prompts)
        if len(calls) > 1:
            return whole(model, tokenizer, prompts, decoding, say)
        say("good fine")
        raise KeyboardInterrupt

    monkeypatch.setattr(dialogues, "generate_batch", interrupted)
    code, out, _ = talk("the film\nthe plot\n")
    assert code == 0
    assert out.splitlines()[0] == "good fine"
    assert "good fine" in tiny_chat.tokenizer().decode(calls[1][0])


def test_a_run_of_prompts_sees_each_message_alone(talk, run, tmp_path):
    base = tiny.save_decoder(tmp_path / "base")
    data = tiny.save_completions(tmp_path / "rows.csv")
    recipe = {
        "base": str(base), "output": str(tmp_path / "run"),
        "data": {"train": str(data), "task": "generation"}, "training": {"max_steps": 2},
    }  # fmt: skip
    train(from_mapping(recipe), log=lambda text: None)
    prompt = data.read_text().splitlines()[1].partition(",")[0]
    code, out, err = talk(f"{prompt}\n{prompt}\n", source=tmp_path / "run")
    assert code == 0, err
    assert "each message is a prompt of its own" in err
    first, second = out.splitlines()
    assert first == second
    code, _, err = talk("x\n", "--system", "y", source=tmp_path / "run")
    assert code == 1
    assert "would not see a system message" in " ".join(err.split())


def test_a_run_that_generates_no_text_is_refused(talk, tmp_path):
    base = tiny.save_encoder(tmp_path / "base")
    data = tiny.save_reviews(tmp_path / "rows.csv")
    recipe = {
        "base": str(base), "output": str(tmp_path / "run"), "data": {"train": str(data)},
        "training": {"max_steps": 1},
    }  # fmt: skip
    train(from_mapping(recipe), log=lambda text: None)
    code, _, err = talk("x\n", source=tmp_path / "run")
    assert code == 1
    assert "does not generate text; use lorakit predict" in " ".join(err.split())


@pytest.mark.slow
def test_a_real_model_remembers_what_was_said(talk, tmp_path):
    base = smollm2.prepared()
    if base is None:
        pytest.skip("SmolLM2 is not in the cache: python -m demo.smollm2")
    model = AutoModelForCausalLM.from_pretrained(base)
    lora.inject(model, lora.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    source = lora.save_adapter(model, tmp_path / "adapter")
    lines = "What is the capital of France?\nAnd how many people live there?\n"
    code, out, err = talk(lines, "--base", base, "--max-new-tokens", 40, source=source)
    assert code == 0, err
    first, second = out.splitlines()
    assert first == "The capital of France is Paris."
    assert "Paris" in second
    assert "<|im_end|>" not in out
