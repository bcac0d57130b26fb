"""From a recipe for data-to-text to texts, scores and files; decoding with an adapter alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers import logging as transformers_logging

import lorakit as lora
from lorakit.errors import ConfigError, MismatchError, MissingDependencyError
from lorakit.inference import generation
from lorakit.inference.generation import DecodingConfig, generate_rows
from lorakit.inference.session import LoadOptions, open_session
from lorakit.injection.adaptation import inject
from lorakit.models.loading import load_for_task, without_dropout
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe, to_yaml, with_settings
from lorakit.tasks.nlg import report
from lorakit.tasks.nlg import task as nlg_task
from lorakit.tasks.nlg.corpora import read_corpus
from lorakit.tasks.nlg.task import WebNLG
from lorakit.training import train
from tests.training.tiny import trainer_of
from tests.training.tiny_gpt2 import save_e2e, save_gpt2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_e2e(tmp_path_factory.mktemp("data") / "trainset.csv")


def recipe(base: Path, data: Path, output: Path, *settings: str) -> Any:
    """The recipe for GPT-2 medium on E2E, on the tiny model and data."""
    mapping = load_recipe(recipe_file("nlg-gpt2-medium"))
    small = [
        f"base={base}", f"output={output}", f"data.train={data}", "data.test=4",
        "data.validation=2", "training.epochs=1", "training.warmup_steps=1",
        "decoding.num_beams=2", "decoding.max_new_tokens=8",
    ]  # fmt: skip
    return from_mapping(with_settings(mapping, ["task=e2e", *small, *settings]))


@pytest.mark.parametrize(("size", "parameters"), [("medium", 393_216), ("large", 737_280)])
def test_the_recipes_train_the_papers_parameters(size, parameters):
    sizes = {"medium": (1024, 24, 16), "large": (1280, 36, 20)}
    width, layers, heads = sizes[size]
    mapping = with_settings(load_recipe(recipe_file(f"nlg-gpt2-{size}")), ["task=dart"])
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=heads))
    report = inject(model, from_mapping(mapping).lora)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == parameters
    assert model.transformer.h[0].attn.c_attn.lora_A.shape == (8, width)
    assert f"{parameters:,}" in str(report)


PAPER = {
    # lr, warmup, batch, epochs, decay, smoothing, dropout, beams, ngram, penalty: table 11
    "e2e": (2e-4, 500, 8, 5, 0.01, 0.1, 0.1, 10, 4, 0.9),
    "webnlg": (2e-4, 500, 8, 5, 0.01, 0.1, 0.1, 10, 4, 0.8),
    "dart": (2e-4, 500, 8, 5, 0.0, 0.0, 0.0, 10, 4, 0.8),
}


@pytest.mark.parametrize("size", ["medium", "large"])
@pytest.mark.parametrize("task", PAPER)
def test_the_recipes_have_the_papers_settings(size, task):
    mapping = with_settings(load_recipe(recipe_file(f"nlg-gpt2-{size}")), [f"task={task}"])
    found = from_mapping(mapping)
    t, d = found.training, found.decoding
    assert found.data.task == task
    assert (found.lora.r, found.lora.lora_alpha, t.schedule, t.adam_epsilon) == (
        4,
        32,
        "linear",
        1e-6,
    )
    assert (t.max_grad_norm, t.base_dropout, t.dtype) == (0, "off", "fp32")
    assert (d.stop_strings, d.new_token_limit) == (("\n\n",), 64)
    assert PAPER[task] == (
        t.learning_rate, t.warmup_steps, t.total_batch, t.epochs, t.weight_decay,
        t.label_smoothing, found.lora.lora_dropout, d.num_beams, d.no_repeat_ngram_size,
        d.length_penalty,
    )  # fmt: skip


def test_a_recipe_of_several_tasks_wants_one_of_them():
    mapping = load_recipe(recipe_file("nlg-smollm2"))
    with pytest.raises(ConfigError, match="did you mean 'dart'"):
        from_mapping(with_settings(mapping, ["task=drat"]))
    with pytest.raises(ConfigError, match="one of e2e, webnlg, dart") as caught:
        from_mapping(mapping)
    assert len(caught.value.problems) == 1
    assert from_mapping(with_settings(mapping, ["task=dart"])).decoding.num_beams == 10


def test_a_corpus_without_settings_is_decoded_as_microsoft_does_and_reads_back(tmp_path):
    mapping = {"base": "b", "output": "o", "data": {"train": "t.csv", "task": "webnlg"}}
    found = from_mapping(mapping | {"decoding": {"num_beams": 3}})
    assert (found.decoding.num_beams, found.decoding.no_repeat_ngram_size) == (3, 4)
    assert from_mapping({**mapping, "data": {"train": "t.csv"}}).decoding == DecodingConfig()
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(found), encoding="utf-8")
    assert from_mapping(load_recipe(file)) == found


def test_label_smoothing_is_the_formula_and_evaluation_has_none(base, data, tmp_path):
    trainer = trainer_of(recipe(base, data, tmp_path / "run", "lora.lora_dropout=0"))
    batch = trainer._collate([trainer.train_dataset[i] for i in range(3)])
    loss = trainer.compute_loss(trainer.model, dict(batch))
    logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    log_p = logits.logits[:, :-1].log_softmax(-1)
    targets = batch["labels"][:, 1:]
    kept = targets != -100
    nll = -log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)[kept].detach()
    expected = 0.9 * nll.mean() + 0.1 * -log_p.mean(-1)[kept].mean()
    torch.testing.assert_close(loss, expected)
    rows = [trainer.train_dataset[i] for i in range(3)]
    assert trainer.examine(rows)[0]["loss"] == pytest.approx(nll.mean().item(), rel=1e-4)


def test_only_the_adapters_have_dropout(base, data, tmp_path):
    off = trainer_of(recipe(base, data, tmp_path / "off", "lora.lora_dropout=0")).model.train()
    on = trainer_of(
        recipe(base, data, tmp_path / "on", "lora.lora_dropout=0", "training.base_dropout=on")
    ).model.train()
    ids = torch.arange(1, 30).view(1, -1)
    assert torch.equal(off(ids).logits, off(ids).logits)
    assert not torch.equal(on(ids).logits, on(ids).logits)
    assert set(without_dropout(str(base))) == {"attn_pdrop", "embd_pdrop", "resid_pdrop",
                                          "summary_first_dropout"}  # fmt: skip


def test_a_run_trains_decodes_scores_and_leaves_all_of_it(base, data, tmp_path):
    output = tmp_path / "run"
    result = train(recipe(base, data, output), log=lambda text: None)
    assert {"loss", "bleu"} <= set(result.metrics)
    test = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert len(test) == 4
    texts = (output / "predictions.txt").read_text().split("\n")
    assert texts == [*(" ".join(row["prediction"].split()) for row in test), ""]
    groups = (output / "references.txt").read_text().rstrip("\n").split("\n\n")
    assert [group.split("\n") for group in groups] == [row["references"] for row in test]
    assert f"| bleu | {result.metrics['bleu']:.4f} |" in (output / "scores.md").read_text()
    assert not list(output.glob(".*"))
    saved = open_session(str(output))
    table = read_corpus(str(data), "e2e")
    again = generate_rows(saved, table, "data", saved.recipe.decoding).texts
    by_input = dict(zip(table["input"], again, strict=True))
    assert [by_input[row["input"]] for row in test] == [row["prediction"] for row in test]


def test_a_run_that_was_interrupted_while_decoding_continues_there(
    base, data, tmp_path, monkeypatch
):
    settings = recipe(base, data, tmp_path / "run", "decoding.batch_size=1")
    asked: list[int] = []
    real = generation.generate_batch

    def stopping(*arguments: Any) -> list[str]:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(generation, "generate_batch", stopping)
    monkeypatch.setattr(report, "score", lambda *arguments: {"bleu": 0.5})
    with pytest.raises(KeyboardInterrupt):
        train(settings, log=lambda text: None)
    asked.clear()
    said: list[str] = []
    result = train(settings, log=said.append)
    assert (len(asked), result.metrics["bleu"]) == (1, 0.5)
    assert any(text.startswith("resuming from") for text in said)


def test_scores_of_webnlg_have_a_column_for_unseen_and_seen_categories(tmp_path):
    import datasets

    table = datasets.Dataset.from_dict(
        {
            "input": ["a", "b"],
            "references": [["The pub is old .", "An old pub ."], ["A cat ."]],
            "seen": [True, False],
        }
    )
    said: list[str] = []
    metrics = WebNLG().report(table, ["The pub is\nold .", "A dog sleeps ."], tmp_path, said.append)
    assert metrics["ter_seen"] == 0.0 < metrics["ter_unseen"]
    lines = (tmp_path / "scores.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = {name: values for name, *values in cells}
    assert rows["metric"] == ["all", "unseen", "seen"]
    assert rows["ter"] == [f"{metrics[name]:.4f}" for name in ("ter", "ter_unseen", "ter_seen")]
    assert (tmp_path / "predictions.txt").read_text() == "The pub is old .\nA dog sleeps .\n"
    assert (tmp_path / "references.txt").read_text() == (
        "The pub is old .\nAn old pub .\n\nA cat .\n"
    )


def test_packages_that_scores_lack_stop_a_run_before_it_trains(base, data, tmp_path, monkeypatch):
    def missing(task: str) -> None:
        raise MissingDependencyError(f"{task} needs sacrebleu")

    monkeypatch.setattr(nlg_task, "check_task", missing)
    with pytest.raises(MissingDependencyError, match="e2e needs sacrebleu"):
        train(recipe(base, data, tmp_path / "run"), log=lambda text: None)
    assert not (tmp_path / "run").exists()


def test_texts_are_written_before_they_are_scored(tmp_path, monkeypatch):
    import datasets

    def failing(*arguments: Any) -> None:
        raise OSError("METEOR stopped")

    monkeypatch.setattr(report, "score", failing)
    table = datasets.Dataset.from_dict({"input": ["a"], "references": [["A cat."]]})
    with pytest.raises(OSError, match="METEOR stopped"):
        WebNLG().report(table, ["A dog."], tmp_path, lambda text: None)
    assert (tmp_path / "predictions.txt").read_text() == "A dog.\n"


def test_a_base_with_missing_weights_is_refused(base, tmp_path):
    model = GPT2LMHeadModel.from_pretrained(base)
    model.transformer.save_pretrained(tmp_path / "whole")
    state = {
        k: v for k, v in model.state_dict().items() if "h.1.mlp" not in k and "lm_head" not in k
    }
    model.save_pretrained(tmp_path / "part", state_dict=state)
    load_for_task(str(tmp_path / "whole"), "AutoModelForCausalLM", {})
    with pytest.raises(MismatchError, match="lacks weights") as caught:
        load_for_task(str(tmp_path / "part"), "AutoModelForCausalLM", {})
    assert any("h.1.mlp.c_fc.weight" in problem for problem in caught.value.problems)


# --- microsoft/LoRA's checkpoints


@pytest.fixture(scope="module")
def released(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the form of its released GPT-2 checkpoints, with random updates."""
    draw = torch.Generator().manual_seed(3)
    state = {}
    for layer in range(2):
        name = f"module.transformer.h.{layer}.attn.c_attn"
        state[f"{name}.lora_A"] = torch.randn(8, 16, generator=draw) * 0.3
        state[f"{name}.lora_B"] = torch.randn(32, 4, generator=draw) * 0.3
    path = tmp_path_factory.mktemp("released") / "gpt2_md_lora_e2e.pt"
    torch.save({"model_state_dict": state}, path)
    return path


def by_hand(base: Path, released: Path) -> Any:
    """The base with W + 32/4 * B A added to the q and v columns of each c_attn."""
    model = GPT2LMHeadModel.from_pretrained(base).eval()
    state = torch.load(released)["model_state_dict"]
    for i, block in enumerate(model.transformer.h):
        a, b = (state[f"module.transformer.h.{i}.attn.c_attn.lora_{x}"] for x in "AB")
        with torch.no_grad():
            block.attn.c_attn.weight[:, :16] += 8 * (b[:16] @ a[:4]).T
            block.attn.c_attn.weight[:, 32:] += 8 * (b[16:] @ a[4:]).T
    return model


def test_a_released_checkpoint_computes_what_its_tensors_say_and_so_does_peft(
    base, released, tmp_path
):
    peft = pytest.importorskip("peft")
    ids = torch.arange(1, 40).view(1, -1)
    expected = by_hand(base, released)(ids).logits
    model = GPT2LMHeadModel.from_pretrained(base).eval()
    plain = model(ids).logits
    lora.load_adapter(model, str(released), lora_alpha=32)
    assert (expected - plain).abs().max() > 1e-3
    torch.testing.assert_close(model(ids).logits, expected)
    lora.save_adapter(model, tmp_path / "peft")
    exported = peft.PeftModel.from_pretrained(
        GPT2LMHeadModel.from_pretrained(base).eval(), tmp_path / "peft"
    )
    torch.testing.assert_close(exported(ids).logits, expected)


def test_a_released_checkpoint_decodes_on_its_base(base, released, data):
    saved = open_session(str(released), LoadOptions(base=str(base), lora_alpha=32, task="e2e"))
    table = read_corpus(str(data), "e2e").select(range(3))
    decoding = DecodingConfig(max_new_tokens=8, num_beams=3)
    texts = generate_rows(saved, table, "data", decoding).texts
    plain = by_hand(base, released)
    for text, ids in zip(
        texts, saved.task.prompts(saved.tokenizer, table[:])["input_ids"], strict=True
    ):
        with torch.no_grad():
            output = plain.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                num_beams=3, max_new_tokens=8, do_sample=False, pad_token_id=0,
            )  # fmt: skip
        decoded = saved.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
        assert text == decoded.strip()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers_logging.set_verbosity_error()
