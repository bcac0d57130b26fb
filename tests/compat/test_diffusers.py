"""diffusers' own loaders compute what lorakit does, from diffusers' and from kohya's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import CLIPTextConfig, CLIPTextModel

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import FormatError, MissingAlphaError, SaveError
from lorakit.injection.transfer.saving import bundle_of
from tests.tolerances import EXACT, MODEL

diffusers = pytest.importorskip("diffusers")

UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 8,
}
FLUX = {
    "patch_size": 1,
    "in_channels": 4,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 8,
    "pooled_projection_dim": 8,
    "axes_dims_rope": (4, 4, 8),
}
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
SETTINGS: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 6,
    "use_rslora": True,
    "rank_pattern": {"to_k": 2},
    "alpha_pattern": {"to_q": 11},
    "init_lora_weights": False,
}
TEXT = {
    "target_modules": ["fc1", "fc2"],
    "rank_pattern": {"fc1": 2},
    "alpha_pattern": {"fc2": 11},
}
"""diffusers 0.42.1 reads no attention from kohya's names if the encoder is transformers 5's."""


def unet() -> nn.Module:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(**UNET).eval()


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(**FLUX).eval()


def text_encoder() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = CLIPTextConfig(vocab_size=40, num_attention_heads=2, **sizes)
    return CLIPTextModel(config).eval()


def output(model: nn.Module) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        if isinstance(model, diffusers.UNet2DConditionModel):
            return model(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 5, 16)).sample
        if isinstance(model, CLIPTextModel):
            return model(torch.arange(8)[None]).last_hidden_state
        return model(
            hidden_states=torch.randn(1, 9, 4),
            encoder_hidden_states=torch.randn(1, 5, 8),
            pooled_projections=torch.randn(1, 8),
            timestep=torch.tensor([0.5]),
            img_ids=torch.zeros(9, 3),
            txt_ids=torch.zeros(5, 3),
        ).sample


def adapted(model: nn.Module, **settings: Any) -> tuple[AdapterBundle, Tensor]:
    before = output(model)
    lora.inject(model, lora.LoraConfig(**(SETTINGS | {"target_modules": TARGETS} | settings)))
    after = output(model)
    assert (after - before).abs().max() > 1e-3
    return bundle_of(model), after


CASES = {
    "unet": (unet, "unet", {}),
    "convolutions": (unet, "unet", {"target_modules": [*TARGETS, "conv1", "conv_in"]}),
    "DoRA": (unet, "unet", {"use_dora": True}),
    "transformer": (transformer, "transformer", {}),
}


@pytest.mark.parametrize(("make", "part", "settings"), CASES.values(), ids=CASES)
def test_diffusers_loads_its_file_as_the_same_function(
    make: Any, part: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    bundle, expected = adapted(make(), **settings)
    write(bundle, tmp_path, "diffusers")
    theirs = make()
    theirs.load_lora_adapter(str(tmp_path), prefix=part, use_safetensors=True)
    assert_close(output(theirs), expected, **MODEL)
    ours = make()
    report = lora.load_adapter(ours, tmp_path)
    assert_close(output(ours), expected, **EXACT)
    assert (report.format, report.base_verified) == ("diffusers", True)
    assert read(tmp_path).adapters.keys() == bundle.adapters.keys()


def test_file_that_diffusers_saves_loads_here(tmp_path: Path) -> None:
    import peft

    theirs = unet()
    theirs.add_adapter(peft.LoraConfig(target_modules=TARGETS, **SETTINGS))
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path / "a",
        unet_lora_layers=peft.get_peft_model_state_dict(theirs),
        unet_lora_adapter_metadata=theirs.peft_config["default"].to_dict(),
    )
    ours = unet()
    report = lora.load_adapter(ours, tmp_path / "a")
    assert_close(output(ours), output(theirs), **MODEL)
    assert f"renamed: {len(report.renamed)} modules, such as unet." in str(report)


def test_file_without_its_header_asks_for_alpha(tmp_path: Path) -> None:
    bundle, expected = adapted(unet(), use_rslora=False, alpha_pattern={})
    write(bundle, tmp_path / "a", "diffusers")
    name = "pytorch_lora_weights.safetensors"
    (tmp_path / "b").mkdir()
    save_file(load_file(tmp_path / "a" / name), tmp_path / "b" / name)
    with pytest.raises(MissingAlphaError, match="diffusers takes the rank there"):
        read(tmp_path / "b")
    ours = unet()
    lora.load_adapter(ours, tmp_path / "b", lora_alpha=6)
    assert_close(output(ours), expected, **EXACT)
    with pytest.raises(FormatError, match="lora_alpha=6 was passed, but"):
        read(tmp_path / "a", lora_alpha=6)


def of_pipeline() -> tuple[AdapterBundle, dict[str, tuple[nn.Module, Tensor]]]:
    """One adapter for a UNet and its text encoder."""
    models, adapters = {"unet": unet(), "text_encoder": text_encoder()}, {}
    outputs = {}
    for part, model in models.items():
        settings = {} if part == "unet" else TEXT
        bundle, outputs[part] = adapted(model, **settings)
        adapters |= {f"{part}.{name}": adapter for name, adapter in bundle.adapters.items()}
    config = lora.LoraConfig(target_modules=list(adapters), use_rslora=True)
    return AdapterBundle(config, adapters), outputs


def test_parts_of_a_pipeline_share_a_file(tmp_path: Path) -> None:
    bundle, outputs = of_pipeline()
    write(bundle, tmp_path / "a", "diffusers")
    found = read(tmp_path / "a")
    assert found.adapters.keys() == bundle.adapters.keys()
    again = write(found, tmp_path / "b", "diffusers") / "pytorch_lora_weights.safetensors"
    first = tmp_path / "a" / "pytorch_lora_weights.safetensors"
    assert again.read_bytes() == first.read_bytes()
    models = nn.ModuleDict({"unet": unet(), "text_encoder": text_encoder()})
    lora.load_adapter(models, tmp_path / "a")
    for part, expected in outputs.items():
        assert_close(output(models[part]), expected, **EXACT)


def kohya_in_diffusers(file: Path, model: nn.Module, part: str) -> Tensor:
    mixin = diffusers.loaders.StableDiffusionXLLoraLoaderMixin
    state, alphas = mixin.lora_state_dict(str(file))
    if part == "unet":
        model.load_lora_adapter(state, prefix=part, network_alphas=alphas)
    else:
        mixin.load_lora_into_text_encoder(state, alphas, model, prefix=part)
    return output(model)


def test_diffusers_reads_kohyas_file_as_the_same_function(tmp_path: Path) -> None:
    bundle, outputs = of_pipeline()
    file = write(bundle, tmp_path / "a.safetensors", "kohya")
    with safe_open(file, "pt") as opened:
        keys = list(opened.keys())
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert {f"{stem}.{leaf}" for leaf in ("lora_down.weight", "lora_up.weight", "alpha")} <= {*keys}
    assert any(key.startswith("lora_te_text_model_encoder_layers_0_mlp_fc1.") for key in keys)
    for part, make in (("unet", unet), ("text_encoder", text_encoder)):
        assert_close(kohya_in_diffusers(file, make(), part), outputs[part], **MODEL)


def test_kohyas_file_reads_back_as_it_was(tmp_path: Path) -> None:
    bundle, outputs = of_pipeline()
    file = write(bundle, tmp_path / "a.safetensors", "kohya")
    found = read(file)
    assert found.adapters.keys() == bundle.adapters.keys()
    again = write(found, tmp_path / "b.safetensors", "kohya")
    assert again.read_bytes() == file.read_bytes()
    save_file(load_file(file), tmp_path / "c.safetensors")  # as kohya's scripts write it
    models = nn.ModuleDict({"unet": unet(), "text_encoder": text_encoder()})
    lora.load_adapter(models, tmp_path / "c.safetensors")
    for part, expected in outputs.items():
        assert_close(output(models[part]), expected, **MODEL)


def test_kohyas_file_of_one_part_loads_onto_it(tmp_path: Path) -> None:
    bundle, expected = adapted(unet(), target_modules=[*TARGETS, "conv1"])
    file = write(bundle, tmp_path / "a.safetensors", "kohya")
    save_file(load_file(file), tmp_path / "b.safetensors")
    for name in ("a", "b"):
        ours = unet()
        lora.load_adapter(ours, tmp_path / f"{name}.safetensors")
        assert_close(output(ours), expected, **MODEL)


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_adapter_of_some_blocks_is_read_back_as_one_of_these(tmp_path: Path, format: str) -> None:
    bundle, expected = adapted(unet(), target_modules=r"down_blocks.*attn1\.to_[qk]")
    target = tmp_path / ("a" if format == "diffusers" else "a.safetensors")
    ours = unet()
    lora.load_adapter(ours, write(bundle, target, format))
    assert_close(output(ours), expected, **MODEL)


def test_what_the_formats_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    dora, _ = adapted(unet(), use_dora=True)
    with pytest.raises(SaveError, match="has DoRA, which diffusers does not read in these files"):
        write(dora, tmp_path / "a.safetensors", "kohya")
    flux, _ = adapted(transformer())
    with pytest.raises(SaveError, match="name a transformer as its first authors did"):
        write(flux, tmp_path / "a.safetensors", "kohya")
    plain = AdapterBundle(adapters={"q": next(iter(flux.adapters.values()))})
    for format, path in (("kohya", tmp_path / "a.safetensors"), ("diffusers", tmp_path / "a")):
        with pytest.raises(SaveError, match="q does not say which part of a pipeline it is of"):
            write(plain, path, format)
        head = AdapterBundle(flux.config, flux.adapters, {"proj_out.bias": torch.ones(4)})
        with pytest.raises(SaveError, match=r"proj_out\.bias is trained in full"):
            write(head, path, format)
    assert list(tmp_path.iterdir()) == []


def changed(file: Path, **tensors: Tensor | None) -> Path:
    content = load_file(file) | tensors
    save_file({key: t for key, t in content.items() if t is not None}, file)
    return file


def test_broken_files_list_what_is_wrong(tmp_path: Path) -> None:
    bundle, _ = adapted(unet())
    kohya = write(bundle, tmp_path / "a.safetensors", "kohya")
    first = next(key for key in load_file(kohya) if key.endswith(".alpha")).removesuffix(".alpha")
    changed(kohya, **{f"{first}.alpha": torch.tensor(0.0), f"{first}.dora_scale": torch.ones(2)})
    with pytest.raises(FormatError) as caught:
        read(kohya)
    assert f"{first}.dora_scale is unexpected" in str(caught.value)
    assert f"{first}: alpha is [0.0]; it must be one number > 0" in str(caught.value)
    file = write(bundle, tmp_path / "b", "diffusers") / "pytorch_lora_weights.safetensors"
    changed(file, **{"unet.a.processor.to_q_lora.up.weight": torch.ones(2, 2)})
    with pytest.raises(FormatError, match=r"these do not:\n.*to_q_lora\.up\.weight"):
        read(file)
