"""torch's private names: each is there, and the package works without any of them."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from lorakit.errors import MissingDependencyError
from lorakit.private import torch_names
from lorakit.private.torch_names import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_torch_has_it(name):
    if name == "_linear_pointwise" and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    entry = NAMES[name]
    assert entry.find() is not None, (
        f"torch {torch.__version__} no longer has {entry.path} ({entry.since} has it). Say in "
        "lorakit/private/torch_names.py where it is now, or what documented name took its place. "
        f"Why it is used: {entry.why}. Until then: {entry.without}."
    )


@pytest.mark.parametrize("name", torch_names.MODULE_SURFACE)
def test_nn_module_has_what_the_package_extends_it_by(name):
    assert hasattr(nn.Module(), name), (
        f"torch {torch.__version__} no longer has nn.Module.{name}, which many files of lorakit "
        f"use: {torch_names.MODULE_SURFACE[name]}. Bound torch above in pyproject.toml until each "
        "of them has another way."
    )


def test_a_compiled_model_is_a_child_of_its_wrapper():
    model = nn.Linear(2, 2)
    assert torch.compile(model)._modules[torch_names.COMPILED_CHILD] is model


# --- each name gone


@pytest.fixture
def without(monkeypatch):
    """The module as it is on a torch that lacks these names."""

    def load(*gone: str) -> ModuleType:
        hide(monkeypatch, {NAMES[name].path for name in gone})
        spec = importlib.util.find_spec("lorakit.private.torch_names")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def hide(monkeypatch, paths):
    real = pkgutil.resolve_name

    def resolve(path):
        if path in paths:
            raise AttributeError(path)
        return real(path)

    monkeypatch.setattr(pkgutil, "resolve_name", resolve)


def test_without_the_stack_of_transforms_one_may_always_run(without):
    assert torch_names.peek_interpreter_stack() is None
    assert without("peek_interpreter_stack").peek_interpreter_stack() is not None


def test_without_the_level_forward_mode_may_always_be_on(without):
    assert torch_names.forward_ad_level() < 0
    with forward_ad.dual_level():
        assert torch_names.forward_ad_level() >= 0
    assert without("_current_level").forward_ad_level() >= 0


def test_without_onednns_operator_there_is_none(without):
    assert without("_linear_pointwise").onednn_linear is None


def test_without_fake_tensor_every_subclass_may_be_one(without):
    class Subclass(torch.Tensor): ...

    fallback = without("FakeTensor").is_fake
    with FakeTensorMode():
        fake = torch.ones(2)
    real, parameter = torch.ones(2), nn.Parameter(torch.ones(2))
    subclass = torch.ones(2).as_subclass(Subclass)
    tensors = (real, parameter, fake, subclass)
    assert [torch_names.is_fake(t) for t in tensors] == [False, False, True, False]
    assert [fallback(t) for t in tensors] == [False, False, True, True]


def test_without_versions_a_tensor_always_counts_as_written_to(without):
    fallback, tensor = without("_version").version_of, torch.ones(2)
    assert torch_names.version_of(tensor) == torch_names.version_of(tensor)
    assert fallback(tensor) != fallback(tensor)


def test_without_their_base_convolutions_are_modules(without):
    assert without("_ConvNd").ConvNd is nn.Module


def test_without_its_class_no_linear_layer_is_an_out_projection(without):
    projection = nn.MultiheadAttention(4, 2).out_proj
    assert type(projection) is torch_names.OutProjection
    assert not isinstance(projection, without("NonDynamicallyQuantizableLinear").OutProjection)


def test_without_its_method_a_convolution_cannot_be_called(monkeypatch):
    for owner in (nn.Conv2d, torch_names.ConvNd):
        monkeypatch.delattr(owner, "_conv_forward")
    layer, x = nn.Conv2d(2, 2, 1), torch.ones(1, 2, 3, 3)
    with pytest.raises(MissingDependencyError, match=r"has no torch\.nn\.Conv2d\._conv_forward"):
        torch_names.convolve(layer, x, layer.weight, None)


WITHOUT_ANY = """
    import pkgutil

    def resolve(path):
        raise AttributeError(path)

    pkgutil.resolve_name = resolve
    import torch
    from torch import nn

    torch.nn.modules.activation.NonDynamicallyQuantizableLinear = nn.Linear  # out_proj's class
    from torch.testing import assert_close

    import lorakit as lora
    from lorakit.private import torch_names

    assert torch_names.onednn_linear is None


    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(4, 6, 3, padding=1)
            self.linear = nn.Linear(6, 6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            h = self.linear(self.conv(x).transpose(1, 2))
            return self.attention(h, h, h)[0]

    torch.manual_seed(0)
    model, x = Mixed(), torch.randn(2, 4, 5)
    targets = ["conv", "linear", "attention"]
    lora.inject(model, lora.LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    y = model(x)
    y.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora_" in n)
    model.eval()
    with torch.no_grad(), lora.merged(model):
        assert_close(model(x), y)
        assert_close(model(x), y)
    jacobian = torch.func.jacrev(model.linear)(torch.ones(6))
    with torch.no_grad():
        assert_close(jacobian, model.linear.effective_weight())
        assert_close(torch.func.vmap(model.linear)(torch.eye(6)), model.linear(torch.eye(6)))
    lora.eject(model)
    assert type(model.conv) is nn.Conv1d
"""


def test_the_package_works_without_any_of_them():
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(WITHOUT_ANY)], check=True)
