"""Everything that a program may do to an adapted layer, as steps that can be put in any order.

A sequence is a list of (name of a step, seed); each step draws from its own seed alone, so leaving
others out changes nothing of it, and a failing sequence can be made shorter.
"""

from __future__ import annotations

import copy
import pickle
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers import merged_weight
from lorakit.layers.base import AdapterLayer
from lorakit.layers.weight_mark import sample
from tests.layers.test_cache import example, slow_forward
from tests.layers.test_cache_writes import (
    MovingAverage,
    by_all_reduce,
    by_broadcast,
    by_receive,
    by_scatter,
)
from tests.tolerances import TOLERANCES

F64 = {"dtype": torch.float64}
KINDS: dict[str, Callable[[], AdapterLayer]] = {
    "linear": partial(lora.Linear, 8, 12, r=2, **F64),
    "transposed": partial(lora.Linear, 8, 12, r=2, fan_in_fan_out=True, **F64),
    "slices": partial(lora.MergedLinear, 8, 12, r=2, enable_lora=[True, False, True], **F64),
    "embedding": partial(lora.Embedding, 9, 8, r=2, **F64),
    "conv1d": partial(lora.Conv1d, 4, 6, 3, r=2, **F64),
    "conv2d": partial(lora.Conv2d, 4, 6, 3, r=2, **F64),
    "dora": partial(lora.Linear, 8, 12, r=2, variant="dora", **F64),
}


class World:
    """A layer in a model, and what else a program has of it."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.layer = KINDS[kind]()
        self.model = nn.Sequential(self.layer).eval()
        with torch.no_grad():
            for name in self.layer.tensor_names:
                getattr(self.layer, name).normal_().abs_().add_(0.1)
        self.x = example(self.layer)
        self.held: list[object] = []
        """Tensors, models and optimizers that stay alive, so that addresses are not all free."""
        self.blocks: list[AbstractContextManager[object]] = []
        self.off = 0
        self.average: MovingAverage | None = None
        self.vector: Tensor | None = None
        self.forward: Callable[[Tensor], Tensor] | None = None

    def name(self, draw: random.Random) -> str:
        return draw.choice([self.layer.weight_name, *self.layer.tensor_names])

    def tensor(self, draw: random.Random) -> Tensor:
        tensor: Tensor = getattr(self.layer, self.name(draw))
        return tensor

    def parameters(self, draw: random.Random) -> list[Any]:
        """Some of the layer's, A and B more often than W."""
        own = [getattr(self.layer, name) for name in self.layer.tensor_names]
        return own if draw.random() < 0.7 else [self.layer.base_weight, *own]

    def close(self) -> None:
        while self.blocks:
            self.blocks.pop().__exit__(None, None, None)

    def expected(self) -> Tensor:
        """The definition in float64."""
        layer = self.layer
        if self.off:
            weight = layer.base_weight.detach()
            return layer.plain(self.x, weight)
        if layer.spec.variant == "dora":
            w, a, b, m = (p.detach() for p in (layer.weight, *layer.adapter_tensors()))
            v = w + layer.scaling * b @ a
            rows = m[:, None] * v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
            return F.linear(self.x, rows, layer.bias)
        alpha = layer.lora_alpha
        layer.__dict__["spec"] = _with_alpha(layer, layer.scaling * layer.r)
        try:
            return slow_forward(layer, self.x)
        finally:
            layer.__dict__["spec"] = _with_alpha(layer, alpha)

    def check(self, forward: Callable[[Tensor], Tensor] | None = None) -> None:
        y = (forward or self.model)(self.x)
        assert_close(y.detach(), self.expected().detach(), **TOLERANCES[torch.float64])


def _with_alpha(layer: AdapterLayer, alpha: float) -> Any:
    from dataclasses import replace

    return replace(layer.spec, lora_alpha=alpha)


Step = Callable[[World, random.Random], None]

# --- looking


def look(world: World, _: random.Random) -> None:
    with torch.no_grad():
        world.check()


def look_in_inference_mode(world: World, _: random.Random) -> None:
    with torch.inference_mode():
        world.check()


def look_with_gradients(world: World, _: random.Random) -> None:
    world.check()


def look_in_another_thread(world: World, _: random.Random) -> None:
    """Where nothing is disabled."""
    errors: list[BaseException] = []

    def run() -> None:
        off, world.off = world.off, 0
        try:
            with torch.no_grad():
                world.check()
        except BaseException as error:
            errors.append(error)
        world.off = off

    in_a_thread(run)
    if errors:
        raise errors[0]


def look_through_compiled_code(world: World, _: random.Random) -> None:
    if world.forward is None:
        world.forward = torch.compile(world.model, backend="eager", fullgraph=True)
    with torch.no_grad():
        world.check(world.forward)


def read_merged(world: World, _: random.Random) -> None:
    with torch.no_grad():
        world.layer.build_cache()


# --- states


def train(world: World, _: random.Random) -> None:
    if not world.blocks:
        world.model.train()


def evaluate(world: World, _: random.Random) -> None:
    world.model.eval()


def allow(world: World, draw: random.Random) -> None:
    world.layer.merge_weights = draw.random() < 0.8


def enter_merged(world: World, _: random.Random) -> None:
    world.model.eval()
    world.blocks.append(lora.merged(world.model))
    world.blocks[-1].__enter__()


def enter_disabled(world: World, _: random.Random) -> None:
    block = lora.disabled(world.model)
    block.__enter__()
    world.blocks.append(block)
    world.off += 1


def leave(world: World, _: random.Random) -> None:
    if world.blocks:
        block = world.blocks.pop()
        block.__exit__(None, None, None)
        world.off -= type(block).__name__ == "Disabled"


def refresh(world: World, _: random.Random) -> None:
    lora.refresh(world.model)


# --- writing


def in_place(world: World, draw: random.Random) -> None:
    with torch.no_grad():
        world.tensor(draw).mul_(draw.choice([-1.5, 0.5, 1.25]))


def in_inference_mode(world: World, draw: random.Random) -> None:
    tensor = world.tensor(draw)
    with torch.inference_mode():
        tensor.mul_(0.75)


def through_data(world: World, draw: random.Random) -> None:
    world.tensor(draw).data.mul_(draw.choice([-1.5, 0.5, 1.25]))


def through_numpy(world: World, draw: random.Random) -> None:
    world.tensor(draw).detach().numpy()[...] *= 1.5


def new_parameter(world: World, draw: random.Random) -> None:
    name = world.name(draw)
    old = getattr(world.layer, name)
    if draw.random() < 0.5:
        world.held.append(old)
    setattr(world.layer, name, nn.Parameter(like(old), requires_grad=old.requires_grad))


def new_parameter_in_the_table(world: World, draw: random.Random) -> None:
    name = world.name(draw)
    old = getattr(world.layer, name)
    world.layer._parameters[name] = nn.Parameter(like(old), requires_grad=old.requires_grad)


def new_data(world: World, draw: random.Random) -> None:
    tensor = world.tensor(draw)
    if draw.random() < 0.3:
        world.held.append(tensor.data)
    tensor.data = like(tensor)


def share(world: World, draw: random.Random) -> None:
    world.tensor(draw).share_memory_()


def vector(world: World, draw: random.Random) -> None:
    parameters = world.parameters(draw)
    world.vector = nn.utils.parameters_to_vector(parameters).detach()
    nn.utils.vector_to_parameters(world.vector, parameters)


def scale_the_vector(world: World, draw: random.Random) -> None:
    if world.vector is not None:
        world.vector.mul_(draw.choice([-1.5, 0.5, 1.25]))


def average(world: World, draw: random.Random) -> None:
    own = list(map(id, world.layer.parameters()))
    if world.average is None or [p for p in world.average.parameters if id(p) not in own]:
        world.average = MovingAverage(world.parameters(draw))
    world.average.update()


def swap_the_average(world: World, _: random.Random) -> None:
    if world.average is not None:
        world.average.swap()


def collective(world: World, draw: random.Random) -> None:
    run = draw.choice([by_broadcast, by_all_reduce, by_receive, by_scatter])
    tensor = world.tensor(draw)
    if tensor.is_contiguous():
        run(tensor)


def like(tensor: Tensor) -> Tensor:
    """Other numbers; half of the time the same ones where W is compared."""
    made = torch.randn_like(tensor.detach()).abs_().add_(0.1)
    return beside_the_sample(tensor.detach(), made) if made[..., 0].sum() > 1 else made


def beside_the_sample(old: Tensor, new: Tensor) -> Tensor:
    """The new numbers, but the old ones where W is compared."""
    if old.is_contiguous():
        sample(new).copy_(sample(old))
    return new


def write_beside_the_sample(world: World, _: random.Random) -> None:
    """A part of W that is not compared; the version tells."""
    with torch.no_grad():
        weight = world.layer.base_weight
        weight.copy_(beside_the_sample(weight, weight * 1.5))


# --- optimizers

OPTIMIZERS: list[Callable[[Any], torch.optim.Optimizer]] = [
    partial(torch.optim.AdamW, lr=0.1, fused=True),
    partial(torch.optim.AdamW, lr=0.1, foreach=True),
    partial(torch.optim.SGD, lr=0.1, fused=True),
    partial(torch.optim.SGD, lr=0.1),
]


def gradient(parameter: Tensor, draw: random.Random) -> Tensor:
    made = torch.randn_like(parameter)
    return beside_the_sample(torch.zeros_like(made), made) if draw.random() < 0.5 else made


def step(world: World, draw: random.Random) -> None:
    parameters = [p.requires_grad_() for p in world.parameters(draw)]
    optimizer = draw.choice(OPTIMIZERS)(parameters)
    world.held.append(optimizer)
    for parameter in parameters:
        parameter.grad = gradient(parameter, draw)
    optimizer.step()


def failing_step(world: World, draw: random.Random) -> None:
    parameters = [p.requires_grad_() for p in world.parameters(draw)]
    other = nn.Parameter(torch.ones(2))
    groups = [{"params": parameters}, {"params": [other], "lr": "none"}]
    optimizer = torch.optim.SGD(groups, lr=0.1, fused=True)
    world.held.append(optimizer)
    for parameter in [*parameters, other]:
        parameter.grad = gradient(parameter, draw)
    try:
        optimizer.step()
    except (TypeError, RuntimeError):
        return
    raise AssertionError("the step did not fail")


def train_a_step(world: World, draw: random.Random) -> None:
    parameters = [getattr(world.layer, name) for name in world.layer.tensor_names]
    optimizer = draw.choice(OPTIMIZERS)([p.requires_grad_() for p in parameters])
    loss = world.model(world.x).square().mean()
    if loss.requires_grad:
        loss.backward()
        optimizer.step()


# --- settings, states of files, copies


def set_alpha(world: World, draw: random.Random) -> None:
    world.layer.lora_alpha = draw.choice([1, 3, 7])


def set_scaling(world: World, draw: random.Random) -> None:
    world.layer.scaling = draw.choice([0.5, 2.0, -1.0])


def load(world: World, draw: random.Random) -> None:
    state = {name: like(value) for name, value in world.layer.state_dict().items()}
    if draw.random() < 0.4:
        state.pop(draw.choice(list(state)))
    world.layer.load_state_dict(state, strict=False, assign=draw.random() < 0.3)


def call_with_other_tensors(world: World, draw: random.Random) -> None:
    name = world.name(draw)
    with torch.no_grad():
        torch.func.functional_call(
            world.layer, {name: like(getattr(world.layer, name))}, (world.x,)
        )


def move(world: World, draw: random.Random) -> None:
    draw.choice([world.model.double, world.model.share_memory, lambda: world.model.to("cpu")])()


def go_on_with_a_copy(world: World, draw: random.Random) -> None:
    if world.blocks:
        return
    if draw.random() < 0.5:
        world.held.append(world.model)
    made = copy.deepcopy(world.model)
    world.model = made if draw.random() < 0.5 else pickle.loads(pickle.dumps(made))
    world.layer = world.model[0]
    world.forward = world.average = world.vector = None


# --- at the same time


def in_a_thread(run: Callable[[], object]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def write_in_a_thread(world: World, draw: random.Random) -> None:
    change = draw.choice(WRITES)
    in_a_thread(lambda: change(world, draw))


def write_while_merging(world: World, draw: random.Random) -> None:
    """Between the moments at which the cache is begun and kept."""
    change, late = draw.choice(WRITES), draw.random() < 0.5
    merge = merged_weight.merge

    def meanwhile(weight: Tensor, dw: Tensor) -> Tensor:
        merged_weight.merge = merge
        made = merge(weight, dw)
        in_a_thread(lambda: change(world, draw))
        return made if late else merge(weight, dw)

    merged_weight.merge = meanwhile
    try:
        with torch.no_grad():
            world.model(world.x)
    finally:
        merged_weight.merge = merge


def write_while_others_look(world: World, draw: random.Random) -> None:
    ended = threading.Event()

    def evaluate() -> None:
        while not ended.is_set():
            with torch.no_grad():
                world.model(world.x)

    thread = threading.Thread(target=evaluate)
    thread.start()
    for _ in range(5):
        draw.choice(WRITES)(world, draw)
    ended.set()
    thread.join()


WRITES: list[Step] = [
    in_place,
    write_beside_the_sample,
    in_inference_mode,
    through_data,
    through_numpy,
    new_parameter,
    new_parameter_in_the_table,
    new_data,
    share,
    vector,
    scale_the_vector,
    average,
    swap_the_average,
    collective,
    step,
    failing_step,
    set_alpha,
    set_scaling,
    load,
]
LOOKS: list[Step] = [
    look,
    look,
    look_in_inference_mode,
    look_with_gradients,
    look_in_another_thread,
]
OTHERS: list[Step] = [
    *(read_merged, train, evaluate, evaluate, allow, refresh),
    *(enter_merged, enter_disabled, leave, leave),
    *(train_a_step, call_with_other_tensors, move, go_on_with_a_copy),
    *(write_in_a_thread, write_while_merging, write_while_others_look),
]
STEPS: dict[str, Step] = {
    run.__name__: run for run in [*WRITES, *LOOKS, *OTHERS, look_through_compiled_code]
}
