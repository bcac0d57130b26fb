"""torch's private names, each with a fallback for releases without it.

Importing this never fails for a missing name: its fallback is slower, or raises when it is used.
`NAMES` says why each is needed; below it are the functions that the package calls.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from lorakit.private.names import PrivateName, by_name

NAMES = by_name(
    PrivateName(
        "torch._C._functorch:peek_interpreter_stack",
        since="2.0",
        why="torch.func's transforms must see single operations, and no documented name says "
        "whether one of them runs",
        without="lorakit computes as if one always ran: every layer in torch's own operations, "
        "no merged weight",
    ),
    PrivateName(
        "torch.autograd.forward_ad:_current_level",
        since="1.8",
        why="forward-mode differentiation must see single operations; an integer says whether "
        "it is on",
        without="lorakit computes as if it always were: every layer in torch's own operations",
    ),
    PrivateName(
        "torch:ops.mkldnn._linear_pointwise",
        since="2.0",
        why="oneDNN's product of float32 matrices on CPUs, faster than MKL's on some",
        without="products are torch's own",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:FakeTensor",
        since="1.13",
        why="a tensor without memory has no address, by which a merged weight is watched",
        without="no weight of any tensor subclass is merged ahead",
    ),
    PrivateName(
        "torch._C:_current_graph_task_id",
        since="2.1",
        why="a layer that is computed in a backward pass is recomputed by gradient checkpointing, "
        "and its rows must have been carried there",
        without="an error where a model on which rows() was used computes with gradients",
    ),
    PrivateName(
        "torch._C._autograd:_top_saved_tensors_default_hooks",
        since="2.6",
        why="whether something else decides what is kept for backward: hooks within hooks would "
        "take that from gradient checkpointing",
        without="the adapted experts of a mixture are kept for backward, once more in memory",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:FakeTensorMode",
        since="1.13",
        why="a training step is planned on tensors without memory",
        without="an error when a plan is asked for",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:DataDependentOutputException",
        since="1.13",
        why="a plan's error names the operation that needs a value",
        without="the plan's error is torch's own",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:DynamicOutputShapeException",
        since="1.13",
        why="the same of one whose output's shape depends on values",
        without="the plan's error is torch's own",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:UnsupportedFakeTensorException",
        since="2.0",
        why="the same of a tensor that cannot be without memory",
        without="the plan's error is torch's own",
    ),
    PrivateName(
        "torch._subclasses.fake_tensor:UnsupportedOperatorException",
        since="1.13",
        why="the same of one that knows no tensors without memory",
        without="the plan's error is torch's own",
    ),
    PrivateName(
        "torch.utils._python_dispatch:TorchDispatchMode",
        since="1.12",
        why="a plan sees every tensor that an operation returns",
        without="an error when a plan is asked for",
    ),
    PrivateName(
        "torch:Tensor._version",
        since="0.4",
        why="a merged weight is stale when a tensor that it was made from was written to",
        without="every merged weight counts as stale, and is recomputed",
    ),
    PrivateName(
        "torch.nn.modules.conv:_ConvNd",
        since="0.4",
        why="what the three convolutions have in common: their settings and how they start",
        without="nn.Module in its place, which every convolution is too",
    ),
    PrivateName(
        "torch.nn:Conv2d._conv_forward",
        since="1.8",
        why="a layer's own convolution, padding modes included, with another weight",
        without="an error when an adapted convolution is called",
    ),
    PrivateName(
        "torch._dynamo:lookup_backend",
        since="2.0",
        why="a run says how often it has compiled: torch.compile's backend is counted, and no "
        "documented name gives the function behind a backend's name",
        without="an error when a run is to be compiled",
    ),
    PrivateName(
        "torch.nn.modules.linear:NonDynamicallyQuantizableLinear",
        since="1.8",
        why="the class of nn.MultiheadAttention's out_proj; it stands in no __all__",
        without="a class that no module has, since out_proj is then an nn.Linear",
    ),
)

MODULE_SURFACE = {
    "_parameters": "what is registered under a name, None included, without __getattr__",
    "_buffers": "the same for buffers",
    "_modules": "the same for children",
    "_non_persistent_buffers_set": "which buffers no state_dict has",
    "_forward_hooks": "a hook of lorakit's own is found again on a copy of its module",
    "_load_state_dict_pre_hooks": "the same, of hooks that run before a state is loaded",
    "_replicate_for_data_parallel": "overridden: a replica is as disabled as its module",
    "_apply": "overridden: a move or cast ends the merged weight's life",
    "_load_from_state_dict": "overridden: so does a loaded state; loralib's names are renamed",
}
"""nn.Module's underscored attributes that subclasses and surgery are written against.

They stay where they are used: torch.nn.utils, pickles of old models and most libraries that extend
nn.Module hold torch to them.
"""

COMPILED_CHILD = "_orig_mod"
"""The name under which torch.compile's wrapper holds the model, since 2.0; a part of the names in
saved checkpoints, so it can hardly change. Without it a compiled model is not looked into."""


def _always_transforming() -> object:
    return True


peek_interpreter_stack: Callable[[], object] = NAMES["peek_interpreter_stack"].find(
    _always_transforming
)
"""Gives None unless one of torch.func's transforms runs; torch's own function, at no extra call."""


def _level() -> int:
    return forward_ad._current_level


def _level_zero() -> int:
    return 0


forward_ad_level = _level if NAMES["_current_level"].find() is not None else _level_zero
"""The level of forward-mode differentiation; below 0 it is off."""

onednn_linear: Callable[..., Tensor] | None = NAMES["_linear_pointwise"].find()
"""x W^T + b by oneDNN, (x, W, b, "none", [], ""); None where torch was built without it."""


def _is_subclass(tensor: Tensor) -> bool:
    return type(tensor) not in (Tensor, nn.Parameter)


def _is_fake(tensor: Tensor) -> bool:
    return isinstance(tensor, _fake_class)


_fake_class = NAMES["FakeTensor"].find()
is_fake: Callable[[Tensor], bool] = _is_fake if _fake_class is not None else _is_subclass
"""Whether a tensor has shape and type and no memory, as in tracing."""


NEEDS_VALUES: tuple[type[Exception], ...] = tuple(
    found
    for name in (
        "DataDependentOutputException",
        "DynamicOutputShapeException",
        "UnsupportedFakeTensorException",
        "UnsupportedOperatorException",
    )
    if (found := NAMES[name].find()) is not None
)
"""What an operation raises that cannot run on tensors without memory."""

_graph_task: Callable[[], int] | None = NAMES["_current_graph_task_id"].find()


def in_backward() -> bool:
    """Whether this thread computes a backward pass."""
    if _graph_task is None:
        raise NAMES["_current_graph_task_id"].missing()
    return _graph_task() != -1


_UNKNOWN_HOOKS = (object(), object())
_top_hooks: Callable[[bool], tuple[object, object] | None] = NAMES[
    "_top_saved_tensors_default_hooks"
].find() or (lambda _: _UNKNOWN_HOOKS)


def pack_hook() -> object | None:
    """What packs the tensors that autograd saves here; None: they are kept as they are."""
    hooks = _top_hooks(True)
    return None if hooks is None else hooks[0]


_readings = count()


def _new_version(tensor: Tensor) -> int:
    return next(_readings)


version_of: Callable[[Tensor], int] = (
    attrgetter("_version") if NAMES["_version"].find() is not None else _new_version
)
"""How often a tensor was written to in place: two readings are equal if it was not since."""


def _missing(name: str) -> type:
    """A class that raises the error of a missing name when it is made."""

    def refuse(self: object) -> None:
        raise NAMES[name].missing()

    return type(name, (), {"__init__": refuse})


class _NoSuchModule(nn.Linear):
    """A class that no module has."""


# The base of nn.Conv1d, Conv2d and Conv3d, the class of nn.MultiheadAttention's out_proj, and the
# modes in which operations have no values, and are seen.
if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

    ConvNd = torch.nn.modules.conv._ConvNd
    OutProjection = torch.nn.modules.linear.NonDynamicallyQuantizableLinear
else:
    ConvNd = NAMES["_ConvNd"].find(nn.Module)
    OutProjection = NAMES["NonDynamicallyQuantizableLinear"].find(_NoSuchModule)
    FakeTensorMode = NAMES["FakeTensorMode"].find(_missing("FakeTensorMode"))
    TorchDispatchMode = NAMES["TorchDispatchMode"].find(_missing("TorchDispatchMode"))


def convolve(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution's own stride, padding, dilation and groups, with this weight and bias."""
    forward: Callable[..., Tensor] | None = getattr(layer, "_conv_forward", None)
    if forward is None:
        raise NAMES["_conv_forward"].missing()
    return forward(x, weight, bias)


def compiler_backend(name: str) -> Callable[..., Callable[..., object]]:
    """The function of a backend of torch.compile: (graph, example inputs) -> compiled code."""
    find: Callable[[str], Callable[..., Callable[..., object]]] | None = NAMES[
        "lookup_backend"
    ].find()
    if find is None:
        raise NAMES["lookup_backend"].missing()
    return find(name)
