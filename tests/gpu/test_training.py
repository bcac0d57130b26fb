"""Whole trainings on the device: a loop of one's own, and transformers' Trainer, in bfloat16."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

import lorakit as lora
from lorakit.training import step_trainer
from lorakit.training.adapter_trainer import AdapterTrainer
from lorakit.training.callbacks import HealthCheck
from lorakit.training.compilation import Compilation
from lorakit.training.step_trainer import StepTrainer
from tests.tolerances import EXACT

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}


def llama() -> nn.Module:
    torch.manual_seed(1)
    config = LlamaConfig(**SIZES, num_key_value_heads=2, pad_token_id=0, initializer_range=0.2)
    return LlamaForCausalLM(config)


def bert() -> nn.Module:
    torch.manual_seed(1)
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**SIZES, **dropout, num_labels=2, initializer_range=0.2)
    return BertForSequenceClassification(config)


EXAMPLES = [
    {"input_ids": [2, word, 3 + i % 5, 1], "labels": label}
    for i in range(16)
    for label, word in enumerate((10 + i, 30 + i % 8))
]


def collate(examples: list[dict]) -> dict[str, Tensor]:
    ids = torch.tensor([example["input_ids"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_loop_of_ones_own_learns_in_bfloat16(reentrant, device, tmp_path):
    """The base in bfloat16, adapters in float32, dropout, and either kind of checkpointing."""
    model = llama().to(device, torch.bfloat16)
    lora.inject(
        model, lora.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", lora_dropout=0.1)
    )
    base = model.model.layers[0].self_attn.q_proj.weight.clone()
    enable = getattr(model, "activation_checkpointing_enable", None)  # since transformers 5.23
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})
    ids = torch.randint(3, 40, (4, 16), device=device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=True)
    losses = []
    for _ in range(8):
        loss = model.train()(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert not lora.check_training(model).stuck
    assert torch.equal(base, model.model.layers[0].self_attn.q_proj.weight)
    again = llama().to(device, torch.bfloat16)
    lora.load_adapter(again, lora.save_adapter(model, tmp_path / "adapter"))
    with torch.no_grad():
        expected = model.eval()(ids, use_cache=False).logits
        torch.testing.assert_close(again.eval()(ids, use_cache=False).logits, expected, **EXACT)


def test_merged_and_unmerged_models_generate_alike(device):
    model = llama().to(device).eval()
    lora.inject(model, lora.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    ids = torch.randint(3, 40, (2, 5), device=device)
    options = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    expected = model.generate(ids, **options)
    with lora.merged(model):
        assert torch.equal(model.generate(ids, **options), expected)


def arguments(device: torch.device, path: Path, **options) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(path),
        use_cpu=device.type == "cpu",
        max_steps=4,
        learning_rate=5e-3,
        per_device_train_batch_size=len(EXAMPLES),
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        save_steps=2,
        **options,
    )


@pytest.mark.parametrize("cls", [Trainer, AdapterTrainer, StepTrainer])
def test_transformers_trainer_trains_and_saves_an_adapter(cls, device, tmp_path):
    model = bert()
    lora.inject(
        model,
        lora.LoraConfig(
            r=4,
            target_modules=["query", "value"],
            modules_to_save=["classifier"],
            lora_dropout=0.1,
        ),
    )
    saving = "steps" if cls is AdapterTrainer else "no"
    steps = {"total_batch": len(EXAMPLES), "token_budget": 64} if cls is StepTrainer else {}
    trainer = cls(
        model,
        args=arguments(device, tmp_path / "run", bf16=True, save_strategy=saving),
        train_dataset=EXAMPLES,
        data_collator=collate,
        callbacks=[HealthCheck()],
        **steps,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert next(model.parameters()).device.type == device.type
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again = bert().to(device)
    lora.load_adapter(again, lora.save_adapter(model, tmp_path / "adapter"))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, **EXACT, msg=name)


@pytest.mark.parametrize("mixed", ["bf16", "fp16"])
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_steps_train_as_uncompiled_ones(mixed, device, tmp_path, monkeypatch):
    if device.type == "cpu":  # where inductor's code is made by a C++ compiler, which takes minutes
        if mixed == "fp16":
            pytest.skip("transformers' Trainer takes fp16 on an accelerator only")
        quick = partial(Compilation, backend="eager")
        monkeypatch.setattr(step_trainer, "Compilation", quick)
    found = {}
    for choice in ("off", "on"):
        model = bert()
        lora.inject(model, lora.LoraConfig(r=4, target_modules=["query", "value", "dense"]))
        trainer = StepTrainer(
            model,
            total_batch=len(EXAMPLES),
            token_budget=64,
            compile=choice,
            args=arguments(device, tmp_path / choice, save_strategy="no", **{mixed: True}),
            train_dataset=EXAMPLES,
            data_collator=collate,
        )
        trainer.train()
        found[choice] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.compilation is not None
    assert found["on"] == pytest.approx(found["off"], rel=2e-2)


def test_fp16_training_scales_its_loss(device, tmp_path):
    if device.type == "cpu":
        pytest.skip("transformers' Trainer takes fp16 on an accelerator only")
    model = bert()
    lora.inject(model, lora.LoraConfig(r=4, target_modules=["query", "value", "dense"]))
    trainer = Trainer(
        model,
        args=arguments(device, tmp_path, fp16=True, save_strategy="no"),
        train_dataset=EXAMPLES,
        data_collator=collate,
        callbacks=[HealthCheck()],
    )
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() > 1
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
