"""Random bundles, and what it means that two are the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.variants import VARIANTS, AdapterSpec, LinearSite, ModuleAdapter

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NAMES = st.from_regex(r"[a-z]{1,4}(\.[a-z0-9_]{1,4}){0,3}", fullmatch=True)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text(max_size=4),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3)
    ),
    max_leaves=6,
)


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    if draw(st.booleans()):
        return random_tensor(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)))
    return torch.zeros(shape, dtype=draw(st.sampled_from([torch.int64, torch.bool])))


@st.composite
def stated(draw: st.DrawFn) -> dict[str, Any]:
    """What a bundle says of its base and its head."""
    digests = st.dictionaries(st.sampled_from(["float32", "float16"]), st.just("ab" * 32))
    task_types = st.sampled_from([None, "CAUSAL_LM", "SEQ_CLS"])
    return {
        "base_model": draw(st.none() | st.just("org/base")),
        "base_class": draw(st.none() | st.just(("transformers.models.bert", "BertModel"))),
        "task_type": draw(task_types),
        "fingerprint": draw(digests) or None,
        "num_labels": draw(st.none() | st.integers(1, 9)),
    }


@st.composite
def adapters(draw: st.DrawFn, dtype: torch.dtype, config: LoraConfig) -> ModuleAdapter:
    r, i, o = (draw(st.integers(1, 4)) for _ in range(3))
    spec = AdapterSpec(
        r,
        draw(st.sampled_from([1, 2, 8, 0.5])),
        config.lora_dropout,
        config.merge_weights,
        config.use_rslora,
        variant=config.variant,
    )
    site = LinearSite(i, o)
    tensors = {
        name: random_tensor(shape, dtype, draw(st.integers(0, 99)))
        for name, shape in VARIANTS[spec.variant].shapes(site, r).items()
    }
    return ModuleAdapter(spec, tensors, site)


@st.composite
def lora_bundles(draw: st.DrawFn) -> AdapterBundle:
    """Of linear layers: what PEFT's files say of those is all that a bundle has."""
    use_dora = draw(st.booleans())
    modules = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    dtype = draw(st.sampled_from(DTYPES))
    config = LoraConfig(
        target_modules=modules,
        use_dora=use_dora,
        use_rslora=draw(st.booleans()),
        lora_dropout=draw(st.sampled_from([0.0, 0.1])),
    )
    return AdapterBundle(
        config,
        {name: draw(adapters(dtype, config)) for name in modules},
        {f"head.{n}.x": draw(tensors()) for n in range(draw(st.integers(0, 2)))},
        **draw(stated()),
    )


@st.composite
def method_bundles(draw: st.DrawFn) -> AdapterBundle:
    return AdapterBundle(
        method=draw(st.sampled_from(["full", "head", "of someone else"])),
        method_config=draw(st.dictionaries(st.text(max_size=4), JSON, max_size=3)),
        trained=draw(st.dictionaries(NAMES, tensors(), min_size=1, max_size=4)),
        **draw(stated()),
        format="lorakit",
    )


def assert_equal(found: AdapterBundle, expected: AdapterBundle) -> None:
    """Every tensor to the bit, and every other field but the checksum, which is the file's; of the
    config, what selects and scales."""
    assert_equal_tensors(found.tensors, expected.tensors)
    others = {f.name for f in fields(AdapterBundle)} - {"config", "adapters", "trained", "checksum"}
    for name in others:
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("target_modules", "use_dora", "use_rslora", "lora_dropout", "bias"):
        assert getattr(found.config, name) == getattr(expected.config, name), name
    for name, pair in expected.adapters.items():
        other = found.adapters[name]
        assert (other.spec, other.site) == (pair.spec, pair.site), name


def assert_equal_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
