"""`merged`, `disabled` and `refresh`: another way to run for a while, and back to the same."""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from lorakit.layers.conversion import lora_layers
from tests.injection import zoo
from tests.injection.checks import (
    assert_same,
    gradients,
    loss,
    outputs,
    q_and_v,
    slow_delta,
    snapshot,
    train,
)
from tests.layers.test_cache import where_unseen
from tests.tolerances import EXACT, MODEL


def adapted(name: str = "roberta", **fields: Any) -> tuple[zoo.Case, nn.Module]:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, **{"init_lora_weights": False} | fields))
    return case, model


def caches(model: nn.Module) -> list[bool]:
    return [layer.merged for _, layer in lora_layers(model)]


# --- merged


@pytest.mark.parametrize("name", zoo.CASES)
def test_merged_outputs_are_the_unmerged_ones(name: str) -> None:
    case, model = adapted(name)
    expected = outputs(case, model)
    with lora.merged(model):
        assert all(caches(model))
        assert_close(outputs(case, model), expected, **MODEL)
    assert not any(caches(model))
    assert_close(outputs(case, model), expected, **EXACT)


def test_merged_layers_do_the_work_of_plain_ones() -> None:
    """The same operations as a model whose weights are the sum."""
    case, model = adapted("llama")
    plain = case.build()
    for key, layer in lora_layers(model):
        plain.get_submodule(key).weight = nn.Parameter(layer.base_weight + layer.delta_weight())
    with lora.merged(model):
        assert_close(outputs(case, model), outputs(case, plain), **EXACT)


def test_merged_writes_nothing_into_the_state() -> None:
    case, model = adapted()
    before = snapshot(model)
    with lora.merged(model):
        outputs(case, model)
        assert_close(model.state_dict(), before["values"], **EXACT)
    assert_same(before, snapshot(model))


def test_merged_forwards_with_gradients_reach_a_and_b() -> None:
    case, model = adapted()
    loss(case.output(model)).backward()
    expected = gradients(model)
    model.zero_grad()
    with lora.merged(model):
        loss(case.output(model)).backward()
        assert_close(gradients(model), expected, **EXACT)


def test_merged_sees_an_optimizer_step_inside() -> None:
    case, model = adapted()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.1, fused=True)
    with lora.merged(model):
        old = outputs(case, model)
        loss(case.output(model)).backward()
        optimizer.step()
        merged = outputs(case, model)
    assert (merged - old).abs().max() > 1e-3
    assert_close(merged, outputs(case, model), **MODEL)


def test_merged_refuses_training_mode() -> None:
    _, model = adapted()
    model.train()
    with (
        pytest.raises(StateError, match=r"call model\.eval\(\) before merging"),
        lora.merged(model),
    ):
        pass
    assert not any(layer.merging or layer.merge_weights for _, layer in lora_layers(model))


@pytest.mark.parametrize("switch", [lora.merged, lora.disabled])
def test_an_exception_inside_leaves_nothing_switched(switch: Any) -> None:
    case, model = adapted(modules_to_save=["classifier"])
    train(model, case)
    model.zero_grad()
    before, y = snapshot(model), outputs(case, model)
    with pytest.raises(KeyError, match="inside"), switch(model):
        raise KeyError("inside")
    assert_same(before, snapshot(model))
    assert not any(caches(model))
    assert_close(outputs(case, model), y, **EXACT)


def test_a_failure_while_merging_leaves_nothing_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = adapted()
    last = [layer for _, layer in lora_layers(model)][-1]

    def out_of_memory(self: Any) -> None:
        if self is last:
            raise MemoryError("no room for the cache")

    monkeypatch.setattr(type(last), "build_cache", out_of_memory)
    with pytest.raises(MemoryError, match="no room"), lora.merged(model):
        pass
    assert not any(caches(model))
    assert not any(layer.merging or layer.merge_weights for _, layer in lora_layers(model))


def test_merged_nests_and_keeps_what_the_config_allowed() -> None:
    case, model = adapted(merge_weights=True)
    with lora.merged(model):
        with lora.merged(model):
            pass
        assert all(caches(model))
    assert all(layer.merge_weights for _, layer in lora_layers(model))
    case, model = adapted()
    with lora.merged(model):
        with lora.merged(model):
            pass
        outputs(case, model)
        assert all(caches(model))
    assert not any(layer.merging or layer.merge_weights for _, layer in lora_layers(model))


# --- what merging costs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_the_merge_report_measures_the_rounding(name: str, dtype: torch.dtype) -> None:
    """||(round(W + dW) - W) - dW|| / ||dW||, by hand in float64."""
    case = zoo.CASES[name]
    model = case.build().to(dtype)
    lora.inject(model, q_and_v(case, lora_alpha=0.05, init_lora_weights=False))
    expected = {}
    for key, layer in lora_layers(model):
        update = slow_delta(layer).detach().double()
        weight = layer.base_weight.detach().double()
        kept = (weight + update).to(dtype).double() - weight
        expected[key] = float((kept - update).norm() / update.norm())
    with lora.merged(model) as report:
        assert report.rounding.keys() == expected.keys()
        for key, share in expected.items():
            # in float32 the measurement itself has the rounding that it measures
            assert report.rounding[key] == pytest.approx(
                share, rel=1e-3 if dtype != torch.float32 else 1
            )
    assert report.worst_rounding == max(report.rounding.values())
    if dtype == torch.float32:
        assert 0 < report.worst_rounding < 1e-4
    else:
        assert report.worst_rounding > 1e-2


def test_the_merge_report_counts_the_bytes_of_the_caches() -> None:
    _, model = adapted("gpt2")
    with lora.merged(model) as report:
        assert report.cache_bytes == 2 * 16 * 48 * 4
        assert report.cache_bytes == sum(layer._merged.nbytes for _, layer in lora_layers(model))


def test_an_update_of_zero_loses_nothing() -> None:
    _, model = adapted(init_lora_weights=True)
    with lora.merged(model) as report:
        assert set(report.rounding.values()) == {0.0}


# --- disabled


@pytest.mark.parametrize("name", zoo.CASES)
@pytest.mark.parametrize("training", [False, True])
def test_disabled_gives_the_bases_output(name: str, training: bool) -> None:
    case = zoo.CASES[name]
    model = case.build().train(training)
    torch.manual_seed(0)
    base = outputs(case, model)
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    with lora.disabled(model):
        torch.manual_seed(0)
        assert_close(outputs(case, model), base, **EXACT)


def test_disabled_covers_trained_heads_biases_and_norms() -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    base = outputs(case, model)
    fields = {"modules_to_save": ["classifier", "LayerNorm"], "bias": "all"}
    lora.inject(model, q_and_v(case, **fields))
    train(model, case)
    before, trained = snapshot(model), outputs(case, model)
    assert (trained - base).abs().max() > 1e-2
    with lora.disabled(model):
        assert_close(outputs(case, model), base, **EXACT)
    assert_same(before, snapshot(model))
    assert_close(outputs(case, model), trained, **EXACT)


def test_disabled_nests() -> None:
    case, model = adapted(modules_to_save=["classifier"])
    train(model, case)
    y = outputs(case, model)
    with lora.disabled(model):
        base = outputs(case, model)
        with lora.disabled(model):
            assert_close(outputs(case, model), base, **EXACT)
        with lora.disabled(model.roberta):
            pass
        assert_close(outputs(case, model), base, **EXACT)
    assert_close(outputs(case, model), y, **EXACT)


def test_disabled_and_merged_nest_either_way() -> None:
    case, model = adapted()
    expected = outputs(case, model)
    with lora.disabled(model):
        base = outputs(case, model)
        with lora.merged(model):
            assert_close(outputs(case, model), base, **EXACT)
    with lora.merged(model):
        with lora.disabled(model):
            assert_close(outputs(case, model), base, **EXACT)
        assert_close(outputs(case, model), expected, **MODEL)
    assert_close(outputs(case, model), expected, **EXACT)
    assert not any(layer.merging or layer.merge_weights for _, layer in lora_layers(model))


def test_disabled_layers_give_no_gradient_to_a_and_b() -> None:
    case, model = adapted()
    with lora.disabled(model):
        y = case.output(model)
    assert not y.requires_grad


def test_saving_inside_disabled_is_refused(tmp_path: Any) -> None:
    """The heads in place are the base's there."""
    _, model = adapted(modules_to_save=["classifier"])
    with lora.disabled(model), pytest.raises(StateError, match="The adapters are disabled"):
        lora.save_adapter(model, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


# --- threads


@pytest.mark.parametrize("switch", [lora.merged, lora.disabled])
def test_overlapping_threads_leave_the_model_as_it_was(switch: Any) -> None:
    """The first to come may be the first to go; the switch is off after the last."""
    case, model = adapted(modules_to_save=["classifier"])
    train(model, case)
    model.zero_grad()
    before, y = snapshot(model), outputs(case, model)
    inside, leave = threading.Event(), threading.Event()
    results: list[torch.Tensor] = []

    def other() -> None:
        with switch(model):
            inside.set()
            leave.wait(10)
            results.append(outputs(case, model))

    thread = threading.Thread(target=other)
    with switch(model):
        expected = outputs(case, model)
        thread.start()
        assert inside.wait(10)
    leave.set()
    thread.join()
    assert_close(results, [expected], **EXACT)
    assert_same(before, snapshot(model))
    assert_close(outputs(case, model), y, **EXACT)


@pytest.mark.parametrize("switch", [lora.merged, lora.disabled])
def test_many_threads_at_once_compute_the_same(switch: Any) -> None:
    case, model = adapted("gpt2")
    y = outputs(case, model)
    with switch(model):
        expected = outputs(case, model)
    results: list[torch.Tensor] = []

    def run() -> None:
        for _ in range(5):
            with switch(model):
                results.append(outputs(case, model))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_close(results, [expected] * 20, **EXACT)
    assert_close(outputs(case, model), y, **EXACT)
    assert not any(layer.merging or layer.merge_weights for _, layer in lora_layers(model))


# --- refresh


def test_refresh_drops_what_an_invisible_edit_made_stale() -> None:
    case, model = adapted(merge_weights=True)
    stale = outputs(case, model)
    layer = next(layer for _, layer in lora_layers(model))
    layer.base_weight.detach().numpy()[...] += where_unseen(layer.base_weight).numpy()
    assert_close(outputs(case, model), stale, **EXACT)  # nobody can see it
    lora.refresh(model)
    assert not any(caches(model))
    fresh = outputs(case, model)
    assert (fresh - stale).abs().max() > 1e-3
    for _, each in lora_layers(model):
        each.merge_weights = False
    assert_close(fresh, outputs(case, model), **MODEL)


def use(switch: Any, model: nn.Module) -> None:
    with switch(model) or nullcontext():
        pass


@pytest.mark.parametrize("switch", [lora.merged, lora.disabled, lora.refresh])
def test_a_plain_model_has_nothing_to_switch(switch: Any) -> None:
    with pytest.raises(StateError, match="This BertModel has no adapters"):
        use(switch, zoo.bert())


def copies_of(model: nn.Module) -> dict[str, nn.Module]:
    return {
        "deepcopy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
    }


@pytest.mark.parametrize("switch", [lora.merged, lora.disabled])
def test_a_copy_made_inside_is_not_switched(switch: Any) -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    before = outputs(case, model)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="lora_only"))
    train(model, case)
    model.eval()
    expected, state = outputs(case, model), model.state_dict()
    with switch(model):
        made = copies_of(model)
    assert_close(outputs(case, model), expected, **EXACT)
    for kind, copied in made.items():
        assert not any(layer.merging or not layer.active for _, layer in lora_layers(copied)), kind
        assert not any(caches(copied)), kind
        assert_close(outputs(case, copied), expected, **EXACT)
        assert_close(copied.state_dict(), state, **EXACT)
        with lora.disabled(copied):
            assert_close(outputs(case, copied), before, **EXACT)
        assert not any(caches(copied))
        lora.eject(copied)
        assert_close(outputs(case, copied), before, **EXACT)
        assert not any("__reduce_ex__" in module.__dict__ for module in copied.modules())
