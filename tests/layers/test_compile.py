"""torch.compile and torch.export: one graph, and what eager gives."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers import conversion
from lorakit.layers.base import AdapterLayer
from tests.tolerances import EXACT, TOLERANCES

CLOSE = TOLERANCES[torch.float32]
QV = [True, False, True]
LAYERS: dict[str, Callable[[], AdapterLayer]] = {
    "linear": partial(lora.Linear, 8, 12, r=2),
    "linear transposed": partial(lora.Linear, 8, 12, r=2, fan_in_fan_out=True),
    "slices": partial(lora.MergedLinear, 8, 12, r=2, enable_lora=QV),
    "embedding": partial(lora.Embedding, 9, 8, r=2),
    "conv1d": partial(lora.Conv1d, 4, 6, 3, r=2),
    "conv2d": partial(lora.Conv2d, 4, 6, 3, r=2),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(params=LAYERS)
def layer(request) -> AdapterLayer:
    layer = LAYERS[request.param]()
    nn.init.normal_(layer.lora_A)
    nn.init.normal_(layer.lora_B)
    return layer


def example(layer: AdapterLayer) -> Tensor:
    if isinstance(layer, lora.Embedding):
        return torch.arange(9).reshape(3, 3)
    return torch.randn({lora.Conv1d: (2, 4, 7), lora.Conv2d: (2, 4, 5, 5)}.get(type(layer), (5, 8)))


def compiled(layer: nn.Module, backend: str = "aot_eager") -> Callable[..., Tensor]:
    """With `fullgraph` a graph break is an error."""
    return torch.compile(layer, fullgraph=True, backend=backend)


def gradients(forward: Callable[..., Tensor], layer: AdapterLayer, x: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    forward(x).square().sum().backward()
    return {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("training", [True, False])
def test_compiled_training_gives_eagers_output_and_gradients(layer, training):
    layer.train(training)
    x = example(layer)
    forward = compiled(layer)
    assert_close(forward(x), layer(x), **CLOSE)
    found, expected = gradients(forward, layer, x), gradients(layer, layer, x)
    assert found.keys() == expected.keys() >= {"lora_A", "lora_B"}
    for name, value in found.items():
        assert_close(value, expected[name], rtol=1e-5, atol=1e-4, msg=name)


def test_compiled_inference_is_right_with_and_without_the_cache(layer):
    x = example(layer)
    layer.eval()
    expected = layer(x).detach()
    forward = compiled(layer)
    with torch.no_grad():
        assert_close(forward(x), expected, **CLOSE)
        assert not layer.merged  # compiled code only reads it
        layer.build_cache()
        assert layer.merged
        assert_close(forward(x), layer(x), **EXACT)
        assert_close(forward(x), expected, **CLOSE)


def test_compiled_inference_reads_the_cache_that_is_there_now(layer):
    x = example(layer)
    layer.eval()
    forward = compiled(layer)
    optimizer = AdamW([layer.lora_A, layer.lora_B], lr=0.1, fused=True)
    with torch.no_grad():
        layer.build_cache()
        before = forward(x)
    for rebuild in (True, False):
        for parameter in (layer.lora_A, layer.lora_B):
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        expected = layer(x).detach()
        with torch.no_grad():
            if rebuild:
                layer.build_cache()
            assert layer.merged == rebuild
            assert_close(forward(x), expected, **CLOSE)
        assert not torch.allclose(expected, before)


def scale(layer: AdapterLayer) -> None:
    layer.lora_alpha = 7


def set_scaling(layer: AdapterLayer) -> None:
    layer.scaling = 7.0


def in_place(layer: AdapterLayer) -> None:
    layer.lora_A.mul_(-2)


def through_data(layer: AdapterLayer) -> None:
    layer.lora_B.data.mul_(-2)


def new_parameter(layer: AdapterLayer) -> None:
    layer.lora_A = nn.Parameter(torch.randn_like(layer.lora_A))


CHANGES = [scale, set_scaling, in_place, through_data, new_parameter]


def assert_seen_while_merged(
    layer: AdapterLayer, changes: list[Callable[[AdapterLayer], None]], backend: str
) -> None:
    model, x = nn.Sequential(layer).eval(), example(layer)
    forward = compiled(model, backend)
    with torch.no_grad(), lora.merged(model):
        for change in changes:
            before = forward(x)
            assert_close(before, model(x), **EXACT)
            change(layer)
            after = forward(x)
            with torch.enable_grad():
                assert_close(after, layer(x).detach(), **CLOSE)
            assert not torch.allclose(after, before)
            layer.build_cache()


@pytest.mark.parametrize("change", CHANGES)
def test_compiled_code_sees_a_change_while_merged(layer, change):
    assert_seen_while_merged(layer, [change], "aot_eager")


def test_the_default_compiler_sees_each_change_while_merged():
    layer = lora.MergedLinear(8, 12, r=2, enable_lora=QV)
    nn.init.normal_(layer.lora_B)
    assert_seen_while_merged(layer, CHANGES, "inductor")


def test_one_compiled_model_goes_through_training_and_evaluation(layer):
    x = example(layer)
    forward = compiled(layer)
    optimizer = AdamW([layer.lora_A, layer.lora_B], lr=0.1, fused=True)
    for _ in range(3):
        layer.train()
        gradients(forward, layer, x)
        optimizer.step()
        layer.eval()
        with torch.no_grad():
            layer.build_cache()
            assert_close(forward(x), layer(x), **EXACT)
        assert_close(forward(x), layer(x), **CLOSE)


@pytest.mark.parametrize("active", [True, False])
def test_compiled_code_follows_the_switches(layer, active):
    x = example(layer)
    layer.eval()
    forward = compiled(layer)
    forward(x)
    layer.active = active
    layer.lora_alpha = 5
    assert_close(forward(x), layer(x), **CLOSE)


def test_compiled_dora_follows_the_scale():
    """A scale that has changed is a variable of compiled code."""
    layer = lora.Linear(8, 12, r=2, variant="dora").eval()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 8)
    forward = compiled(layer)
    for alpha in (1, 3, 7):
        layer.lora_alpha = alpha
        assert_close(forward(x), layer(x), **CLOSE)


def test_a_compiled_optimizer_step_is_noticed_too():
    layer = lora.Linear(8, 12, r=2).eval()
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 8)
    optimizer = AdamW([layer.lora_A, layer.lora_B], lr=0.1)
    step = torch.compile(optimizer.step, backend="aot_eager")
    for _ in range(2):
        layer(x).sum().backward()
        with torch.no_grad():
            before = layer(x)
        assert layer.merged
        step()
        with torch.no_grad():
            after = layer(x)
        assert_close(after, layer(x).detach(), **CLOSE)
        assert not torch.allclose(after, before)


def test_compiled_dropout_equals_eager_in_distribution():
    layer = lora.Linear(8, 12, r=2, lora_dropout=0.5)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(1, 8)
    with torch.no_grad():
        samples = compiled(layer)(x.expand(40_000, 8)).double()
        expected = layer.eval()(x).double()
    error = samples.std(0) / 200
    assert ((samples.mean(0) - expected[0]).abs() < 5 * error).all()
    assert (samples.std(0) > 0.01).all()


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_export_gives_a_program_with_the_same_output(layer, grad, cached):
    x = example(layer)
    layer.eval()
    expected = layer(x).detach()
    if cached:
        layer.build_cache()
    with torch.set_grad_enabled(grad):
        program = torch.export.export(layer, (x,))
        y = program.module()(x)
    assert_close(y.detach(), expected, **CLOSE)
    names = {name for name, _ in layer.named_parameters()}
    assert set(program.graph_signature.parameters) == names
    assert not program.constants  # no merged weight, which would hide A and B
    assert_close(layer(x).detach(), expected, **EXACT)


@pytest.mark.slow
def test_the_default_compiler_gives_eagers_output_and_gradients(layer):
    x = example(layer)
    forward = compiled(layer, "inductor")
    found, expected = gradients(forward, layer, x), gradients(layer, layer, x)
    for name, value in found.items():
        assert_close(value, expected[name], rtol=1e-5, atol=1e-4, msg=name)
    layer.eval()
    with torch.no_grad():
        layer.build_cache()
        assert_close(forward(x), layer(x), **CLOSE)


def test_the_default_compiler_keeps_the_scale():
    """Inductor folds `add(y, a @ b, alpha=s)` of matrices into an addmm without s (torch 2.13)."""
    layer = lora.Linear(8, 12, r=2, lora_alpha=7)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 8)
    with torch.no_grad():
        assert_close(compiled(layer, "inductor")(x), layer(x), **CLOSE)


@pytest.mark.parametrize("kind", ["layer", "injected", "subclass", "head"])
def test_copies_of_a_compiled_layer_run_their_own_weights(kind: str) -> None:
    """As of nn.Linear, whose copies are not compiled."""
    layer = COMPILED[kind]()
    x = torch.randn(5, 8)
    layer.compile(backend="eager")
    before = layer(x).detach()
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)]
    for made in copies[:2]:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(1)
        assert not torch.allclose(made(x), before)
        assert_close(made(x), nn.Sequential(made)(x), **EXACT)
    for made in (layer, copies[2]):
        assert_close(made(x).detach(), before, **EXACT)


class Own(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight, self.bias)


def injected(module: nn.Module, **fields: object) -> nn.Module:
    model = nn.Sequential(module)
    lora.inject(model, lora.LoraConfig(r=2, **{"target_modules": ["0"]} | fields))
    return model[0]


def subclass() -> nn.Module:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "ADAPTED", dict(conversion.ADAPTED))
        patch.setattr(conversion, "_REGISTERED", set(conversion._REGISTERED))
        lora.layers.register(Own, lora.Linear)
        return injected(Own(8, 12))


def head() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 12))
    config = lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"])
    lora.inject(model, config)
    return model[1]


COMPILED: dict[str, Callable[[], nn.Module]] = {
    "layer": partial(lora.Linear, 8, 12, r=2),
    "injected": lambda: injected(nn.Linear(8, 12)),
    "subclass": subclass,
    "head": head,
}
