"""An embedding with a low-rank update, against rows of W + dW by their definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit.errors import ConfigError
from tests.tolerances import EXACT, TOLERANCES

FP32, FP64 = TOLERANCES[torch.float32], TOLERANCES[torch.float64]
ROWS, WIDTH, RANK = 11, 5, 3


def embedding(dtype: torch.dtype = torch.float64, **options: Any) -> nn.Module:
    layer = lorakit.Embedding(ROWS, WIDTH, r=RANK, lora_alpha=7, dtype=dtype, **options)
    return randomised(layer)


def injected(plain: nn.Embedding, **settings: Any) -> nn.Module:
    model = nn.Sequential(plain)
    settings = {"r": RANK, "lora_alpha": 7, "merge_weights": True} | settings
    lorakit.inject(model, lorakit.LoraConfig(target_modules=["0"], **settings))
    return model[0]


def randomised(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        layer.lora_A.normal_()
        layer.lora_B.normal_()
    return layer


def slow_rows(layer: nn.Module, ids: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Each id as a one-hot vector, times W + s (B A)^T."""
    one_hot = F.one_hot(ids.long(), ROWS).to(a.dtype)
    return one_hot @ (layer.weight.detach().to(a.dtype) + layer.scaling * (b @ a).t())


def leaves(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Copies of A and B with gradients of their own."""
    a, b = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    return a, b


def backward(output: Tensor, expected: Tensor) -> None:
    """The same weighted sum of both, backwards."""
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()


IDS = {
    "one": torch.tensor(4),
    "row": torch.tensor([1, 4, 1, 10]),
    "batch": torch.tensor([[0, 3, 3], [10, 3, 5]]),
    "int32": torch.tensor([[0, 3], [10, 3]], dtype=torch.int32),
    "none": torch.zeros(2, 0, dtype=torch.long),
}
ALL_IDS = pytest.mark.parametrize("ids", list(IDS.values()), ids=list(IDS))


# --- values


@ALL_IDS
def test_output_and_gradients_are_those_of_the_sum(ids: Tensor) -> None:
    layer = embedding()
    a, b = leaves(layer)
    output, expected = layer(ids), slow_rows(layer, ids, a, b)
    assert output.shape == (*ids.shape, WIDTH)
    assert_close(output, expected, **FP64)
    backward(output, expected)
    assert_close(layer.lora_A.grad, a.grad, **FP64)
    assert_close(layer.lora_B.grad, b.grad, **FP64)
    assert layer.weight.grad is None


@ALL_IDS
@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 3}, {"scale_grad_by_freq": True}, {"sparse": True}], ids=str
)
def test_merged_output_is_the_unmerged_one(ids: Tensor, options: dict[str, Any]) -> None:
    layer = embedding(**options)
    base, expected = layer.weight.detach().clone(), layer(ids).detach()
    with torch.no_grad():
        merged = layer.eval()(ids)
    assert layer.merged
    assert_close(merged, expected, **FP64)
    assert_close(layer.train()(ids), expected, **EXACT)
    assert_close(layer.weight, base, **EXACT)


def test_delta_is_the_slow_one() -> None:
    layer = embedding()
    expected = torch.zeros(ROWS, WIDTH, dtype=torch.float64)
    for v in range(ROWS):
        for j in range(RANK):
            expected[v] += layer.scaling * layer.lora_A[j, v].item() * layer.lora_B[:, j].detach()
    assert_close(layer.delta_weight().detach(), expected, **FP64)


def test_embedding_passes_gradcheck() -> None:
    layer, ids = embedding(), IDS["batch"]

    def function(a: Tensor, b: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"lora_A": a, "lora_B": b}, (ids,))

    assert torch.autograd.gradcheck(function, leaves(layer))


def test_new_embedding_gives_the_rows_of_its_base() -> None:
    layer, ids = lorakit.Embedding(ROWS, WIDTH, r=RANK), IDS["batch"]
    assert layer.lora_A.abs().max() == 0
    assert layer.lora_B.std() > 0.5
    assert_close(layer(ids), layer.weight[ids], **EXACT)


def test_rows_of_tokens_that_never_occur_stay_zero_in_a() -> None:
    layer, ids = lorakit.Embedding(ROWS, WIDTH, r=RANK), IDS["batch"]
    optimizer = torch.optim.SGD([layer.lora_A, layer.lora_B], lr=0.1)
    layer(ids).square().sum().backward()
    optimizer.step()
    seen = layer.lora_A.abs().amax(dim=0) > 0
    assert seen.nonzero().flatten().tolist() == ids.unique().tolist()


def test_id_outside_the_table_is_an_error() -> None:
    with pytest.raises(IndexError):
        embedding()(torch.tensor([ROWS]))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_bfloat16_base_keeps_its_dtype_and_factors_theirs(training: bool) -> None:
    layer = randomised(injected(nn.Embedding(ROWS, WIDTH, dtype=torch.bfloat16))).train(training)
    ids = IDS["batch"]
    truth = slow_rows(layer, ids, layer.lora_A.double(), layer.lora_B.double())
    output = layer(ids)
    output.sum().backward()
    with torch.no_grad():
        without_graph = layer(ids)
    for each in (output, without_graph):
        assert each.dtype == torch.bfloat16
        assert_close(each.double(), truth, **TOLERANCES[torch.bfloat16])
    assert layer.lora_A.dtype == layer.lora_A.grad.dtype == torch.float32
    assert layer.lora_B.dtype == layer.lora_B.grad.dtype == torch.float32


# --- padding_idx


@pytest.mark.parametrize("padding_idx", [3, -1, 0])
def test_padding_row_of_a_has_no_gradient(padding_idx: int) -> None:
    layer, row = embedding(padding_idx=padding_idx), padding_idx % ROWS
    ids = torch.tensor([[row, 1, 2], [row, row, 2]])
    a, b = leaves(layer)
    frozen = torch.arange(ROWS) == row
    output = layer(ids)
    expected = slow_rows(layer, ids, torch.where(frozen, a.detach(), a), b)
    assert_close(output, expected, **FP64)
    backward(output, expected)
    assert layer.lora_A.grad[:, row].abs().max() == 0
    assert layer.lora_A.grad[:, 2].abs().max() > 0
    assert_close(layer.lora_A.grad, a.grad, **FP64)
    assert_close(layer.lora_B.grad, b.grad, **FP64)


def test_padding_row_stays_zero_through_training() -> None:
    layer = lorakit.Embedding(ROWS, WIDTH, r=RANK, padding_idx=2)
    optimizer = torch.optim.SGD([layer.lora_A, layer.lora_B], lr=0.1, momentum=0.9)
    ids, target = torch.tensor([[2, 1, 5], [5, 2, 2]]), torch.randn(2, 3, WIDTH)
    for _ in range(4):
        optimizer.zero_grad()
        F.mse_loss(layer(ids), target).backward()
        optimizer.step()
    assert layer(torch.tensor(2)).abs().max() == 0
    assert layer.lora_A[:, 5].abs().max() > 0
    with torch.no_grad():
        assert layer.eval()(torch.tensor(2)).abs().max() == 0


# --- scale_grad_by_freq


def test_gradient_of_a_is_scaled_by_frequency() -> None:
    layer, ids = embedding(scale_grad_by_freq=True), torch.tensor([[4, 4, 1], [4, 0, 1]])
    a, b = leaves(layer)
    output, expected = layer(ids), slow_rows(layer, ids, a, b)
    assert_close(output, expected, **FP64)
    backward(output, expected)
    counts = torch.bincount(ids.flatten(), minlength=ROWS).clamp(min=1)
    assert_close(layer.lora_A.grad, a.grad / counts, **FP64)
    assert_close(layer.lora_B.grad, b.grad, **FP64)


# --- max_norm

NORMS = pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])


@NORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_max_norm_shortens_rows_as_torch_does(norm_type: float, dtype: torch.dtype) -> None:
    options = {"max_norm": 1.3, "norm_type": norm_type, "dtype": dtype}
    plain, ids = nn.Embedding(ROWS, WIDTH, **options), torch.arange(ROWS)
    layer = injected(nn.Embedding(ROWS, WIDTH, **options))
    layer.load_state_dict(plain.state_dict(), strict=False)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        expected = plain(ids)
        assert not torch.equal(expected, before)
        assert_close(layer(ids), expected, **TOLERANCES[dtype])
        assert_close(layer.eval()(ids), expected, **TOLERANCES[dtype])
    assert_close(layer.weight, before, **EXACT)


@NORMS
def test_max_norm_leaves_update_and_gradients_whole(norm_type: float) -> None:
    layer, ids = embedding(max_norm=0.9, norm_type=norm_type), IDS["batch"]
    factors = [layer.lora_A.detach().clone(), layer.lora_B.detach().clone()]
    rows = layer.weight.detach()[ids]
    norm = torch.linalg.vector_norm(rows, norm_type, dim=-1, keepdim=True)
    short = torch.where(norm > 0.9, rows * 0.9 / (norm + 1e-7), rows)
    a, b = leaves(layer)
    expected = slow_rows(layer, ids, a, b) - rows + short
    output = layer(ids)
    assert_close(output, expected, **FP64)
    backward(output, expected)
    assert_close(layer.lora_A.grad, a.grad, **FP64)
    assert_close(layer.lora_B.grad, b.grad, **FP64)
    assert_close([layer.lora_A, layer.lora_B], factors, **EXACT)
    with torch.no_grad():
        assert_close(layer.eval()(ids), expected, **FP64)
    assert not layer.merged


def test_max_norm_of_a_plain_layer_writes_as_torch_does() -> None:
    layer, plain = (
        cls(ROWS, WIDTH, max_norm=0.5, dtype=torch.float64)
        for cls in (lorakit.Embedding, nn.Embedding)
    )
    layer.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert_close(layer(IDS["row"]), plain(IDS["row"]), **EXACT)
    assert_close(layer.weight, plain.weight, **EXACT)


# --- sparse


def test_sparse_gradients_are_those_of_a_trainable_weight() -> None:
    layer = lorakit.Embedding(ROWS, WIDTH, sparse=True)
    layer(IDS["batch"]).sum().backward()
    assert layer.weight.grad.is_sparse
    counts = torch.bincount(IDS["batch"].flatten(), minlength=ROWS)
    expected = counts[:, None].float().expand(ROWS, WIDTH)
    assert_close(layer.weight.grad.to_dense(), expected, **EXACT)


def test_sparse_layer_with_an_adapter_has_dense_gradients() -> None:
    layer, ids = embedding(sparse=True), IDS["batch"]
    a, b = leaves(layer)
    backward(layer(ids), slow_rows(layer, ids, a, b))
    assert layer.weight.grad is None
    assert not layer.lora_A.grad.is_sparse
    assert_close(layer.lora_A.grad, a.grad, **FP64)
    assert_close(layer.lora_B.grad, b.grad, **FP64)


def test_unfrozen_weight_beside_an_adapter_has_the_gradient_that_was_asked_for() -> None:
    for sparse in (True, False):
        layer = embedding(sparse=sparse)
        layer.weight.requires_grad_()
        layer(IDS["row"]).sum().backward()
        assert layer.weight.grad.is_sparse is sparse


# --- dropout


def dropped_updates(p: float, ids: Tensor) -> Tensor:
    """What reaches each position of dW[id], as a factor: 0 where dropped, 1 / (1 - p) elsewhere."""
    layer = embedding(lora_dropout=p)
    with torch.no_grad():
        update = layer(ids) - layer.weight[ids]
        factors = update / layer.delta_weight()[ids]
    assert_close(factors, factors[..., :1].expand_as(factors), rtol=1e-6, atol=1e-6)
    return factors[..., 0]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_whole_tokens_and_keeps_the_expectation(p: float) -> None:
    factors = dropped_updates(p, torch.randint(ROWS, (200, 50)))
    kept = factors > 0.5
    assert_close(factors, kept / (1 - p), check_dtype=False, rtol=1e-6, atol=1e-6)
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.015)
    assert factors.mean().item() == pytest.approx(1, abs=0.015 / (1 - p))


def test_dropout_draws_for_each_position() -> None:
    """The same token twice is dropped twice independently."""
    kept = dropped_updates(0.5, torch.full((400, 2), 4)) > 0.5
    pairs = (kept[:, 0].long() * 2 + kept[:, 1].long()).bincount(minlength=4) / 400
    assert_close(pairs, torch.full((4,), 0.25), rtol=0, atol=0.08)


def test_dropped_tokens_have_no_gradient() -> None:
    layer, ids = embedding(lora_dropout=0.5), torch.arange(ROWS)
    output = layer(ids)
    output.sum().backward()
    dropped = (output.detach() == layer.weight[ids]).all(dim=1)
    assert 0 < dropped.sum() < ROWS
    assert ((layer.lora_A.grad.abs().amax(dim=0) == 0) == dropped).all()


def test_dropout_ends_with_training() -> None:
    layer, ids = embedding(lora_dropout=0.5).eval(), IDS["batch"]
    expected = slow_rows(layer, ids, layer.lora_A, layer.lora_B)
    assert_close(layer(ids), expected, **FP64)
    with torch.no_grad():
        assert_close(layer(ids), expected, **FP64)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_outside_its_range_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match="lora_dropout"):
        lorakit.Embedding(ROWS, WIDTH, r=RANK, lora_dropout=p)


# --- from_pretrained


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_from_pretrained_keeps_the_callers_tensor(freeze: bool, padding_idx: int | None) -> None:
    table = torch.randn(ROWS, WIDTH)
    before = table.clone()
    layer = lorakit.Embedding.from_pretrained(table, freeze=freeze, padding_idx=padding_idx)
    assert_close(table, before, **EXACT)
    assert layer.weight.data_ptr() == table.data_ptr()
    assert layer.weight.requires_grad is not freeze
    assert_close(layer(torch.arange(ROWS)), before, **EXACT)


def test_table_given_to_the_constructor_is_adapted_as_it_is() -> None:
    table = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    before, ids = table.clone(), IDS["batch"]
    layer = lorakit.Embedding(ROWS, WIDTH, r=RANK, _weight=table)
    assert layer.weight.data_ptr() == table.data_ptr()
    assert not layer.weight.requires_grad
    randomised(layer)
    expected = slow_rows(layer, ids, layer.lora_A, layer.lora_B)
    with torch.no_grad():
        assert_close(layer(ids), expected, **FP64)
        assert_close(layer.eval()(ids), expected, **FP64)
    assert_close(table, before, **EXACT)


def test_pretrained_embedding_is_injected_as_it_is() -> None:
    table = torch.randn(ROWS, WIDTH)
    layer = injected(nn.Embedding.from_pretrained(table))
    assert layer.weight.data_ptr() == table.data_ptr()
    assert_close(layer(IDS["batch"]), table[IDS["batch"]], **EXACT)


def test_reset_draws_everything_anew() -> None:
    layer = embedding(padding_idx=2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.reset_parameters()
    assert layer.lora_A.abs().max() == 0
    assert layer.weight[2].abs().max() == 0
    for name in ("weight", "lora_B"):
        assert not torch.equal(getattr(layer, name), before[name])
