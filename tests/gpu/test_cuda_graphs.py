"""CUDA graphs: a replay computes with what A and B are now, and drops anew each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import lorakit as lora
from tests.gpu.kinds import KINDS
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float32]
NAMES = ["linear", "slices", "Conv1D", "embedding", "conv2d", "DoRA"]


def captured(run: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The graph and its output, after the warm-up on another stream that torch asks for."""
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = run()
    return graph, y


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_forward_sees_writes_to_the_adapter(name, merging, cuda):
    """Also after it was captured with a merged weight at hand, which the layer has freed since."""
    kind = KINDS[name]
    model, x = kind.adapted().to(cuda).eval(), kind.input().to(cuda)
    model.layer.merge_weights = merging
    with torch.no_grad():
        graph, y = captured(lambda: model(x))
        for factor in (2.0, -0.5):
            model.layer.lora_B.mul_(factor)
            lora.refresh(model)
            torch.full_like(model.layer.weight, torch.nan)
            graph.replay()
            torch.testing.assert_close(y, model(x), **CLOSE)


def test_a_capture_leaves_no_cache_that_was_never_computed(cuda):
    model = KINDS["linear"].adapted().to(cuda).eval()
    x = KINDS["linear"].input().to(cuda)
    with torch.no_grad():
        expected = model(x)
        with lora.merged(model):
            lora.refresh(model)
            graph, _ = captured(lambda: model(x))
            lora.refresh(model)
            with torch.cuda.graph(graph := torch.cuda.CUDAGraph()):
                model(x)
            torch.testing.assert_close(model(x), expected, **CLOSE)
    del graph


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_training_step_is_an_eager_one(name, cuda):
    kind = KINDS[name]
    eager, replayed = kind.adapted().to(cuda), kind.adapted().to(cuda)
    replayed.load_state_dict(eager.state_dict())
    x = kind.input().to(cuda)

    def trained(model: nn.Module) -> list[nn.Parameter]:
        return [p for p in model.parameters() if p.requires_grad]

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    ours = torch.optim.SGD(trained(eager), lr=0.01)
    theirs = torch.optim.SGD(trained(replayed), lr=0.01)
    graph, loss = captured(lambda: step(replayed, theirs))
    replayed.load_state_dict(eager.state_dict())
    losses = []
    for _ in range(5):
        graph.replay()
        losses.append(loss.clone())
        torch.testing.assert_close(losses[-1], step(eager, ours), **CLOSE)
    assert losses[-1] < losses[0]
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(replayed.state_dict()[key], value, **CLOSE, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_every_replay_with_dropout_has_a_mask_of_its_own(name, cuda):
    kind = KINDS[name]
    model, x = kind.adapted(lora_dropout=0.5).to(cuda).train(), kind.input().to(cuda)
    graph, y = captured(lambda: model(x))
    outputs = []
    for _ in range(3):
        graph.replay()
        outputs.append(y.detach().clone())
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])


def test_a_captured_step_drops_alike_in_forward_and_backward(cuda):
    """With x = 1, W = 0 and A = B = 1 the output counts what was kept, and dx repeats it."""
    layer = lora.Linear(32, 1, r=1, lora_dropout=0.5, bias=False).to(cuda).train()
    for parameter, value in ((layer.weight, 0.0), (layer.lora_A, 1.0), (layer.lora_B, 1.0)):
        nn.init.constant_(parameter, value)
    x = torch.ones(4096, 32, device=cuda, requires_grad=True)

    def run() -> Tensor:
        x.grad = None
        y = layer(x)
        y.sum().backward()
        return y

    graph, y = captured(run)
    for _ in range(3):
        graph.replay()
        torch.testing.assert_close(y / 2, (x.grad / 2).sum(1, keepdim=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_graphed_callables_train(dropout, cuda):
    kind = KINDS["linear"]
    model = kind.adapted(lora_dropout=dropout).to(cuda).train()
    x = kind.input().to(cuda)
    # a number: a graph of autograd that lives would tie the capture to the stream that it is of
    expected = float(model(x).square().mean()) if not dropout else None
    graphed = torch.cuda.make_graphed_callables(model, (x.clone(),))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = graphed(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    if expected is not None:
        torch.testing.assert_close(losses[0], expected, rtol=1e-5, atol=0)
    assert losses[-1] < losses[0]


def test_a_merged_weight_after_replayed_steps_needs_refresh_or_a_change_of_mode(cuda):
    """A replay runs no Python: neither a counter nor a hook of the optimizer sees it."""
    layer = lora.Linear(32, 24, r=4, bias=False).to(cuda)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(8, 32, device=cuda)
    optimizer = torch.optim.SGD([layer.lora_A, layer.lora_B], lr=0.1)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = layer(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    graph, _ = captured(step)
    for again in (lambda: lora.refresh(layer), lambda: layer.train().eval()):
        layer.eval()
        with torch.no_grad():
            layer(x)
        graph.replay()
        again()
        with torch.no_grad():
            weight = layer.weight + layer.scaling * layer.lora_B @ layer.lora_A
            torch.testing.assert_close(layer(x), x @ weight.t(), **CLOSE)
