"""LoRA+, learning rates and weight decays by name: the groups, and what a step does with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import lorakit as lora
from lorakit.errors import ConfigError
from lorakit.training import AdapterTrainer, group_parameters, train
from lorakit.training.parameter_groups import group_lines
from tests.training import tiny

BERT = BertConfig(
    vocab_size=32,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
EXAMPLES = [{"input_ids": [2, 4 + n, 3], "labels": n % 2} for n in range(16)]


def adapted(**settings: Any) -> nn.Module:
    """A small BERT with adapters on query and value, and a head."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BERT)
    given = {"r": 2, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    lora.inject(model, lora.LoraConfig(**given | settings))
    return model


def settings_of(groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every tensor, by the end of its name."""
    return {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for name, _ in group["params"]
    }


def ending(found: dict[str, Any], end: str) -> set[Any]:
    return {value for name, value in found.items() if name.endswith(end)}


MODELS = {
    "bert": lambda: BertForSequenceClassification(BERT),
    "bert with adapters": lambda: adapted(use_dora=True, bias="all"),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=32)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_without_settings_the_groups_are_those_of_transformers(name, tmp_path):
    model = MODELS[name]()
    arguments = TrainingArguments(str(tmp_path), weight_decay=0.1, report_to=[], use_cpu=True)
    trainer = Trainer(model, arguments)
    names = {id(p): n for n, p in model.named_parameters()}
    expected = {
        names[id(p)]: group["weight_decay"]
        for group in trainer.create_optimizer().param_groups
        for p in group["params"]
    }
    found = settings_of(group_parameters(model, 1e-3, 0.1))
    assert found == {n: (1e-3, decay) for n, decay in expected.items()}


def test_each_tensor_is_in_one_group_and_the_first_has_the_common_rate():
    model = adapted()
    groups = group_parameters(
        model, 1e-3, 0.1, loraplus_lr_ratio=16, learning_rate_pattern={"layer.0": 1e-4}
    )
    parameters = [p for group in groups for _, p in group["params"]]
    assert len(set(map(id, parameters))) == len(parameters)
    assert {id(p) for p in model.parameters() if p.requires_grad} == set(map(id, parameters))
    assert groups[0]["lr"] == 1e-3
    assert groups[0]["weight_decay"] == 0.1
    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)


def test_loraplus_is_a_ratio_between_the_rates_of_b_and_a():
    found = settings_of(group_parameters(adapted(), 1e-3, 0.1, loraplus_lr_ratio=16))
    assert ending(found, "lora_B") == {(1.6e-2, 0.1)}
    assert ending(found, "lora_A") == {(1e-3, 0.1)}
    assert ending(found, "classifier.bias") == {(1e-3, 0)}


def test_a_step_moves_b_by_the_ratio_and_the_rest_as_before():
    moves = []
    for ratio in (None, 16):
        model = adapted(init_lora_weights=False)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer = torch.optim.SGD(group_parameters(model, 0.1, loraplus_lr_ratio=ratio))
        model(torch.tensor([[2, 4, 3]]), labels=torch.tensor([1])).loss.backward()
        optimizer.step()
        moves.append({n: p.detach() - before[n] for n, p in model.named_parameters()})
    plain, plus = moves
    for name, move in plain.items():
        factor = 16 if name.endswith("lora_B") else 1
        # What is stored is the weight: the difference has its rounding.
        torch.testing.assert_close(plus[name], factor * move, rtol=1e-3, atol=1e-6)
    assert any(move.abs().max() > 0 for name, move in plain.items() if name.endswith("lora_B"))


def test_a_pattern_names_a_tensor_a_module_or_what_is_in_one_and_the_first_counts():
    patterns = {"layer.0.*query": 1e-5, "layer.0": 1e-4, "classifier": 5e-4, "lora_B": 1e-2}
    found = settings_of(group_parameters(adapted(), 1e-3, learning_rate_pattern=patterns))
    rates = {name.removeprefix("bert.encoder."): rate for name, (rate, _) in found.items()}
    assert rates == {
        "layer.0.attention.self.query.lora_A": 1e-5,
        "layer.0.attention.self.query.lora_B": 1e-5,
        "layer.0.attention.self.value.lora_A": 1e-4,
        "layer.0.attention.self.value.lora_B": 1e-4,
        "layer.1.attention.self.query.lora_A": 1e-3,
        "layer.1.attention.self.query.lora_B": 1e-2,
        "layer.1.attention.self.value.lora_A": 1e-3,
        "layer.1.attention.self.value.lora_B": 1e-2,
        "classifier.weight": 5e-4,
        "classifier.bias": 5e-4,
    }


def test_the_rate_of_a_pattern_is_that_of_b_too():
    patterns = {"query": 1e-4}
    groups = group_parameters(adapted(), 1e-3, loraplus_lr_ratio=16, learning_rate_pattern=patterns)
    found = settings_of(groups)
    assert ending(found, "query.lora_B") == {(1e-4, 0)}
    assert ending(found, "value.lora_B") == {(1.6e-2, 0)}


def test_a_pattern_gives_a_weight_decay_to_what_has_none():
    patterns = {"lora_.": 0.0, "classifier": 0.5}
    found = settings_of(group_parameters(adapted(), 1e-3, 0.1, weight_decay_pattern=patterns))
    assert ending(found, "lora_A") == ending(found, "lora_B") == {(1e-3, 0)}
    assert ending(found, "classifier.bias") == ending(found, "classifier.weight") == {(1e-3, 0.5)}


def test_every_pattern_without_a_match_is_told_with_the_nearest_names():
    with pytest.raises(ConfigError) as caught:
        group_parameters(
            adapted(),
            1e-3,
            learning_rate_pattern={"clasifier": 1e-4, "key": 1e-4, "query": 1e-4},
            weight_decay_pattern={"output.dense": 0.1},
        )
    one, two, three = caught.value.problems
    assert one.startswith("learning_rate_pattern: 'clasifier' matches nothing that trains")
    assert "did you mean 'classifier'" in one
    assert two == "learning_rate_pattern: 'key' matches nothing that trains"
    assert three.startswith("weight_decay_pattern: 'output.dense' matches nothing")


def test_every_value_that_is_out_of_range_is_told():
    with pytest.raises(ConfigError) as caught:
        group_parameters(
            adapted(),
            1e-3,
            loraplus_lr_ratio=0,
            learning_rate_pattern={"(": 1e-3, "query": 0, 3: 1e-3},  # type: ignore[dict-item]
            weight_decay_pattern={"query": -1},
        )
    problems = "\n".join(caught.value.problems)
    for expected in (
        "loraplus_lr_ratio is 0; it must be above 0",
        "learning_rate_pattern: '(' is not a valid regular expression",
        "learning_rate_pattern['query'] is 0; it must be above 0",
        "learning_rate_pattern: the key 3 is no name",
        "weight_decay_pattern['query'] is -1; it must be 0 or above",
    ):
        assert expected in problems


def test_a_ratio_without_adapters_is_refused():
    with pytest.raises(ConfigError, match="no adapter's B trains"):
        group_parameters(BertForSequenceClassification(BERT), 1e-3, loraplus_lr_ratio=16)


def test_the_lines_say_how_many_parameters_have_which_rate():
    groups = group_parameters(adapted(), 1e-3, 0.1, loraplus_lr_ratio=16)
    assert group_lines(groups) == [
        "learning rate 0.001, weight decay 0.1: 160 parameters in 5 tensors",
        "learning rate 0.001, weight decay 0: 2 parameters in 1 tensor",
        "learning rate 0.016, weight decay 0.1: 128 parameters in 4 tensors",
    ]


# --- in an AdapterTrainer, and in recipes


class Rates(TrainerCallback):
    """The learning rate of each group at every step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append([group["lr"] for group in kwargs["optimizer"].param_groups])


def test_an_adapter_trainer_takes_the_groups_and_its_schedule_keeps_the_ratio(tmp_path):
    model, rates = adapted(), Rates()
    optimizer = torch.optim.AdamW(group_parameters(model, 0.01, loraplus_lr_ratio=16))
    arguments = TrainingArguments(
        str(tmp_path),
        lr_scheduler_type="cosine",
        warmup_steps=2,
        max_steps=6,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    AdapterTrainer(
        model,
        arguments,
        train_dataset=EXAMPLES,
        optimizers=(optimizer, None),
        callbacks=[rates],
    ).train()
    state = torch.load(tmp_path / "checkpoint-6/optimizer.pt", weights_only=True)
    named = [group["param_names"] for group in state["param_groups"]]
    assert all(name.endswith("lora_B") for name in named[1])
    assert len(rates.seen) == 6
    assert len({a for a, _ in rates.seen}) > 3
    assert all(b == pytest.approx(16 * a) for a, b in rates.seen)


def test_a_recipe_trains_by_its_groups_and_logs_them(encoder, reviews, tmp_path):
    settings = {"loraplus_lr_ratio": 4, "learning_rate_pattern": {"classifier": 0.001}}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training=settings)
    said: list[str] = []
    trainer = tiny.trainer_of(recipe, said.append)
    groups = trainer.create_optimizer().param_groups
    found = {n: g["lr"] for g in groups for n in g["param_names"]}
    assert ending(found, "lora_A") == {0.02}
    assert ending(found, "lora_B") == {0.08}
    assert ending(found, "classifier.weight") == {0.001}
    assert said[-1].startswith("learning rate 0.001, weight decay 0: ")
    assert len(said) == len(groups)


def test_a_recipe_whose_method_has_no_adapters_refuses_a_ratio(encoder, reviews, tmp_path):
    with pytest.raises(ConfigError, match="loraplus_lr_ratio is for the adapters of method lora"):
        tiny.recipe(encoder, reviews, tmp_path, method="full", training={"loraplus_lr_ratio": 16})


def test_a_pattern_of_a_recipe_that_matches_nothing_leaves_no_run(encoder, reviews, tmp_path):
    settings = {"learning_rate_pattern": {"head_of": 0.001}}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training=settings)
    with pytest.raises(ConfigError, match="'head_of' matches nothing that trains"):
        train(recipe, lambda text: None)
    assert not (tmp_path / "run").exists()
