"""The same update in other numbers: forms, portable files, loralib's files."""

from __future__ import annotations

from pathlib import Path

import loralib
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.formats import forms
from lorakit.config import LoraConfig
from lorakit.errors import SaveError
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.trainable_tokens import VALUES, rows_spec
from tests.checkpoint.bundles import assert_equal_tensors
from tests.tolerances import EXACT, TOLERANCES

SLICED = SlicedSite(4, 7, slices=((3, True), (2, False), (2, True)))
SITES = st.sampled_from([LinearSite(4, 3), LinearSite(4, 3, transposed=True), SLICED])
ALPHAS = st.sampled_from([1, 2, 3, 6.5, 16])


def adapter(
    site: Site, r: int = 2, alpha: float = 6, dtype: torch.dtype = torch.float32, **settings: object
) -> ModuleAdapter:
    a, b = (torch.randn(shape).to(dtype) for shape in site.factor_shapes(r))
    return ModuleAdapter(AdapterSpec(r, alpha, **settings), {"lora_A": a, "lora_B": b}, site)


@st.composite
def linear_bundles(draw: st.DrawFn) -> AdapterBundle:
    use_rslora = draw(st.booleans())
    adapters = {
        f"layer.{n}.{name}": adapter(
            draw(SITES), draw(st.integers(1, 4)), draw(ALPHAS), use_rslora=use_rslora
        )
        for n, name in enumerate(draw(st.lists(st.sampled_from("qkv"), min_size=1, max_size=4)))
    }
    config = LoraConfig(target_modules=list(adapters), use_rslora=use_rslora)
    return AdapterBundle(config, adapters, base_model="org/base", fingerprint={"float32": "ab"})


def assert_same_update(found: AdapterBundle, expected: AdapterBundle) -> None:
    assert found.adapters.keys() == expected.adapters.keys()
    for name, pair in expected.adapters.items():
        assert_close(found.adapters[name].delta(), pair.delta(), **TOLERANCES[torch.float32])


@given(bundle=linear_bundles())
def test_portable_form_is_the_same_update_at_one_rank_and_scale_one(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(bundle, tmp_path_factory.mktemp("portable"), "portable")
    found = read(path)
    assert {type(x.site) for x in found.adapters.values()} == {LinearSite}
    assert_same_update(found, bundle)
    assert {x.spec.scaling for x in found.adapters.values()} == {1.0}
    assert len({x.spec.r for x in found.adapters.values()}) == 1
    assert (found.config.rank_pattern, found.config.alpha_pattern) == ({}, {})
    assert not found.config.use_rslora
    assert found.fingerprint == bundle.fingerprint


@given(bundle=linear_bundles())
def test_portable_file_is_its_own_form_to_the_byte(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("portable")
    for source, name in ((bundle, "a"), (None, "b")):
        write(source or read(directory / "a"), directory / name, "portable")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (directory / "a" / file).read_bytes() == (directory / "b" / file).read_bytes()


@given(bundle=linear_bundles())
def test_loralib_file_is_the_same_update_with_one_alpha(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("loralib") / "lora.pt"
    write(bundle, file, "loralib")
    form = forms.with_adapters(bundle, forms.with_one_alpha(bundle.adapters))
    found = read(file, form.config.lora_alpha)
    assert_equal_tensors(found.tensors, form.tensors)
    assert_same_update(form, bundle)
    assert len({x.spec.lora_alpha for x in form.adapters.values()}) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scale_goes_into_16_bits_only_where_nothing_is_rounded(dtype: torch.dtype) -> None:
    exact, rounded = (adapter(LinearSite(4, 3), 2, alpha, dtype) for alpha in (8, 6.5))
    for given_, width in ((exact, dtype), (rounded, torch.float32)):
        found = forms.scaled_to(given_, 1)
        assert {t.dtype for t in found.tensors.values()} == {width}
        assert_close(found.delta(), given_.delta(), **TOLERANCES[torch.float32])


def test_adapter_in_form_keeps_its_very_numbers() -> None:
    given_ = adapter(LinearSite(4, 3), 2, 2)
    assert forms.scaled_to(given_, 1).tensors["lora_B"] is given_.tensors["lora_B"]
    assert forms.padded(given_, 2) is given_
    assert forms.whole(given_) is given_


ROWS = ModuleAdapter(rows_spec((1, 2)), {VALUES: torch.ones(2, 4)}, RowsSite(4, 9, rows=(1, 2)))
DORA = ModuleAdapter(
    AdapterSpec(2, 6, variant="dora"),
    {**adapter(LinearSite(4, 3)).tensors, "lora_magnitude_vector": torch.ones(3)},
    LinearSite(4, 3),
)
REFUSED = {
    "DoRA": ({"m": DORA}, {}, "m has DoRA, not lora_A and lora_B alone"),
    "embedding": ({"m": adapter(EmbeddingSite(9, 4))}, {}, "m is an embedding; only linear"),
    "convolution": ({"m": adapter(ConvSite((4, 3, 3, 3)))}, {}, "m is a convolution; only"),
    "attention": ({"m": adapter(InProjSite(4, 12))}, {}, "m is an nn.MultiheadAttention; only"),
    "tokens": ({"m": ROWS}, {}, "m has trainable tokens"),
    "head": ({}, {"score.weight": torch.ones(2, 4)}, "score.weight is trained in full"),
    "bias": ({}, {"q.bias": torch.ones(3)}, "q.bias is trained in full"),
}


@pytest.mark.parametrize(("adapters", "trained", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_pair_of_a_linear_layer_is_refused_by_name(
    adapters: dict[str, ModuleAdapter],
    trained: dict[str, torch.Tensor],
    message: str,
    tmp_path: Path,
) -> None:
    others = {"q": adapter(LinearSite(4, 3))} | adapters
    variant = "dora" if DORA in adapters.values() else "lora"
    config = LoraConfig(target_modules=list(others), variant=variant)
    with pytest.raises(SaveError, match=message):
        write(AdapterBundle(config, others, trained), tmp_path / "a", "portable")
    assert list(tmp_path.iterdir()) == []


def test_vllm_form_keeps_its_heads_and_refuses_others(tmp_path: Path) -> None:
    pair = {"q": adapter(LinearSite(4, 3), 3, use_rslora=True)}
    config = LoraConfig(target_modules=["q"], modules_to_save=["score"], use_rslora=True)
    good = AdapterBundle(config, pair, {"score.weight": torch.ones(2, 4)})
    assert set(read(write(good, tmp_path / "a", "vllm")).trained) == {"score.weight"}
    bad = AdapterBundle(config, pair, {"head.weight": torch.ones(2, 4)})
    with pytest.raises(SaveError, match=r"head\.weight is trained in full"):
        write(bad, tmp_path / "b", "vllm")
    large = AdapterBundle(LoraConfig(target_modules=["q"]), {"q": adapter(LinearSite(4, 3), 513)})
    with pytest.raises(SaveError, match="its rank is above 512"):
        write(large, tmp_path / "b", "vllm")


LAYERS = {
    "linear": (loralib.Linear(6, 5, r=2, lora_alpha=6), LinearSite(6, 5), (3, 6)),
    "sliced": (
        loralib.MergedLinear(6, 12, r=2, lora_alpha=6, enable_lora=[True, False, True]),
        SlicedSite(6, 12, slices=((4, True), (4, False), (4, True))),
        (3, 6),
    ),
    "kernels": (
        loralib.Conv2d(3, 4, 3, r=2, lora_alpha=6),
        ConvSite((4, 3, 3, 3)),
        (1, 3, 6, 6),
    ),
}


@pytest.mark.parametrize(("layer", "site", "shape"), LAYERS.values(), ids=LAYERS)
def test_loralib_itself_computes_what_was_written(
    layer: nn.Module, site: Site, shape: tuple[int, ...], tmp_path: Path
) -> None:
    given_ = adapter(site, 2, 3, use_rslora=True)
    bundle = AdapterBundle(LoraConfig(target_modules=["m"], use_rslora=True), {"m": given_})
    write(AdapterBundle(bundle.config, {"m": given_}), tmp_path / "lora.pt", "loralib")
    model = nn.ModuleDict({"m": layer})
    weight = (layer.conv if isinstance(site, ConvSite) else layer).weight
    x = torch.randn(shape)
    with torch.no_grad():
        layer.train()
        layer.scaling = given_.spec.scaling
        unexpected = model.load_state_dict(torch.load(tmp_path / "lora.pt"), strict=False)[1]
        found = layer(x)
        weight.add_(given_.delta())
        layer.lora_B.zero_()
        assert_close(found, layer(x), **TOLERANCES[torch.float32])
    assert unexpected == []


def test_loralib_refuses_what_its_layers_do_not_have(tmp_path: Path) -> None:
    kernel, grouped = ConvSite((4, 3, 3, 1)), ConvSite((4, 3, 3, 3), groups=2)
    adapters = {"a": DORA, "b": adapter(InProjSite(4, 12)), "c": ROWS}
    adapters |= {"d": adapter(kernel), "e": adapter(grouped)}
    with pytest.raises(SaveError) as caught:
        write(AdapterBundle(LoraConfig(), adapters), tmp_path / "lora.pt", "loralib")
    assert [problem.split()[0] for problem in caught.value.problems] == ["a", "b", "c", "d", "e"]
    with pytest.raises(SaveError, match=r"is one file, whose name ends in \.pt"):
        write(AdapterBundle(), tmp_path / "lora.safetensors", "loralib")


def test_loralib_refuses_the_bases_table_beside_its_adapter(tmp_path: Path) -> None:
    pair = {"e": adapter(EmbeddingSite(9, 4))}
    config = LoraConfig(target_modules=["e"])
    with pytest.raises(SaveError) as caught:
        write(
            AdapterBundle(config, pair, {"e.weight": torch.ones(9, 4)}),
            tmp_path / "l.pt",
            "loralib",
        )
    assert [problem.split()[0] for problem in caught.value.problems] == ["e.weight"]
    assert not (tmp_path / "l.pt").exists()


@pytest.mark.parametrize("format", ["peft", "portable", "lorakit", "diffusers"])
def test_directory_is_not_written_over_a_file(tmp_path: Path, format: str) -> None:
    (tmp_path / "adapter").write_text("keep me")
    bundle = AdapterBundle(
        LoraConfig(target_modules=["unet.m"]), {"unet.m": adapter(LinearSite(3, 4))}
    )
    with pytest.raises(SaveError, match=f"The format {format} is a directory; .*adapter is a file"):
        write(bundle, tmp_path / "adapter", format)
    assert (tmp_path / "adapter").read_text() == "keep me"


def test_bias_of_a_convolution_stands_where_loralib_keeps_it(tmp_path: Path) -> None:
    pair = {"m": adapter(ConvSite((4, 3, 3, 3)))}
    bundle = AdapterBundle(LoraConfig(target_modules=["m"]), pair, {"m.bias": torch.ones(4)})
    write(bundle, tmp_path / "lora.pt", "loralib")
    assert "m.conv.bias" in torch.load(tmp_path / "lora.pt")
    assert_close(read(tmp_path / "lora.pt", 6).trained["m.bias"], torch.ones(4), **EXACT)
