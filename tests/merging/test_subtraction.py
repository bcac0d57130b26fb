"""An adapter taken off the model that it was merged into."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import PreTrainedModel

import lorakit as lora
from lorakit.errors import LorakitWarning, MismatchError, TargetError
from tests.merging.models import IDS, gpt2, llama
from tests.tolerances import MODEL

BUILDERS = {"llama": (llama, ["q_proj", "down_proj"]), "gpt2": (gpt2, ["c_attn"])}


def saved(model: PreTrainedModel, path: Path) -> Path:
    model.save_pretrained(path)
    return path


def adapter_of(base: Path, model: nn.Module, targets: list[str], path: Path, **config) -> Path:
    torch.manual_seed(1)
    settings = lora.LoraConfig(r=2, target_modules=targets, init_lora_weights=False, **config)
    lora.inject(model, settings)
    return lora.save_adapter(model, path)


def weights(path: Path, model_class: type) -> dict[str, Tensor]:
    return dict(model_class.from_pretrained(path, dtype="auto").state_dict())


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_merged_is_taken_off_but_for_rounding(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    build, targets = BUILDERS[name]
    torch.manual_seed(0)
    model = build().to(dtype)
    base = saved(model, tmp_path / "base")
    adapter = adapter_of(base, model, targets, tmp_path / "adapter")
    merged = tmp_path / "merged"
    lora.merge_files(adapter, base, merged)
    found = lora.subtract(merged, adapter, tmp_path / "off")
    kind = type(model)
    before, between, after = (
        weights(path, kind) for path in (base, merged, Path(found.report.output))
    )
    bundle = lora.checkpoint.read(adapter)
    left = size = 0.0
    for module, value in bundle.adapters.items():
        update = value.delta().double()
        weight = f"{module}.weight"
        gone = after[weight].double() - between[weight].double() + update
        left, size = left + float(gone.square().sum()), size + float(update.square().sum())
        share = float(gone.norm() / update.norm())
        assert found.error.modules[module] == pytest.approx(share, rel=1e-2, abs=1e-9)
        eps = torch.finfo(dtype).eps
        largest = float(between[weight].abs().max())
        assert (after[weight] - before[weight]).abs().max() <= 2 * eps * largest
        if dtype == torch.float32:
            torch.testing.assert_close(after[weight], before[weight], **MODEL)
    assert found.error.whole == pytest.approx((left / size) ** 0.5, rel=1e-2, abs=1e-9)
    assert all(
        torch.equal(after[key], before[key])
        for key in before
        if key.removesuffix(".weight") not in bundle.adapters
    )
    assert found.bundle.adapters.keys() == bundle.adapters.keys()
    assert "rounding left" in str(found)


def test_the_base_is_found_again_by_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = llama().eval()
    base = saved(model, tmp_path / "base")
    expected = model(IDS).logits
    adapter = adapter_of(base, model, ["q_proj"], tmp_path / "adapter")
    lora.merge_files(adapter, base, tmp_path / "merged")
    lora.subtract(tmp_path / "merged", adapter, tmp_path / "off")
    again = type(model).from_pretrained(tmp_path / "off").eval()
    torch.testing.assert_close(again(IDS).logits, expected, **MODEL)


@pytest.mark.parametrize("config", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_what_cannot_be_taken_off_is_named_and_nothing_is_written(config, tmp_path: Path) -> None:
    model = llama()
    base = saved(model, tmp_path / "base")
    adapter = adapter_of(base, model, ["q_proj"], tmp_path / "adapter", **config)
    with pytest.raises(TargetError, match=r"DoRA|trained in full"):
        lora.subtract(base, adapter, tmp_path / "off")
    assert not (tmp_path / "off").exists()


def test_embedding_of_peft_is_taken_off_though_its_file_has_the_bases_table(tmp_path: Path) -> None:
    model = llama()
    base, adapter = saved(model, tmp_path / "base"), tmp_path / "adapter"
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "embed_tokens"], init_lora_weights=False
    )
    peft.get_peft_model(model, config).save_pretrained(adapter, save_embedding_layers=True)
    lora.merge_files(adapter, base, tmp_path / "merged")
    lora.subtract(tmp_path / "merged", adapter, tmp_path / "off")
    found = weights(tmp_path / "off", type(model))
    for name, value in weights(base, type(model)).items():
        assert_close(found[name], value, **MODEL)
    table = load_file(base / "model.safetensors")
    table["model.embed_tokens.weight"] += 1
    save_file(table, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        MismatchError, match=r"embed_tokens\.weight is the base weight of an adapted"
    ):
        lora.merge_files(adapter, base, tmp_path / "other")
    lora.merge_files(adapter, base, tmp_path / "other", check_base=False)


def test_rows_of_tokens_cannot_be_taken_off(tmp_path: Path) -> None:
    model = llama()
    base = saved(model, tmp_path / "base")
    adapter = adapter_of(
        base, model, ["q_proj"], tmp_path / "adapter", trainable_token_indices=[3, 5]
    )
    with pytest.raises(TargetError, match="embed_tokens"):
        lora.subtract(base, adapter, tmp_path / "off")


def test_subtraction_from_the_plain_base_is_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = llama()
    base = saved(model, tmp_path / "base")
    adapter = adapter_of(base, model, ["q_proj"], tmp_path / "adapter")
    with pytest.warns(LorakitWarning, match="base has the weights that .* was trained on, so it"):
        lora.subtract(base, adapter, tmp_path / "off")
