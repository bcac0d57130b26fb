"""A set on the device: rows, switching, texts, budgets and steps are what a CPU has in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lorakit as lora
from tests.adapters.files import alone, loaded_set, output, row_by_row, save_all
from tests.gpu.test_compile import backend_of
from tests.injection import zoo
from tests.tolerances import MODEL

LINEAR = ["q_proj", "v_proj", "down_proj"]
CONFIGS: dict[str, dict[str, Any]] = {
    "a": {"r": 4, "lora_alpha": 4, "target_modules": LINEAR},
    "b": {"r": 2, "lora_alpha": 3, "target_modules": LINEAR[:1]},
    "dora": {"r": 3, "lora_alpha": 3, "use_dora": True, "target_modules": LINEAR},
    "head": {"r": 2, "lora_alpha": 2, "target_modules": LINEAR[:2], "modules_to_save": ["lm_head"]},
}
NAMES = ["a", None, "dora", "b", "a", "head"]
IDS = 3 + torch.arange(6 * 7).reshape(6, 7) % 37


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    return save_all(zoo.llama, tmp_path_factory.mktemp("adapters"), CONFIGS)


def assert_is(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.cpu(), expected, **MODEL)


@pytest.mark.parametrize("moves", ["before", "after"])
def test_each_row_has_its_adapter(moves, paths, device):
    """The model is moved before it has adapters, or with them."""
    model = zoo.llama()
    if moves == "before":
        model.to(device)
    adapters, ids = loaded_set(model, paths), IDS.to(device)
    model.to(device)
    expected = row_by_row(zoo.llama, paths, NAMES, input_ids=IDS)
    for order in (range(6), [5, 2, 0, 4, 1, 3]):
        with adapters.rows([NAMES[row] for row in order]):
            assert_is(output(model, input_ids=ids[[*order]]), expected[[*order]])


def test_the_active_one_runs_also_merged(paths, device):
    model, ids = zoo.llama().to(device), IDS.to(device)
    adapters = loaded_set(model, paths)
    for name, path in paths.items():
        expected = output(alone(zoo.llama, path), input_ids=IDS)
        adapters.activate(name)
        assert_is(output(model, input_ids=ids), expected)
        with lora.merged(model):
            assert_is(output(model, input_ids=ids), expected)
    adapters.deactivate()
    assert_is(output(model, input_ids=ids), output(zoo.llama(), input_ids=IDS))


@pytest.mark.parametrize("beams", [1, 3])
def test_each_text_is_a_cpus(beams, paths, device):
    options = {"max_new_tokens": 8, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    texts = []
    for place in (torch.device("cpu"), device):
        model, ids = zoo.llama().to(place), IDS.to(place)
        with loaded_set(model, paths).rows(NAMES):
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        texts.append(found.tolist())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("host", [0, "1MiB"])
def test_those_that_come_in_have_arrived_before_they_compute(host, paths, device):
    """From a file, or from pinned memory; on CUDA on a stream of their own."""
    model, ids = zoo.llama().to(device), IDS.to(device)
    expected = {n: output(alone(zoo.llama, path), input_ids=IDS) for n, path in paths.items()}
    largest = max(loaded.nbytes for loaded in loaded_set(zoo.llama(), paths).list())
    adapters = lora.AdapterSet(model, largest, host_budget=host)
    for name, path in paths.items():
        adapters.load(name, path)
    for name in [*paths] * 3:
        adapters.prefetch([name])
        with adapters.rows([name, None] * 3):
            assert_is(output(model, input_ids=ids)[::2], expected[name][::2])


def learners(device: torch.device) -> lora.AdapterSet:
    """A set with adapters that train, of the same values on each device."""
    adapters = lora.AdapterSet(zoo.llama().to(device))
    for seed, (name, config) in enumerate(CONFIGS.items()):
        adapters.add(name, lora.LoraConfig(**config))
        torch.manual_seed(seed)
        for parameter in adapters.parameters(name):
            parameter.data += torch.randn(parameter.shape).to(device) * 0.1
    return adapters


def state(adapters: lora.AdapterSet) -> dict[str, Tensor]:
    return {
        f"{name}: {key}": parameter.detach().cpu().clone()
        for name in CONFIGS
        for key, parameter in adapters.named_parameters(name)
    }


def test_steps_move_each_as_on_a_cpu(device):
    """A and B drawn by each device's own generator are written over by the first state."""
    there, here = learners(device), learners(torch.device("cpu"))
    for name in CONFIGS:
        own = dict(here.named_parameters(name))
        for key, parameter in there.named_parameters(name):
            parameter.data.copy_(own[key])
    before = state(here)
    for adapters in (here, there):
        ids = IDS.to(next(adapters.parameters("a")).device)
        optimizers = [torch.optim.SGD(adapters.parameters(name), lr=0.1) for name in CONFIGS]
        for names in (NAMES, ["b", "a", "a", None, "b", "head"], ["dora"] * 6):
            with adapters.rows(names):
                adapters.model(ids, labels=ids, use_cache=False).loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    found, expected = state(there), state(here)
    torch.testing.assert_close(found, expected, **MODEL)
    assert all(not torch.equal(expected[key], before[key]) for key in expected)


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_step_has_eagers_gradients(device):
    adapters = learners(device)
    model: nn.Module = adapters.model
    compiled = torch.compile(model, fullgraph=True, backend=backend_of(device))
    found = []
    for run in (model, compiled):
        with adapters.rows(NAMES):
            run(input_ids=IDS.to(device), labels=IDS.to(device), use_cache=False).loss.backward()
        own = {name: [*adapters.parameters(name)] for name in CONFIGS}
        found.append({n: [p.grad.clone() for p in each] for n, each in own.items()})
        for each in own.values():
            for parameter in each:
                parameter.grad = None
    torch.testing.assert_close(found[1], found[0], **MODEL)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_trains_goes_where_the_model_goes(name, device):
    adapters, ids = learners(torch.device("cpu")), IDS.to(device)
    parameters = [*adapters.parameters(name)]
    adapters.model.to(device)
    adapters.activate(name)
    adapters.model(ids, labels=ids, use_cache=False).loss.backward()
    assert all(a is b for a, b in zip(parameters, adapters.parameters(name), strict=True))
    assert {p.device.type for p in parameters} == {device.type}
    assert {p.grad.device.type for p in parameters} == {device.type}
