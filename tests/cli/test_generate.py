"""`generate`, on a small decoder with random weights and a vocabulary of words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lorakit as lora
from lorakit.checkpoint import vllm
from lorakit.inference.generation import DecodingConfig, generate_texts
from lorakit.inference.session import LoadOptions, open_session

WORDS = [f"w{i}" for i in range(60)]
PROMPTS = ["w1 w2 w3 w4 w5 w6", "w7", "w8 w9 w10"]
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A Llama of two layers and its tokenizer."""
    directory = tmp_path_factory.mktemp("llama")
    words = ["<pad>", "<eos>", "<unk>", "user", "assistant", *WORDS]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.5, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    """An adapter of it that changes what it says."""
    model = LlamaForCausalLM.from_pretrained(base)
    config = lora.LoraConfig(
        r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    lora.inject(model, config)
    return lora.save_adapter(model, tmp_path_factory.mktemp("adapter"))


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The definition: one prompt, no padding, the most likely token again and again."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(5):
            token = model(ids).logits[0, -1].argmax()
            if token == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, token.view(1, 1)], dim=1)
    return tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


def test_a_padded_merged_batch_says_what_each_prompt_alone_says(run, base, adapter):
    code, out, err = run(
        "generate", adapter, "--base", base, "--max-new-tokens", 5, "--json",
        *(part for prompt in PROMPTS for part in ("--prompt", prompt)),
    )  # fmt: skip
    assert code == 0, err
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    model = LlamaForCausalLM.from_pretrained(base).eval()
    plain = [greedy(model, tokenizer, prompt) for prompt in PROMPTS]
    lora.load_adapter(model, adapter)
    adapted = [greedy(model, tokenizer, prompt) for prompt in PROMPTS]
    assert json.loads(out)["generated"] == adapted
    assert adapted != plain


def test_rows_of_a_file_keep_their_order(run, base, adapter, tmp_path):
    data, output = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps({"q": prompt}) + "\n" for prompt in PROMPTS))
    code, out, err = run(
        "generate", adapter, "--base", base, "--data", data, "--column", "q",
        "--output", output, "--max-new-tokens", 5,
    )  # fmt: skip
    assert code == 0, err
    assert "3 rows with their completions" in out
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["q"] for row in rows] == PROMPTS
    saved = open_session(str(adapter), LoadOptions(base=str(base)), default_task="generation")
    assert [r["prediction"] for r in rows] == generate_texts(
        saved, PROMPTS, DecodingConfig(5)
    ).texts


@pytest.mark.parametrize("several", [False, True])
def test_column_of_predictions_is_in_the_way_of_a_file_alone(run, base, adapter, tmp_path, several):
    data = tmp_path / "prompts.jsonl"
    data.write_text(json.dumps({"q": PROMPTS[0], "prediction": "old", "adapter": "a"}) + "\n")
    source = ["--adapter", f"a={adapter}"] if several else [adapter]
    asked = (*source, "--base", base, "--data", data, "--column", "q", "--max-new-tokens", 5)
    code, out, err = run("generate", *asked, "--json")
    assert code == 0, err
    assert len(json.loads(out)["generated"]) == 1
    code, _, err = run("generate", *asked, "--output", tmp_path / "out.jsonl")
    assert code == 1
    assert "has a column 'prediction' already" in err


def test_drawing_repeats_with_the_seed(base, adapter):
    saved = open_session(str(adapter), LoadOptions(base=str(base)), default_task="generation")
    draw = [generate_texts(saved, PROMPTS, DecodingConfig(8, 1.5, seed=s)).texts for s in (1, 1, 2)]
    assert draw[0] == draw[1] != draw[2]


def test_a_chat_prompt_goes_through_the_template(base, adapter):
    asked = LoadOptions(base=str(base), task="chat")
    saved = open_session(str(adapter), asked)
    saved.tokenizer.chat_template = TEMPLATE
    chat = generate_texts(saved, ["w1 w2"], DecodingConfig(5)).texts
    plain = open_session(str(adapter), LoadOptions(base=str(base)), default_task="generation")
    assert chat == generate_texts(plain, ["user w1 w2 assistant"], DecodingConfig(5)).texts


def test_a_prompt_that_is_too_long_loses_its_beginning_and_says_so(run, base, adapter):
    code, out, err = run(
        "generate", adapter, "--base", base, "--prompt", "w1 " * 90, "--max-new-tokens", 4
    )
    assert code == 0, err
    assert "1 row truncated to the maximum length" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Pass --prompt TEXT, or --data FILE"),
        (("--prompt", "w1", "--max-new-tokens", 64), "none is left for the prompt"),
        (("--prompt", "w1", "--top-p", 0, "--temperature", -1), "temperature is -1"),
        (("--prompt", "w1", "--column", "q"), "a file, which --prompt does not read; leave it"),
        (("--prompt", "w1", "--task", "poem"), "task is 'poem'"),
    ],
)
def test_generate_refuses_what_it_cannot_do(run, base, adapter, arguments, message):
    code, _, err = run("generate", adapter, "--base", base, *arguments)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("task", ["generation", "chat"])
def test_predict_says_at_once_that_a_generating_task_is_for_generate(run, base, adapter, task):
    code, _, err = run("predict", adapter, "--base", base, "--task", task, "--text", "w1")
    assert code == 1
    assert "has no labels to predict; use lorakit generate." in err
    assert "columns" not in err


def test_vllm_is_offered_only_what_it_takes(base):
    def obstacles(**settings: object) -> list[str]:
        model = LlamaForCausalLM.from_pretrained(base)
        lora.inject(model, lora.LoraConfig(r=4, lora_alpha=8, **settings))
        from lorakit.injection.transfer.saving import bundle_of

        return vllm.obstacles(bundle_of(model))

    targets = ["q_proj", "v_proj"]
    assert obstacles(target_modules=targets) == []
    assert obstacles(target_modules=targets, use_rslora=True) == []
    assert obstacles(target_modules=targets, use_dora=True) == ["it uses DoRA"]
    assert obstacles(target_modules=targets, alpha_pattern={"q_proj": 16}) == [
        "its layers differ in their scaling (lora_alpha / r), which not every release of vLLM "
        "reads (lorakit convert --to vllm gives them one)"
    ]
    assert obstacles(target_modules=targets, rank_pattern={"v_proj": 2}) == [
        "its layers differ in their scaling (lora_alpha / r), which not every release of vLLM "
        "reads (lorakit convert --to vllm gives them one)"
    ]
    assert obstacles(target_modules=targets, modules_to_save=["model.norm"]) == [
        "it contains fully trained modules (model.norm)"
    ]
    assert obstacles(target_modules=["q_proj", "embed_tokens"]) == [
        "it adapts layers that are not linear"
    ]
    assert obstacles(target_modules=targets, trainable_token_indices=[5]) == [
        "it trains rows of the vocabulary (trainable_token_indices)"
    ]


def test_on_a_terminal_one_prompt_comes_word_by_word(run, base, adapter, monkeypatch):
    asked = ("generate", adapter, "--base", base, "--max-new-tokens", 5)
    one, parts = ("--prompt", PROMPTS[0]), []
    piped = run(*asked, *one)[1]
    monkeypatch.setattr("lorakit.cli.generate.print_part", parts.append)
    assert run(*asked, *one)[1] == piped
    assert parts == []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*asked, *one)[1] == "\n"
    assert "".join(parts) == piped.rstrip("\n")
    assert len(parts) == len(piped.split())
    assert json.loads(run(*asked, *one, "--json")[1])["generated"] == ["".join(parts)]
    assert run(*asked, *one, "--prompt", PROMPTS[1])[1].startswith("".join(parts))
