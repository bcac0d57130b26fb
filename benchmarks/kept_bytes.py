"""What q, k and v of one input keep for backward, in units of that input."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import peers
from benchmarks.inputs import DTYPES
from benchmarks.registry import Row, Settings

WIDTH, ROWS, TOKENS = 768, 4, 128
MODES = ("float32", "bfloat16", "float32, autocast to bfloat16")
CONDITIONS = {
    "layers": f"three nn.Linear of width {WIDTH}, rank {peers.RANK}, on one contiguous input",
    "input": f"({ROWS}, {TOKENS}, {WIDTH}), and it needs a gradient",
    "kept": "bytes that backward saves (saved_tensors_hooks), each (data_ptr, shape) once, "
    "without parameters",
    "alive": "bytes of storages that the forward made and that live on after it, without the "
    "outputs: sees also what is not saved through autograd",
    "bfloat16": "base and input; PEFT's and lorakit's A and B are float32, loralib's bfloat16",
}


class Storages(TorchDispatchMode):
    """The storages that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors(result):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            self.made[reference.cdata] = (reference, storage.nbytes())
        return result


def check(settings: Settings) -> None:
    """Both counters see what is known to be kept."""
    x = torch.ones(4, 8, device=settings.device, requires_grad=True)
    size = x.numel() * x.element_size()
    w = nn.Parameter(torch.ones(8, 8, device=settings.device))
    assert counted(lambda: [x * 2], [], x) == (0, 0)
    assert counted(lambda: [x.exp().sum()], [], x) == (size, size)
    assert counted(lambda: [x.sin(), x.cos()], [], x) == (size, 0)  # the input, once
    assert counted(lambda: [x @ w], [w], x) == (size, 0)  # and not the parameter
    assert counted(lambda: [torch.nn.functional.dropout(x, 0.5)], [], x)[0] >= x.numel()
    for name in peers.INSTALLED:
        base = nn.Linear(8, 8, device=settings.device)
        peer = peers.adapted_layer(name, base)
        peers.set_update(peer, base, 0.5, settings.seed)
        peers.assert_computes_lora(peer, base, x)


def rows(settings: Settings) -> Iterator[Row]:
    for mode in MODES:
        for dropout in (0.0, 0.1):
            for library in ("frozen", "full", *peers.INSTALLED):
                kept, alive = qkv(settings, library, mode, dropout)
                row: Row = {"dtype": mode, "dropout": dropout, "library": library}
                yield {**row, "kept": kept, "alive": alive}


def qkv(settings: Settings, library: str, mode: str, dropout: float) -> tuple[float, float]:
    """Kept and alive, over the bytes of the input."""
    torch.manual_seed(settings.seed)
    options = {"device": settings.device, "dtype": DTYPES[mode.partition(",")[0]]}
    x = torch.randn(ROWS, TOKENS, WIDTH, **options).requires_grad_()
    layers = [made(library, nn.Linear(WIDTH, WIDTH, **options), dropout) for _ in "qkv"]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    with context(settings, mode):
        counts = counted(lambda: [layer(x) for layer in layers], parameters, x)
    size = x.numel() * x.element_size()
    return counts[0] / size, counts[1] / size


def made(library: str, base: nn.Linear, dropout: float) -> nn.Module:
    if library in ("frozen", "full"):
        return base.requires_grad_(library == "full")
    base.requires_grad_(False)
    return peers.adapted_layer(library, base, dropout=dropout, training=True).layer


def context(settings: Settings, mode: str) -> AbstractContextManager[object]:
    if "autocast" not in mode:
        return nullcontext()
    return torch.autocast(settings.device.partition(":")[0], torch.bfloat16)


def counted(
    forward: Callable[[], Sequence[Tensor]], parameters: Sequence[Tensor], x: Tensor
) -> tuple[int, int]:
    """Bytes kept and bytes alive after this forward, while its outputs live."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    saved: dict[tuple[int, torch.Size], int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.data_ptr(), tensor.shape] = tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), Storages() as storages:
        outputs = forward()
    gc.collect()
    given = {StorageWeakRef(t.untyped_storage()).cdata for t in (x, *parameters, *outputs)}
    living = [
        size
        for cdata, (reference, size) in storages.made.items()
        if cdata not in given and not reference.expired()
    ]
    return sum(saved.values()), sum(living)


def tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
