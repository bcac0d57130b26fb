"""What people do to models works on adapted ones: copies, files, checkpointing, compiling, DDP."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint_sequential

import lorakit as lora
from lorakit.layers.conversion import lora_layers
from tests.conftest import ROOT
from tests.injection import ddp_worker, zoo
from tests.injection.checks import assert_same, gradients, loss, outputs, q_and_v, snapshot, train
from tests.tolerances import EXACT, MODEL, TOLERANCES


def adapted(name: str, **fields: Any) -> tuple[zoo.Case, nn.Module]:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, **{"init_lora_weights": False} | fields))
    return case, model


# --- copies of the whole model


def through_torch_save(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, nn.Module)
    return loaded


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_torch_save,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ["roberta", "gpt2", "phi3", "vit", "whisper"])
def test_a_copy_computes_the_same_and_lives_alone(name: str, how: str) -> None:
    case, model = adapted(name, merge_weights=True)
    y = outputs(case, model)
    assert all(layer.merged for _, layer in lora_layers(model))
    other = COPIES[how](model)
    assert not any(layer.merged for _, layer in lora_layers(other))
    assert_close(outputs(case, other), y, **EXACT)
    assert_close(other.state_dict(), model.state_dict(), **EXACT)
    train(other, case)
    assert (outputs(case, other) - y).abs().max() > 1e-3
    assert_close(outputs(case, model), y, **EXACT)
    base = case.build()
    lora.eject(other)
    assert_close(outputs(case, other), outputs(case, base), **EXACT)
    assert {n: type(m) for n, m in other.named_modules()} == {
        n: type(m) for n, m in base.named_modules()
    }


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_attention_that_reads_weights_computes_the_same(how: str) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
    model = nn.Sequential(layer).eval()
    config = lora.LoraConfig(r=2, target_modules=["self_attn", "linear1"], init_lora_weights=False)
    lora.inject(model, config)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        assert_close(COPIES[how](model)(x), model(x), **EXACT)


@pytest.mark.parametrize("how", COPIES)
def test_ties_survive_a_copy(how: str) -> None:
    _, model = adapted("gpt2")
    other = COPIES[how](model)
    assert other.lm_head.weight is other.transformer.wte.weight


def test_an_average_of_adapters_is_fresh_and_leaves_the_base() -> None:
    """loralib averages weights that its eval() has merged (B35)."""
    case, model = adapted("roberta", merge_weights=True, modules_to_save=["classifier"])
    base = case.build()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5)).eval()
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    average.update_parameters(model)
    for _ in range(3):
        outputs(case, average.module)  # builds its cache
        train(model, case, steps=1)
        average.update_parameters(model)
        for name, parameter in model.named_parameters():
            expected[name] = (expected[name] + parameter.detach()) / 2
    for name, parameter in average.module.named_parameters():
        assert_close(parameter.detach(), expected[name], **TOLERANCES[torch.float32])
    by_hand = copy.deepcopy(model)
    by_hand.load_state_dict(expected, strict=False)
    assert_close(outputs(case, average.module), outputs(case, by_hand), **MODEL)
    with lora.disabled(average.module):
        assert_close(outputs(case, average.module), outputs(case, base), **MODEL)
    lora.eject(model)
    assert_close(model.state_dict(), base.state_dict(), **EXACT)


# --- gradient checkpointing


def training_gradients(case: zoo.Case, model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(5)
    loss(case.output(model)).backward()
    return gradients(model)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["bert", "vit", "whisper", "llama"])
def test_checkpointed_gradients_are_the_same(name: str, reentrant: bool) -> None:
    """The base is frozen, and pixels and sound need no gradient; blocks must get one anyway."""
    case, model = adapted(name, lora_dropout=0.1)
    model.train()
    expected = training_gradients(case, model)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert_close(training_gradients(case, model), expected, **TOLERANCES[torch.float32])
    assert all(grad.abs().max() > 0 for grad in expected.values())


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_gradients_of_a_plain_model_are_the_same(reentrant: bool) -> None:
    case, model = adapted("sequential", lora_dropout=0.1)
    model.train()
    expected = training_gradients(case, model)
    model.zero_grad()
    torch.manual_seed(5)
    x = case.batch()["input"].requires_grad_(reentrant)
    loss(checkpoint_sequential(model, 3, x, use_reentrant=reentrant)).backward()
    assert_close(gradients(model), expected, **EXACT)


@pytest.mark.parametrize("name", ["vit", "whisper"])
def test_nothing_of_checkpointing_is_left_after_eject(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case))
    lora.eject(model)
    assert_same(before, snapshot(model))


# --- precision and devices


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_autocast_computes_in_bfloat16_and_keeps_float32_gradients(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    with torch.autocast("cpu", torch.bfloat16):
        base = outputs(case, model)
        lora.inject(model, q_and_v(case))
        assert_close(outputs(case, model), base, **EXACT)
    for _, layer in lora_layers(model):
        nn.init.normal_(layer.lora_B, std=0.3)
    expected = outputs(case, model)
    loss(case.output(model)).backward()
    full = gradients(model)
    model.zero_grad()
    types: list[torch.dtype] = []
    for _, layer in lora_layers(model):
        layer.register_forward_hook(lambda module, args, output: types.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y = case.output(model)
    loss(y.float()).backward()
    assert set(types) == {torch.bfloat16}
    for key, grad in gradients(model).items():
        assert grad.dtype == torch.float32
        cosine = torch.cosine_similarity(grad.flatten(), full[key].flatten(), dim=0)
        assert cosine > 0.99, key
    with torch.autocast("cpu", torch.bfloat16), lora.merged(model):
        caches = {key: layer._merged for key, layer in lora_layers(model)}
    for key, layer in lora_layers(model):  # merged outside of autocast: rounded once, to float32
        update = layer.base_weight + layer.delta_weight()
        assert_close(caches[key], update.detach(), **TOLERANCES[torch.float32])
    assert_close(outputs(case, model), expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["roberta", "gpt2", "fused"])
def test_a_cast_after_injection_reaches_everything(name: str, dtype: torch.dtype) -> None:
    case, model = adapted(name, merge_weights=True, modules_to_save=None)
    expected = outputs(case, model)
    model.to(dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(layer.merged for _, layer in lora_layers(model))
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in case.batch().items()}
    with torch.no_grad():
        result = model(**batch)
    y = result if isinstance(result, Tensor) else result[0]
    assert y.dtype == dtype
    limit = MODEL if dtype == torch.float64 else {"rtol": 0.1, "atol": 0.1}
    assert_close(y.float(), expected, **limit)


def test_a_move_to_another_device_takes_the_adapters_along() -> None:
    """meta stands for a device here; a move drops what was merged."""
    case, model = adapted("roberta", merge_weights=True, modules_to_save=["classifier"])
    outputs(case, model)
    model.to("meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert not any(layer.merged for _, layer in lora_layers(model))


@pytest.mark.parametrize("name", ["sequential", "fused", "t5", "bart"])
def test_a_model_adapted_on_meta_starts_like_any_other(name: str) -> None:
    case = zoo.CASES[name]
    base = case.build()
    with torch.device("meta"):
        model = case.build()
    report = lora.inject(model, q_and_v(case))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert report.adapter_parameters == lora.inject(case.build(), q_and_v(case)).adapter_parameters
    model.to_empty(device="cpu")
    result = model.load_state_dict(base.state_dict(), strict=False)
    assert set(result.missing_keys) == factors(model)
    for key, value in base.named_buffers():  # those that no state_dict holds
        model.get_buffer(key).copy_(value)
    for _, layer in lora_layers(model):
        bound = layer.lora_A.shape[1] ** -0.5
        assert 0.5 * bound < layer.lora_A.abs().max() <= bound
        assert not layer.lora_B.any()
    assert_close(outputs(case, model), outputs(case, base), **EXACT)
    train(model, case)


# --- a base checkpoint after injection


def factors(model: nn.Module) -> set[str]:
    return {f"{name}.{leaf}" for name, _ in lora_layers(model) for leaf in ("lora_A", "lora_B")}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", zoo.CASES)
def test_a_base_checkpoint_loads_after_injection(name: str, assign: bool) -> None:
    case, model = adapted(name)
    before = outputs(case, model)
    other = case.build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.25)
    result = model.load_state_dict(other.state_dict(), strict=False, assign=assign)
    assert set(result.missing_keys) == factors(model)
    assert result.unexpected_keys == []
    assert (outputs(case, model) - before).abs().max() > 1e-3
    lora.eject(model)
    assert_close(outputs(case, model), outputs(case, other), **EXACT)


def test_an_adapted_checkpoint_loads_strictly_into_an_adapted_model() -> None:
    case, model = adapted("gpt2", modules_to_save=["ln_f"])
    train(model, case)
    other = case.build()
    lora.inject(other, q_and_v(case, modules_to_save=["ln_f"]))
    other.load_state_dict(model.state_dict())
    assert_close(outputs(case, other), outputs(case, model), **EXACT)


# --- torch.compile


@pytest.fixture
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "name", ["fused", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "gpt2"))]
)
def test_a_compiled_model_has_one_graph_and_equals_eager(name: str) -> None:
    case, model = adapted(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = training_gradients(case, model)
    assert_close(
        training_gradients(case, compiled), prefixed(expected), **TOLERANCES[torch.float32]
    )
    assert_close(outputs(case, compiled), outputs(case, model), **MODEL)
    with lora.merged(model):
        assert_close(outputs(case, compiled), outputs(case, model), **MODEL)
    with lora.disabled(model):
        assert_close(outputs(case, compiled), outputs(case, model), **MODEL)
    train(model, case, steps=1)
    assert_close(outputs(case, compiled), outputs(case, model), **MODEL)


def prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_inductors_code_equals_eager() -> None:
    case, model = adapted("bert")
    compiled = torch.compile(model, fullgraph=True)
    expected = training_gradients(case, model)
    found = training_gradients(case, compiled)
    assert_close(found, prefixed(expected), rtol=1e-3, atol=1e-3)
    assert_close(outputs(case, compiled), outputs(case, model), **MODEL)


# --- trainers


def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.injection.ddp_worker"]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for rank in range(ddp_worker.WORLD)
    ]
    errors = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    alone = ddp_worker.model()
    expected = ddp_worker.step(alone, ddp_worker.batch())
    assert expected.keys() == {name for name, p in alone.named_parameters() if p.requires_grad}
    for rank in range(ddp_worker.WORLD):
        found, state = torch.load(tmp_path / f"{rank}.pt")
        assert_close(found, expected, **TOLERANCES[torch.float32])
        assert_close(state, dict(alone.state_dict()), **TOLERANCES[torch.float32])


def test_transformers_trainer_with_its_fused_optimizer_leaves_fresh_weights(tmp_path: Path) -> None:
    """A fused step raises no version counter, so a stale cache could not be told by that."""
    case = zoo.CASES["roberta"]
    model = case.build()
    base = copy.deepcopy(model)
    lora.inject(model, q_and_v(case, merge_weights=True, modules_to_save=["classifier"]))
    batch = case.batch()
    rows = [{**{k: v[i] for k, v in batch.items()}, "labels": i} for i in range(2)] * 4
    arguments = transformers.TrainingArguments(
        str(tmp_path), learning_rate=0.05, max_steps=4, per_device_train_batch_size=2,
        eval_strategy="steps", eval_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    assert arguments.optim == "adamw_torch_fused"
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(set(losses)) == 4
    model.eval()
    with lora.merged(model):
        merged = outputs(case, model)
    by_hand = copy.deepcopy(base)
    state = model.state_dict()
    for key, layer in lora_layers(model):
        state[f"{key}.weight"] = layer.base_weight + layer.delta_weight()
    by_hand.load_state_dict({k: v for k, v in state.items() if k not in factors(model)})
    assert_close(merged, outputs(case, by_hand), **MODEL)
    assert (merged - outputs(case, base)).abs().max() > 1e-2
    lora.eject(model)
    assert_close(model.state_dict(), base.state_dict(), **EXACT)


def test_a_fused_step_in_evaluation_mode_is_seen() -> None:
    case, model = adapted("gpt2", merge_weights=True)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.1, fused=True)
    for _ in range(3):
        stale = outputs(case, model)
        for parameter in trainable:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        fresh = outputs(case, model)
        assert (fresh - stale).abs().max() > 1e-3
        plain = case.build()
        for key, layer in lora_layers(model):
            weight = plain.get_submodule(key).weight
            with torch.no_grad():
                weight += layer.delta_weight()
        assert_close(fresh, outputs(case, plain), **MODEL)


@pytest.mark.parametrize("copied", [False, True])
def test_the_trunk_of_an_image_model_is_differentiated_for_checkpointing_alone(
    copied: bool,
) -> None:
    """Otherwise backward ends at the first adapter."""
    case = zoo.CASES["vit"]
    model = case.build()
    lora.inject(model, q_and_v(case, layers_to_transform=1))
    model = copy.deepcopy(model) if copied else model
    model.train()
    seen: list[bool] = []
    model.get_input_embeddings().register_forward_hook(
        lambda _, __, output: seen.append(output.requires_grad)
    )
    case.output(model)
    model.activation_checkpointing_enable()
    case.output(model)
    model.activation_checkpointing_disable()
    case.output(model)
    assert seen == [False, True, False]
