"""The defects B1 to B35 of loralib 0.1.2: each shown to be there, and to be absent in lorakit.

A class is one defect, and its docstring says which. Its tests named `test_loralib_...` run the line
that fails against loralib itself; the tests beside them say what lorakit does instead. Where one
function can do both, it takes the library as an argument.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import loralib
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

import lorakit
from lorakit.errors import ConfigError, MismatchError
from tests.tolerances import EXACT, TOLERANCES

FP32 = TOLERANCES[torch.float32]
BF16 = TOLERANCES[torch.bfloat16]


def randomise(layer: nn.Module, std: float = 1.0) -> None:
    """Give A and B values, so that the update is not zero."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=std)


@torch.no_grad()
def no_grad(layer: nn.Module, *inputs: Tensor) -> Tensor:
    """The output without a graph: in evaluation mode this is where lorakit merges."""
    return layer(*inputs)


def same_base(a: nn.Module, b: nn.Module) -> None:
    """Copy weight and bias of `a` to `b`."""
    with torch.no_grad():
        b.weight.copy_(a.weight)
        b.bias.copy_(a.bias)


def trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def linear_delta(layer: nn.Module) -> Tensor:
    """dW of a linear layer by its definition."""
    return layer.scaling * layer.lora_B @ layer.lora_A


class TestB1LoadedInEvalMode:
    """Adapter weights loaded after eval() are ignored, and the next train() moves the base."""

    @staticmethod
    def load_after_eval(lib: ModuleType) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        trained, fresh = lib.Linear(8, 8, r=2), lib.Linear(8, 8, r=2)
        randomise(trained)
        same_base(trained, fresh)
        base, x = fresh.weight.clone(), torch.randn(3, 8)
        expected = no_grad(trained, x)
        fresh.eval()
        no_grad(fresh, x)
        fresh.load_state_dict(lib.lora_state_dict(trained), strict=False)
        fresh.eval()
        output = no_grad(fresh, x)
        fresh.train()
        return output, expected, fresh.weight, base

    def test_loralib_ignores_them_and_moves_the_base(self) -> None:
        output, expected, weight, base = self.load_after_eval(loralib)
        assert (output - expected).abs().max() > 0.1
        assert (weight - base).abs().max() > 0.1

    def test_lorakit_uses_them_and_keeps_the_base(self) -> None:
        output, expected, weight, base = self.load_after_eval(lorakit)
        assert_close(output, expected, **FP32)
        assert_close(weight, base, **EXACT)

    def test_lorakit_forgets_the_merged_weight(self) -> None:
        layer = lorakit.Linear(8, 8, r=2).eval()
        no_grad(layer, torch.randn(3, 8))
        assert layer.merged
        layer.load_state_dict(layer.state_dict())
        assert not layer.merged


class TestB2SavedInEvalMode:
    """A state_dict taken in evaluation mode holds the merged weight beside A and B."""

    @staticmethod
    def save_in_eval(lib: ModuleType) -> tuple[Tensor, Tensor]:
        layer, copy = lib.Linear(8, 8, r=2), lib.Linear(8, 8, r=2)
        randomise(layer)
        x = torch.randn(3, 8)
        expected = no_grad(layer, x)
        layer.eval()
        no_grad(layer, x)
        copy.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()})
        return no_grad(copy, x), expected

    def test_loralib_adds_the_update_twice(self) -> None:
        output, expected = self.save_in_eval(loralib)
        assert (output - expected).abs().max() > 0.1

    def test_lorakit_saves_the_base(self) -> None:
        output, expected = self.save_in_eval(lorakit)
        assert_close(output, expected, **EXACT)


class TestB3TrainReturnsNone:
    """train() and eval() of a layer return None instead of the layer."""

    @staticmethod
    def layers(lib: ModuleType) -> list[nn.Module]:
        return [
            lib.Linear(4, 4, r=1),
            lib.MergedLinear(4, 4, r=1, enable_lora=[True]),
            lib.Embedding(4, 4, r=1),
            lib.Conv1d(1, 1, 1, r=1),
            lib.Conv2d(1, 1, 1, r=1),
            lib.Conv3d(1, 1, 1, r=1),
        ]

    def test_loralib_returns_none(self) -> None:
        assert all(result is None for x in self.layers(loralib) for result in (x.eval(), x.train()))

    def test_lorakit_returns_the_layer(self) -> None:
        for layer in self.layers(lorakit):
            assert layer.eval() is layer
            assert not layer.training
            assert layer.train() is layer
            assert layer.training


class TestB4DriftInLowPrecision:
    """Merging by += and unmerging by -= makes the frozen base wander in low precision."""

    @staticmethod
    def drift(lib: ModuleType, dtype: torch.dtype, cycles: int) -> float:
        layer = lib.Linear(32, 32, r=8, lora_alpha=16).to(dtype)
        base, x = layer.weight.clone(), torch.randn(2, 32, dtype=dtype)
        for _ in range(cycles):
            nn.init.normal_(layer.lora_B, std=0.05)
            layer.eval()
            no_grad(layer, x)
            layer.train()
        return float((layer.weight - base).double().norm() / base.double().norm())

    @pytest.mark.parametrize(
        ("dtype", "least"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3), (torch.float32, 1e-7)]
    )
    def test_loralib_drifts(self, dtype: torch.dtype, least: float) -> None:
        assert self.drift(loralib, dtype, cycles=200) > least

    @pytest.mark.parametrize(
        ("dtype", "cycles"), [(torch.bfloat16, 1000), (torch.float16, 200), (torch.float32, 200)]
    )
    def test_lorakit_does_not_move(self, dtype: torch.dtype, cycles: int) -> None:
        assert self.drift(lorakit, dtype, cycles) == 0


class TestB5ChangedWhileMerged:
    """Changing A or B while merged makes the unmerging subtract another update than was added."""

    @staticmethod
    def change(lib: ModuleType, edit: Callable[[nn.Parameter], object]) -> tuple[Tensor, Tensor]:
        layer = lib.Linear(4, 4, r=2)
        randomise(layer)
        base = layer.weight.clone()
        layer.eval()
        no_grad(layer, torch.randn(2, 4))
        with torch.no_grad():
            edit(layer.lora_B)
        layer.train()
        return layer.weight, base

    EDITS = pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda b: b.data.mul_(2), id="data"),
            pytest.param(lambda b: b.mul_(2), id="in-place"),
            pytest.param(lambda b: b.copy_(torch.ones_like(b)), id="load"),
        ],
    )

    @EDITS
    def test_loralib_corrupts_the_base(self, edit: Callable[[nn.Parameter], object]) -> None:
        weight, base = self.change(loralib, edit)
        assert (weight - base).abs().max() > 0.1

    @EDITS
    def test_lorakit_keeps_the_base(self, edit: Callable[[nn.Parameter], object]) -> None:
        weight, base = self.change(lorakit, edit)
        assert_close(weight, base, **EXACT)

    def test_lorakit_sees_the_change_at_once(self) -> None:
        layer, x = lorakit.Linear(4, 4, r=2).eval(), torch.randn(2, 4)
        assert_close(no_grad(layer, x), F.linear(x, layer.weight, layer.bias), **FP32)
        randomise(layer)
        expected = F.linear(x, layer.weight + linear_delta(layer), layer.bias)
        assert_close(no_grad(layer, x), expected.detach(), **FP32)


class TestB6NothingEnabled:
    """MergedLinear with r > 0 and no enabled slice, its own default, fails in its first forward."""

    @pytest.mark.parametrize("arguments", [{}, {"enable_lora": [False, False]}])
    def test_loralib_fails_in_forward(self, arguments: dict[str, list[bool]]) -> None:
        layer = loralib.MergedLinear(8, 24, r=4, **arguments)
        with pytest.raises(AttributeError, match="lora_A"):
            layer(torch.randn(2, 8))

    @pytest.mark.parametrize("arguments", [{}, {"enable_lora": [False, False]}])
    def test_lorakit_refuses_to_construct(self, arguments: dict[str, list[bool]]) -> None:
        with pytest.raises(ConfigError, match="slice"):
            lorakit.MergedLinear(8, 24, r=4, **arguments)

    def test_lorakit_without_rank_is_plain(self) -> None:
        layer, x = lorakit.MergedLinear(8, 24), torch.randn(2, 8)
        assert_close(layer(x), F.linear(x, layer.weight, layer.bias), **EXACT)
        assert trainable(layer) == ["weight", "bias"]


class TestB7IntegersForBooleans:
    """enable_lora=[1, 0, 1] is read as indices: it adapts q and k instead of q and v."""

    def test_loralib_adapts_the_wrong_slices(self) -> None:
        layer = loralib.MergedLinear(4, 12, r=1, enable_lora=[1, 0, 1])
        assert layer.lora_ind.view(3, -1)[:, 0].tolist() == [True, True, False]

    def test_loralib_cannot_use_one_integer(self) -> None:
        layer = loralib.MergedLinear(4, 12, r=1, enable_lora=[0, 0, 1])
        with pytest.raises(RuntimeError, match="shape mismatch"):
            layer(torch.randn(2, 4))

    @pytest.mark.parametrize("flags", [[1, 0, 1], [0, 0, 1], ["q", "k", "v"], [None, True], []])
    def test_lorakit_refuses_what_is_not_boolean(self, flags: list[object]) -> None:
        with pytest.raises(ConfigError, match=f"{re.escape(repr(flags))}.*one boolean"):
            lorakit.MergedLinear(4, 12, r=1, enable_lora=flags)

    @pytest.mark.parametrize("flags", [[True, False, True], (True, False, True)])
    def test_lorakit_adapts_the_enabled_slices(self, flags: list[bool] | tuple[bool, ...]) -> None:
        layer = lorakit.MergedLinear(4, 12, r=1, enable_lora=flags)
        randomise(layer)
        rows = layer.delta_weight().view(3, -1).abs().amax(dim=1) > 0
        assert rows.tolist() == [True, False, True]


class TestB8MetaDevice:
    """The mask of MergedLinear stays on the meta device, so after to_empty its update is zero."""

    @staticmethod
    def materialised(lib: ModuleType) -> nn.Module:
        layer = lib.MergedLinear(4, 12, r=1, enable_lora=[True, False, True], device="meta")
        layer.to_empty(device="cpu")
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        return layer

    def test_loralib_loses_the_update(self) -> None:
        layer = self.materialised(loralib)
        assert layer.lora_ind.device.type == "meta"
        assert layer.merge_AB().abs().sum() == 0

    def test_lorakit_computes_the_update(self) -> None:
        layer, x = self.materialised(lorakit), torch.randn(5, 4)
        a, b, plain = layer.lora_A, layer.lora_B, F.linear(x, layer.weight, layer.bias)
        update = torch.cat([x @ a[:1].T @ b[:4].T, torch.zeros(5, 4), x @ a[1:].T @ b[4:].T], 1)
        assert_close(layer(x), plain + update, **FP32)


def kernel_update(a: Tensor, b: Tensor) -> Tensor:
    """dW[o] = sum over r of B[o, r] A[r], without the scale."""
    return torch.einsum("or,r...->o...", b.flatten(1), a)


class TestB9Conv1d:
    """Conv1d with a kernel wider than one fails in forward."""

    def test_loralib_fails(self) -> None:
        with pytest.raises(RuntimeError, match=r"shape '\[8, 4, 3\]' is invalid"):
            loralib.Conv1d(4, 8, 3, r=2)(torch.randn(2, 4, 9))

    def test_lorakit_convolves(self) -> None:
        layer, x = lorakit.Conv1d(4, 8, 3, r=2), torch.randn(2, 4, 9)
        randomise(layer)
        weight = layer.weight + layer.scaling * kernel_update(layer.lora_A, layer.lora_B)
        assert_close(layer(x), F.conv1d(x, weight, layer.bias), **FP32)


class TestB10Conv3d:
    """Conv3d with a kernel wider than one fails in forward."""

    def test_loralib_fails(self) -> None:
        with pytest.raises(RuntimeError, match=r"shape '\[8, 4, 3, 3, 3\]' is invalid"):
            loralib.Conv3d(4, 8, 3, r=2)(torch.randn(1, 4, 5, 5, 5))

    def test_lorakit_convolves(self) -> None:
        layer, x = lorakit.Conv3d(4, 8, 3, r=2), torch.randn(1, 4, 5, 5, 5)
        randomise(layer, std=0.5)
        weight = layer.weight + layer.scaling * kernel_update(layer.lora_A, layer.lora_B)
        assert_close(layer(x), F.conv3d(x, weight, layer.bias), **FP32)


class TestB11KernelTuple:
    """A kernel_size that is a tuple is a bare AssertionError."""

    @pytest.mark.parametrize("kernel", [(3, 3), (3, 1)])
    def test_loralib_fails_without_a_message(self, kernel: tuple[int, int]) -> None:
        with pytest.raises(AssertionError) as caught:
            loralib.Conv2d(4, 8, kernel, r=2)
        assert str(caught.value) == ""

    def test_lorakit_takes_a_square_as_its_side(self) -> None:
        layer = lorakit.Conv2d(4, 8, (3, 3), r=2)
        layer.load_state_dict(lorakit.Conv2d(4, 8, 3, r=2).state_dict())

    def test_lorakit_takes_a_rectangle(self) -> None:
        layer, x = lorakit.Conv2d(4, 8, (3, 1), r=2), torch.randn(2, 4, 5, 5)
        randomise(layer)
        weight = layer.weight + layer.scaling * kernel_update(layer.lora_A, layer.lora_B)
        assert_close(layer(x), F.conv2d(x, weight, layer.bias), **FP32)


class TestB12ConvDropout:
    """lora_dropout of a convolution is accepted and ignored."""

    @staticmethod
    def two_outputs(lib: ModuleType) -> tuple[Tensor, Tensor]:
        layer, x = lib.Conv2d(4, 8, 3, r=2, lora_dropout=0.9), torch.randn(1, 4, 9, 9)
        randomise(layer)
        return layer(x), layer(x)

    def test_loralib_ignores_it(self) -> None:
        first, second = self.two_outputs(loralib)
        assert torch.equal(first, second)

    def test_lorakit_applies_it(self) -> None:
        first, second = self.two_outputs(lorakit)
        assert not torch.equal(first, second)

    def test_lorakit_drops_on_the_low_rank_path_only(self) -> None:
        layer, x = lorakit.Conv2d(1, 1, 1, r=1, lora_dropout=0.75), torch.ones(1, 1, 100, 100)
        with torch.no_grad():
            layer.lora_A.fill_(1.0)
            layer.lora_B.fill_(1.0)
        update = layer(x) - F.conv2d(x, layer.weight, layer.bias)
        kept = update > 2
        assert_close(update, 4.0 * kept, **FP32)
        assert kept.float().mean().item() == pytest.approx(0.25, abs=0.02)


class TestB13ConvRank:
    """A convolution's r is r times k, and its update has a rank up to r times k squared.

    lora.Conv2d with a square kernel keeps loralib's shapes, so its state dicts fit; convolutions
    that `inject` adapts have the rank that they say.
    """

    def test_loralib_has_another_rank(self) -> None:
        layer = loralib.Conv2d(16, 16, 3, r=2)
        randomise(layer)
        product = layer.lora_B @ layer.lora_A
        assert torch.linalg.matrix_rank(product) == 6
        assert torch.linalg.matrix_rank(product.view(16, -1)) == 16

    def test_lorakit_constructs_the_same_shapes(self) -> None:
        peer, layer = loralib.Conv2d(16, 16, 3, r=2), lorakit.Conv2d(16, 16, 3, r=2)
        assert layer.lora_A.shape == peer.lora_A.shape == (6, 48)
        assert layer.lora_B.shape == peer.lora_B.shape == (48, 6)

    def test_lorakit_injects_the_rank_it_says(self) -> None:
        model = nn.Sequential(nn.Conv2d(16, 16, 3))
        lorakit.inject(model, lorakit.LoraConfig(r=2, target_modules=["0"]))
        randomise(model)
        assert model[0].lora_A.shape == (2, 16, 3, 3)
        assert model[0].lora_B.shape == (16, 2, 1, 1)
        assert torch.linalg.matrix_rank(model[0].delta_weight().flatten(1)) == 2


class TestB14ConvKeys:
    """A convolution's weight is called conv.weight, so no pretrained checkpoint has it."""

    def test_loralib_does_not_load_a_checkpoint(self) -> None:
        plain = nn.Sequential(nn.Conv2d(4, 8, 3))
        result = nn.Sequential(loralib.Conv2d(4, 8, 3, r=2)).load_state_dict(
            plain.state_dict(), strict=False
        )
        assert {"0.conv.weight", "0.conv.bias"} <= set(result.missing_keys)
        assert result.unexpected_keys == ["0.weight", "0.bias"]

    def test_lorakit_loads_a_checkpoint(self) -> None:
        plain, model = nn.Sequential(nn.Conv2d(4, 8, 3)), nn.Sequential(lorakit.Conv2d(4, 8, 3, 2))
        result = model.load_state_dict(plain.state_dict(), strict=False)
        assert result.missing_keys == ["0.lora_A", "0.lora_B"]
        assert result.unexpected_keys == []
        x = torch.randn(2, 4, 6, 6)
        assert_close(model(x), plain(x), **EXACT)

    def test_lorakit_has_no_shared_tensors(self) -> None:
        state = lorakit.Conv2d(4, 8, 3, r=2).state_dict()
        read = load_safetensors(save_safetensors(state))
        assert set(read) == {"weight", "bias", "lora_A", "lora_B"}
        for name, value in state.items():
            assert_close(read[name], value, **EXACT)


class TestB15ConvBias:
    """bias="lora_only" does nothing for convolutions."""

    @staticmethod
    def trained(lib: ModuleType) -> list[str]:
        model = nn.Sequential(lib.Conv2d(4, 8, 3, r=2), nn.Conv2d(8, 8, 1))
        lib.mark_only_lora_as_trainable(model, "lora_only")
        return sorted(trainable(model))

    def test_loralib_leaves_it_frozen(self) -> None:
        assert self.trained(loralib) == ["0.lora_A", "0.lora_B"]

    def test_lorakit_trains_it(self) -> None:
        assert self.trained(lorakit) == ["0.bias", "0.lora_A", "0.lora_B"]


class TestB16Pickle:
    """A layer without dropout holds a lambda, so it cannot be pickled."""

    def test_loralib_cannot_be_pickled(self) -> None:
        with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
            pickle.dumps(loralib.Linear(4, 4, r=2))

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_lorakit_survives_pickle_and_torch_save(self, dropout: float, tmp_path: Path) -> None:
        layer, x = lorakit.Linear(4, 4, r=2, lora_dropout=dropout).eval(), torch.randn(2, 4)
        randomise(layer)
        expected = no_grad(layer, x)
        torch.save(layer, tmp_path / "layer.pt")
        for copy in (
            pickle.loads(pickle.dumps(layer)),
            torch.load(tmp_path / "layer.pt", weights_only=False),
        ):
            assert not copy.merged
            assert_close(no_grad(copy, x), expected, **EXACT)


class TestB17FromPretrained:
    """Embedding.from_pretrained draws the caller's tensor anew, in place."""

    @staticmethod
    def make(lib: ModuleType) -> tuple[nn.Module, Tensor, Tensor]:
        table = torch.randn(5, 3)
        before = table.clone()
        return lib.Embedding.from_pretrained(table), table, before

    def test_loralib_destroys_the_callers_tensor(self) -> None:
        _, table, before = self.make(loralib)
        assert not torch.equal(table, before)

    def test_lorakit_keeps_the_callers_tensor(self) -> None:
        layer, table, before = self.make(lorakit)
        assert_close(table, before, **EXACT)
        assert_close(layer(torch.arange(5)), before, **EXACT)

    def test_lorakit_injects_without_losing_the_weights(self) -> None:
        model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        output = model(torch.arange(5))
        lorakit.inject(model, lorakit.LoraConfig(r=2, target_modules=["0", "1"]))
        assert_close(model(torch.arange(5)), output, **EXACT)
        for name, value in before.items():
            assert_close(model.state_dict()[name], value, **EXACT)


class TestB18SparseEmbedding:
    """An Embedding with sparse=True cannot go backward."""

    def test_loralib_fails(self) -> None:
        output = loralib.Embedding(10, 4, r=2, sparse=True)(torch.tensor([1]))
        with pytest.raises(RuntimeError, match="sparse transpose"):
            output.sum().backward()

    def test_lorakit_has_the_gradients_of_a_dense_one(self) -> None:
        sparse, dense = (lorakit.Embedding(10, 4, r=2, sparse=flag) for flag in (True, False))
        randomise(sparse)
        dense.load_state_dict(sparse.state_dict())
        for layer in (sparse, dense):
            layer(torch.tensor([1, 3, 1])).square().sum().backward()
        assert sparse.weight.grad is None
        assert_close(sparse.lora_A.grad, dense.lora_A.grad, **EXACT)
        assert_close(sparse.lora_B.grad, dense.lora_B.grad, **EXACT)


class TestB19MaxNorm:
    """max_norm is applied to A too: a forward writes to a trainable parameter."""

    @staticmethod
    def forward(lib: ModuleType) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
        layer = lib.Embedding(10, 4, r=2, max_norm=1.0)
        randomise(layer, std=3.0)
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        return layer, no_grad(layer, torch.tensor([1, 2])), before

    def test_loralib_rewrites_a(self) -> None:
        layer, _, before = self.forward(loralib)
        assert (layer.lora_A - before["lora_A"]).abs().max() > 0.1

    def test_lorakit_writes_nothing(self) -> None:
        layer, _, before = self.forward(lorakit)
        for name, value in before.items():
            assert_close(layer.state_dict()[name], value, **EXACT)

    def test_lorakit_shortens_the_pretrained_row_only(self) -> None:
        layer, output, before = self.forward(lorakit)
        rows = before["weight"][[1, 2]]
        short = rows * (1.0 / rows.norm(dim=1, keepdim=True)).clamp(max=1.0)
        expected = short + linear_delta(layer).t()[[1, 2]]
        assert_close(output, expected.detach(), **FP32)
        assert_close(no_grad(layer.eval(), torch.tensor([1, 2])), output, **FP32)


class TestB20TiedWeights:
    """Merging writes to a weight that another module shares."""

    @staticmethod
    def tied_head(lib: ModuleType) -> tuple[Tensor, Tensor]:
        table, head, x = lib.Embedding(10, 4, r=2), nn.Linear(4, 10, bias=False), torch.randn(3, 4)
        head.weight = table.weight
        randomise(table)
        before = no_grad(head, x)
        table.eval()
        no_grad(table, torch.arange(10))
        return no_grad(head, x), before

    @staticmethod
    def two_adapters(lib: ModuleType) -> tuple[list[Tensor], list[Tensor]]:
        layers = [lib.Linear(4, 4, r=2, bias=False) for _ in range(2)]
        layers[1].weight = layers[0].weight
        x = torch.randn(3, 4)
        for layer in layers:
            randomise(layer)
        before = [no_grad(layer, x) for layer in layers]
        for layer in layers:
            layer.eval()
        return [no_grad(layer, x) for layer in layers], before

    def test_loralib_changes_the_tied_head(self) -> None:
        after, before = self.tied_head(loralib)
        assert (after - before).abs().max() > 0.1

    def test_lorakit_keeps_the_tied_head(self) -> None:
        after, before = self.tied_head(lorakit)
        assert_close(after, before, **EXACT)

    def test_loralib_adds_both_updates_to_a_shared_weight(self) -> None:
        after, before = self.two_adapters(loralib)
        assert all((a - b).abs().max() > 0.1 for a, b in zip(after, before, strict=True))

    def test_lorakit_adds_each_layers_own_update(self) -> None:
        after, before = self.two_adapters(lorakit)
        for a, b in zip(after, before, strict=True):
            assert_close(a, b, **FP32)


class TestB21ParentReadsWeight:
    """Parents that read a child's weight never call its forward, so its adapter does nothing."""

    @staticmethod
    def attention(lib: ModuleType) -> tuple[nn.MultiheadAttention, Tensor]:
        module, x = nn.MultiheadAttention(8, 2), torch.randn(3, 1, 8)
        module.out_proj = lib.Linear(8, 8, r=2)
        randomise(module)
        module(x, x, x)[0].square().sum().backward()
        return module, x

    @staticmethod
    def encoder_layer(lib: ModuleType) -> tuple[Tensor, Tensor]:
        """Outputs of torch's slow and fast path of one unmerged layer."""
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        layer.linear1 = lib.Linear(8, 16, r=2, merge_weights=False)
        layer.linear2 = lib.Linear(16, 8, r=2, merge_weights=False)
        randomise(layer)
        x = torch.randn(2, 5, 8)
        return layer(x).detach(), no_grad(layer.eval(), x)

    def test_loralib_has_no_gradient(self) -> None:
        module, _ = self.attention(loralib)
        assert module.out_proj.lora_A.grad is None
        assert module.out_proj.lora_B.grad is None

    def test_lorakit_has_output_and_gradients_of_the_sum(self) -> None:
        module, x = self.attention(lorakit)
        layer, plain = module.out_proj, nn.MultiheadAttention(8, 2)
        a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
        tensors = {
            "in_proj_weight": module.in_proj_weight.detach(),
            "in_proj_bias": module.in_proj_bias.detach(),
            "out_proj.weight": layer.base_weight + layer.scaling * b @ a,
            "out_proj.bias": layer.bias.detach(),
        }
        expected = torch.func.functional_call(plain, tensors, (x, x, x))[0]
        expected.square().sum().backward()
        assert_close(module(x, x, x)[0], expected, **FP32)
        assert_close(layer.lora_A.grad, a.grad, **FP32)
        assert_close(layer.lora_B.grad, b.grad, **FP32)

    def test_loralib_fast_path_misses_the_update(self) -> None:
        slow, fast = self.encoder_layer(loralib)
        assert (slow - fast).abs().max() > 0.1

    def test_lorakit_fast_path_has_the_update(self) -> None:
        slow, fast = self.encoder_layer(lorakit)
        assert_close(fast, slow, **FP32)


class TestB22MixedDtypes:
    """A float32 adapter beside a bfloat16 base fails outside autocast."""

    @staticmethod
    def mixed(lib: ModuleType) -> nn.Module:
        layer = lib.Linear(4, 4, r=2)
        layer.weight.data = layer.weight.data.bfloat16()
        layer.bias.data = layer.bias.data.bfloat16()
        randomise(layer)
        return layer

    def test_loralib_fails(self) -> None:
        with pytest.raises(RuntimeError, match="same dtype"):
            self.mixed(loralib)(torch.randn(2, 4).bfloat16())

    def test_lorakit_computes_in_the_bases_dtype(self) -> None:
        layer, x = self.mixed(lorakit), torch.randn(2, 4).bfloat16()
        y = layer(x)
        y.sum().backward()
        wide = F.linear(x.float(), layer.weight.float() + linear_delta(layer), layer.bias.float())
        assert y.dtype == torch.bfloat16
        assert_close(y.float(), wide, **BF16)
        assert layer.lora_A.dtype == layer.lora_A.grad.dtype == torch.float32
        assert layer.lora_B.dtype == layer.lora_B.grad.dtype == torch.float32


class TestB23GradientsInEvalMode:
    """In evaluation mode an adapter has no gradient."""

    def test_loralib_has_no_graph(self) -> None:
        layer = loralib.Linear(4, 4, r=2, bias=False)
        layer.eval()
        with pytest.raises(RuntimeError, match="does not require grad"):
            layer(torch.randn(2, 4)).sum().backward()

    def test_lorakit_has_the_gradients_of_training_mode(self) -> None:
        layer, x = lorakit.Linear(4, 4, r=2, bias=False), torch.randn(2, 4)
        randomise(layer)
        gradients = []
        for mode in (True, False):
            layer.train(mode).zero_grad()
            no_grad(layer, x)
            layer(x).square().sum().backward()
            gradients.append([layer.lora_A.grad, layer.lora_B.grad])
        for in_training, in_evaluation in zip(*gradients, strict=True):
            assert_close(in_evaluation, in_training, **EXACT)


class TestB24NamesWithLora:
    """Whatever has lora_ in its name is trained and saved."""

    @staticmethod
    def names(lib: ModuleType) -> tuple[list[str], list[str]]:
        model = nn.ModuleDict({"lora_head": nn.Linear(2, 2), "x": lib.Linear(2, 2, r=1)})
        lib.mark_only_lora_as_trainable(model)
        return trainable(model), list(lib.lora_state_dict(model))

    def test_loralib_takes_the_head(self) -> None:
        head = ["lora_head.weight", "lora_head.bias"]
        assert self.names(loralib) == ([*head, "x.lora_A", "x.lora_B"],) * 2

    def test_lorakit_takes_the_adapters(self) -> None:
        assert self.names(lorakit) == (["x.lora_A", "x.lora_B"],) * 2


class TestB25FrozenBefore:
    """mark_only_lora_as_trainable does not make frozen adapters trainable again."""

    @staticmethod
    def names(lib: ModuleType) -> list[str]:
        model = nn.Sequential(lib.Linear(2, 2, r=1)).requires_grad_(False)
        lib.mark_only_lora_as_trainable(model)
        return trainable(model)

    def test_loralib_trains_nothing(self) -> None:
        assert self.names(loralib) == []

    def test_lorakit_trains_the_adapters(self) -> None:
        assert self.names(lorakit) == ["0.lora_A", "0.lora_B"]


class TestB26BiasWithoutRank:
    """With bias="lora_only" the bias of a layer with r=0 is trained and not saved."""

    @staticmethod
    def names(lib: ModuleType) -> tuple[set[str], set[str]]:
        model = nn.Sequential(lib.Linear(2, 2, r=0), lib.Linear(2, 2, r=1))
        lib.mark_only_lora_as_trainable(model, "lora_only")
        return set(trainable(model)), set(lib.lora_state_dict(model, "lora_only"))

    def test_loralib_trains_more_than_it_saves(self) -> None:
        trained, saved = self.names(loralib)
        assert trained - saved == {"0.bias"}

    def test_lorakit_saves_what_it_trains(self) -> None:
        trained, saved = self.names(lorakit)
        assert trained == saved == {"1.bias", "1.lora_A", "1.lora_B"}


class TestB27BiasAnywhere:
    """bias="all" means every name with "bias" in it: tables that train, and buffers in the file."""

    @staticmethod
    def names(lib: ModuleType) -> tuple[set[str], set[str]]:
        model = nn.Module()
        model.register_buffer("bias", torch.ones(4, 4))
        model.relative_attention_bias = nn.Embedding(3, 2)
        model.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        model.q = lib.Linear(2, 2, r=1)
        model.norm = nn.LayerNorm(2)
        model.rnn = nn.LSTM(2, 2)
        lib.mark_only_lora_as_trainable(model, "all")
        return set(trainable(model)), set(lib.lora_state_dict(model, "all"))

    TABLES = frozenset({"relative_attention_bias.weight", "relative_position_bias_table"})
    BIASES = frozenset({"q.bias", "norm.bias", "rnn.bias_ih_l0", "rnn.bias_hh_l0"})
    ADAPTER = frozenset({"q.lora_A", "q.lora_B"})

    def test_loralib_trains_tables_and_saves_buffers(self) -> None:
        trained, saved = self.names(loralib)
        assert trained == self.TABLES | self.BIASES | self.ADAPTER
        assert saved == trained | {"bias"}

    def test_lorakit_trains_and_saves_bias_vectors(self) -> None:
        trained, saved = self.names(lorakit)
        assert trained == saved == self.BIASES | self.ADAPTER


class TestB28NothingButTensors:
    """A file has no rank, scale or targets: a wrong scale or key goes unnoticed.

    In lorakit `save_adapter` and `load_adapter` carry them; state dicts are still only tensors.
    """

    @staticmethod
    def trained(lib: ModuleType) -> nn.Sequential:
        model = nn.Sequential(lib.Linear(4, 4, r=2, lora_alpha=32))
        randomise(model)
        return model

    @staticmethod
    def base_of(model: nn.Sequential) -> nn.Sequential:
        plain = nn.Sequential(nn.Linear(4, 4))
        same_base(model[0], plain[0])
        return plain

    def test_loralib_scales_wrongly_in_silence(self) -> None:
        model, other = self.trained(loralib), nn.Sequential(loralib.Linear(4, 4, r=2))
        same_base(model[0], other[0])
        other.load_state_dict(loralib.lora_state_dict(model), strict=False)
        x = torch.randn(3, 4)
        assert (model(x) - other(x)).abs().max() > 1

    def test_loralib_hides_a_wrong_prefix(self) -> None:
        model = self.trained(loralib)
        state = {f"module.{k}": torch.zeros_like(v) for k, v in model.state_dict().items()}
        model.load_state_dict(state, strict=False)
        assert all(parameter.abs().max() > 0 for parameter in model.parameters())

    def test_lorakit_file_brings_rank_and_scale(self, tmp_path: Path) -> None:
        model, x = self.trained(lorakit), torch.randn(3, 4)
        plain = self.base_of(model)
        lorakit.load_adapter(plain, lorakit.save_adapter(model, tmp_path / "adapter"))
        assert (plain[0].r, plain[0].scaling) == (2, 16.0)
        assert_close(plain(x), model(x), **EXACT)

    def test_lorakit_refuses_another_scale(self, tmp_path: Path) -> None:
        model, other = self.trained(lorakit), nn.Sequential(lorakit.Linear(4, 4, r=2))
        same_base(model[0], other[0])
        before = {name: value.clone() for name, value in other.state_dict().items()}
        path = lorakit.save_adapter(model, tmp_path / "adapter")
        with pytest.raises(MismatchError, match=r"scaling 0\.5, but the file has scaling 16\.0"):
            lorakit.load_adapter(other, path)
        for name, value in other.state_dict().items():
            assert_close(value, before[name], **EXACT)

    def test_lorakit_refuses_another_name(self, tmp_path: Path) -> None:
        model = self.trained(lorakit)
        path = lorakit.save_adapter(model, tmp_path / "adapter")
        renamed = nn.Sequential()
        renamed.other = self.base_of(model)[0]
        with pytest.raises(MismatchError, match="does not fit this Sequential") as caught:
            lorakit.load_adapter(renamed, path)
        assert any(re.match(r"'?0'? ", problem) for problem in caught.value.problems)
        assert type(renamed.other) is nn.Linear


class TestB29AliasedStateDict:
    """The tensors of lora_state_dict are the live parameters."""

    @staticmethod
    def zero_after_snapshot(lib: ModuleType) -> tuple[Tensor, Tensor]:
        layer = lib.Linear(4, 4, r=2)
        before = layer.lora_A.detach().clone()
        snapshot = lib.lora_state_dict(layer)
        layer.lora_A.data.zero_()
        return snapshot["lora_A"], before

    def test_loralib_changes_the_snapshot(self) -> None:
        snapshot, _ = self.zero_after_snapshot(loralib)
        assert snapshot.abs().sum() == 0

    def test_lorakit_copies(self) -> None:
        snapshot, before = self.zero_after_snapshot(lorakit)
        assert_close(snapshot, before, **EXACT)


class TestB30TransposedWeight:
    """With fan_in_fan_out the weight is a view that safetensors refuses; reset draws it wrongly."""

    KINDS = pytest.mark.parametrize(
        ("kind", "arguments"), [("Linear", {}), ("MergedLinear", {"enable_lora": [True, False]})]
    )

    @staticmethod
    def layer(lib: ModuleType, kind: str, arguments: dict[str, list[bool]]) -> nn.Module:
        return getattr(lib, kind)(4, 400, r=2, fan_in_fan_out=True, **arguments)

    @KINDS
    def test_loralib_cannot_be_saved(self, kind: str, arguments: dict[str, list[bool]]) -> None:
        with pytest.raises(ValueError, match="non contiguous"):
            save_safetensors(self.layer(loralib, kind, arguments).state_dict())

    @KINDS
    def test_lorakit_can_be_saved(self, kind: str, arguments: dict[str, list[bool]]) -> None:
        state = self.layer(lorakit, kind, arguments).state_dict()
        assert state["weight"].shape == (4, 400)
        assert_close(load_safetensors(save_safetensors(state)), dict(state), **EXACT)

    @KINDS
    def test_loralib_resets_with_the_wrong_fan(
        self, kind: str, arguments: dict[str, list[bool]]
    ) -> None:
        layer = self.layer(loralib, kind, arguments)
        layer.reset_parameters()
        assert layer.weight.abs().max() <= 400**-0.5

    @KINDS
    def test_lorakit_resets_as_it_constructs(
        self, kind: str, arguments: dict[str, list[bool]]
    ) -> None:
        layer = self.layer(lorakit, kind, arguments)
        bounds = [float(layer.weight.detach().abs().max())]
        layer.reset_parameters()
        bounds.append(float(layer.weight.detach().abs().max()))
        assert all(0.49 < bound <= 4**-0.5 for bound in bounds)


class TestB31Export:
    """A layer cannot be scripted. torch.export, which took TorchScript's place, works here."""

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_loralib_cannot_be_scripted(self) -> None:
        with pytest.raises(
            torch.jit.frontend.UnsupportedNodeError, match="function definitions aren't supported"
        ):
            torch.jit.script(loralib.Linear(4, 4, r=2))

    @pytest.mark.parametrize("training", [True, False])
    def test_lorakit_can_be_exported(self, training: bool) -> None:
        model = nn.Sequential(
            lorakit.Embedding(10, 4, r=2),
            lorakit.Linear(4, 6, r=2),
            lorakit.MergedLinear(6, 6, r=2, enable_lora=[True, False]),
            lorakit.Conv1d(3, 3, 3, r=2),
        ).train(training)
        randomise(model)
        ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
        exported = torch.export.export(model, (ids,)).module()
        assert_close(exported(ids), model(ids), **FP32)


class TestB32FrozenScaling:
    """Setting lora_alpha after construction has no effect."""

    def test_loralib_keeps_the_old_scale(self) -> None:
        layer = loralib.Linear(4, 4, r=2)
        layer.lora_alpha = 100
        assert layer.scaling == 0.5

    @pytest.mark.parametrize("training", [True, False])
    def test_lorakit_uses_the_new_scale(self, training: bool) -> None:
        layer, x = lorakit.Linear(4, 4, r=2).train(training), torch.randn(3, 4)
        randomise(layer)
        no_grad(layer, x)
        layer.lora_alpha = 100
        assert layer.scaling == 50
        expected = F.linear(x, layer.weight + 50 * layer.lora_B @ layer.lora_A, layer.bias)
        assert_close(no_grad(layer, x), expected.detach(), rtol=FP32["rtol"], atol=1e-4)


class TestB33EvalBeforeBackward:
    """eval() between forward and backward changes the gradient of the input."""

    @staticmethod
    def gradients(lib: ModuleType) -> tuple[Tensor, Tensor]:
        layer, x = lib.Linear(4, 4, r=2), torch.randn(3, 4, requires_grad=True)
        randomise(layer)
        y = layer(x).square().sum()
        layer.eval()
        no_grad(layer, x)
        (interrupted,) = torch.autograd.grad(y, x)
        layer.train()
        (plain,) = torch.autograd.grad(layer(x).square().sum(), x)
        return interrupted, plain

    def test_loralib_changes_the_gradient(self) -> None:
        interrupted, plain = self.gradients(loralib)
        assert (interrupted - plain).abs().max() > 0.1

    def test_lorakit_has_the_same_gradient(self) -> None:
        interrupted, plain = self.gradients(lorakit)
        assert_close(interrupted, plain, **EXACT)


class TestB34SilentRanks:
    """A negative rank, or one above the layer's size, is accepted without a word.

    The defaults (r=0, lora_alpha=1) stay loralib's.
    """

    @pytest.mark.parametrize("r", [-3, 100])
    def test_loralib_says_nothing(self, r: int) -> None:
        assert repr(loralib.Linear(4, 6, r=r)) == repr(nn.Linear(4, 6))

    @pytest.mark.parametrize(
        "construct",
        [
            lambda lib, r: lib.Linear(4, 6, r=r),
            lambda lib, r: lib.MergedLinear(4, 6, r=r, enable_lora=[True, False]),
            lambda lib, r: lib.Embedding(4, 6, r=r),
            lambda lib, r: lib.Conv1d(4, 6, 1, r=r),
            lambda lib, r: lib.Conv2d(4, 6, 1, r=r),
            lambda lib, r: lib.Conv3d(4, 6, 1, r=r),
        ],
        ids=["Linear", "MergedLinear", "Embedding", "Conv1d", "Conv2d", "Conv3d"],
    )
    def test_lorakit_refuses_or_shows_it(
        self, construct: Callable[[ModuleType, int], nn.Module]
    ) -> None:
        with pytest.raises(ConfigError, match="r is -3"):
            construct(lorakit, -3)
        assert re.search(r"r=100.*above min\(in, out\)=[34]\)", repr(construct(lorakit, 100)))
        assert "above" not in repr(construct(lorakit, 3))
        construct(lorakit, 100)

    def test_lorakit_has_the_same_defaults(self) -> None:
        peer, layer = loralib.Linear(4, 4, r=8), lorakit.Linear(4, 4, r=8)
        assert layer.scaling == peer.scaling == 0.125
        assert trainable(lorakit.Linear(4, 4)) == trainable(loralib.Linear(4, 4))


class TestB35AveragedModel:
    """An averaged model that was evaluated takes unmerged weights for merged ones."""

    @staticmethod
    def average(lib: ModuleType) -> tuple[Tensor, Tensor]:
        """The output of an EMA over three states of the adapter, and the one it should have."""
        model, x = nn.Sequential(lib.Linear(4, 4, r=2)), torch.randn(3, 4)
        base, bias = model[0].weight.detach().clone(), model[0].bias.detach()
        averaged, history = AveragedModel(model), []
        for _ in range(3):
            randomise(model)
            history.append((model[0].lora_A.detach().clone(), model[0].lora_B.detach().clone()))
            averaged.update_parameters(model)
            averaged.eval()
            no_grad(averaged, x)
        a, b = (torch.stack(values).mean(dim=0) for values in zip(*history, strict=True))
        return no_grad(averaged, x), F.linear(x, base + 0.5 * b @ a, bias)

    def test_loralib_averages_the_merged_weight(self) -> None:
        output, expected = self.average(loralib)
        assert (output - expected).abs().max() > 0.1

    def test_lorakit_averages_the_adapter(self) -> None:
        output, expected = self.average(lorakit)
        assert_close(output, expected, **FP32)


def test_defects_are_all_here_with_both_sides() -> None:
    found = {}
    for name, value in globals().items():
        if match := re.match(r"TestB(\d+)", name):
            tests = [test for test in vars(value) if test.startswith("test_")]
            found[int(match[1])] = {test.split("_")[1] for test in tests}
    assert found == {number: {"loralib", "lorakit"} for number in range(1, 36)}
