"""Prefix embeddings and prefix layers equal what they are by their definition, text by text."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from lorakit.methods import find
from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig
from tests.methods.prefixes.models import CAUSAL, CLASSES, ENCODERS, batch, make, texts
from tests.methods.prefixes.written_out import logits
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
SETTINGS = {"prefix_embedding": PrefixConfig, "prefix_layer": PrefixLayerConfig}
COUNTS = [(3, 0), (2, 2), (0, 3)]


def rows_of(model, name, prefix, infix):
    """The one trained tensor that is no head, and its rows as the definition takes them."""
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 1
    weight = model.get_parameter(trained[0])
    rows = weight.detach().clone().requires_grad_()
    shaped = rows if name == "prefix_embedding" else rows.unflatten(1, (3, -1))
    return weight, rows, shaped


def expected_logits(base, kind, rows, prefix, inputs):
    """Of each text alone, of as many places as it has tokens."""
    each = [logits(base, kind, text, rows, prefix) for text in texts(kind)]
    if kind != "t5":
        return each
    return [
        base(encoder_outputs=(states,), labels=labels[None]).logits
        for states, labels in zip(each, inputs["labels"], strict=True)
    ]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", SETTINGS)
def test_virtual_tokens_equal_their_definition_in_outputs_and_gradients(name, kind, counts):
    prefix, infix = counts
    base, model, inputs = make(kind), make(kind), batch(kind)
    find(name).apply(model, SETTINGS[name](prefix=prefix, infix=infix))
    weight, rows, shaped = rows_of(model, name, prefix, infix)
    found = model(**inputs).logits
    wanted = expected_logits(base, kind, shaped, prefix, inputs)
    torch.manual_seed(2)
    ours, theirs = torch.zeros(()).double(), torch.zeros(()).double()
    for row, expected in enumerate(wanted):
        own = found[row : row + 1, : expected.shape[1]] if kind not in ENCODERS else found[[row]]
        assert_close(own, expected, **CLOSE)
        weights = torch.randn_like(expected)
        ours, theirs = ours + (own * weights).sum(), theirs + (expected * weights).sum()
    ours.backward(), theirs.backward()
    assert rows.grad.abs().max() > 1e-6
    assert_close(weight.grad, rows.grad, **CLOSE)


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("name", SETTINGS)
def test_padding_on_the_left_changes_no_output(name, kind):
    model, inputs = make(kind), batch(kind)
    find(name).apply(model, SETTINGS[name](prefix=2, infix=2))
    shift = 7 - inputs["attention_mask"].sum(1)
    left = {
        n: torch.stack([r.roll(int(s)) for r, s in zip(t, shift, strict=True)])
        for n, t in inputs.items()
    }
    positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    found, wanted = model(**left, position_ids=positions).logits, model(**inputs).logits
    for row, by in enumerate(shift.tolist()):
        assert_close(found[row, by:], wanted[row, : 7 - by], **CLOSE)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_network_computes_the_rows_while_they_train_and_then_is_left_out(name, kind):
    model, plain, inputs = make(kind), make(kind), batch(kind)
    method, config = find(name), SETTINGS[name](prefix=3, infix=1, reparametrisation=5)
    report = method.apply(model, config)
    assert {n.rpartition("rows." if "rows." in n else "prefix.")[2] for n in report.own} == {
        "table",
        "inner.weight",
        "inner.bias",
        "outer.weight",
        "outer.bias",
    }
    loss = model(**inputs).loss
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.requires_grad)
    method.finish(model)
    assert_close(model(**inputs).loss, loss, **CLOSE)
    finished = method.bundle(model)
    assert finished.method_config["reparametrisation"] is None
    assert [t.shape for t in finished.trained.values()] == [
        (4, 16 * (1 if name == "prefix_embedding" else 3))
    ]
    method.load(plain, finished, "the file")
    assert_close(plain(**inputs).loss, loss, **CLOSE)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_have_the_same_gradients(name, kind, reentrant):
    model, inputs = make(kind), batch(kind)
    find(name).apply(model, SETTINGS[name](prefix=2, infix=2))
    other = copy.deepcopy(model)
    (weight,) = [p for p in model.parameters() if p.requires_grad]
    (again,) = [p for p in other.parameters() if p.requires_grad]
    other.activation_checkpointing_enable({"use_reentrant": reentrant})
    shorter = {n: t[:2] for n, t in inputs.items()}
    cacheless = {} if kind in ENCODERS else {"use_cache": False}
    (model(**inputs).loss + model(**shorter).loss).backward()
    (other(**inputs, **cacheless).loss + other(**shorter, **cacheless).loss).backward()
    assert_close(again.grad, weight.grad, **CLOSE)
