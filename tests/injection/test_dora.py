"""LoraConfig.use_dora on live models: in, out, merged, trained, saved, and where it cannot be."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import ConfigError, FormatError, MismatchError, SaveError, TargetError
from lorakit.injection.inspection.health import mark_training_start
from tests.tolerances import EXACT, TOLERANCES

FLOAT32 = TOLERANCES[torch.float32]
CONFIG = lora.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], use_dora=True)
X = torch.linspace(-1, 1, 24).reshape(4, 6)


def mlp() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def adapted() -> nn.Module:
    """A model whose adapters have learned something."""
    model = mlp()
    lora.inject(model, CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def test_inject_changes_no_output_and_counts_the_magnitudes():
    model = mlp()
    expected = model(X)
    report = lora.inject(model, CONFIG)
    assert_close(model(X), expected, **EXACT)
    assert report.trainable_parameters == 2 * (6 + 8) + 8 + 2 * (8 + 3) + 3
    assert report.total_parameters == sum(p.numel() for p in mlp().parameters())
    assert report.uncovered == {}
    assert "Linear, DoRA" in str(report)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    leaves = ("lora_A", "lora_B", "lora_magnitude_vector")
    assert trainable == {f"{n}.{leaf}" for n in "02" for leaf in leaves}


def test_eject_gives_the_base_back():
    model, base = adapted(), mlp()
    weight = model[0].weight
    lora.eject(model)
    assert type(model[0]) is nn.Linear
    assert model[0].weight is weight
    assert model.state_dict().keys() == base.state_dict().keys()
    assert_close(model(X), base(X), **EXACT)


def test_fold_merged_and_disabled():
    model = adapted()
    with torch.no_grad():
        expected = model(X)
        with lora.merged(model) as report:
            assert_close(model(X), expected, **FLOAT32)
        with lora.disabled(model):
            assert_close(model(X), mlp()(X), **EXACT)
        model[0].lora_magnitude_vector.data.mul_(2)
        lora.refresh(model)
        assert not torch.allclose(model(X), expected)
        model[0].lora_magnitude_vector.data.div_(2)
    assert 0 < report.worst_rounding < 1e-6
    folded = copy.deepcopy(model)
    lora.fold(folded)
    assert type(folded[0]) is nn.Linear
    assert_close(folded(X), expected, **FLOAT32)
    assert_close(model[0].weight, mlp()[0].weight, **EXACT)


def test_training_moves_every_tensor_and_lowers_the_loss():
    model = mlp().train()
    lora.inject(model, CONFIG.replace(lora_dropout=0.1))
    mark_training_start(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    target, losses = torch.randn(4, 3), []
    for _ in range(20):
        loss = (model(X) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert lora.check_training(model).stuck == {}
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_parent_that_reads_the_weight_gets_the_adapted_one(batch_first):
    torch.manual_seed(1)
    base = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first).eval()
    model, x = nn.Sequential(base), torch.randn(2, 5, 8)
    names = ["linear1", "linear2"]
    lora.inject(model, lora.LoraConfig(r=2, target_modules=names, use_dora=True))
    with torch.no_grad():
        for name in names:
            base.get_submodule(name).lora_magnitude_vector.mul_(1.5)
    expected = model(x)
    assert base.linear1.spec.variant == "dora"
    with torch.no_grad():
        assert_close(model(x), expected, **FLOAT32)
    lora.eject(model)
    with torch.no_grad():
        assert not torch.allclose(model(x), expected)


# --- files


def test_saved_names_are_pefts_and_a_plain_model_is_adapted_by_loading(tmp_path):
    model = adapted()
    lora.save_adapter(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert config["use_dora"] is True
    assert tensors["base_model.model.0.lora_magnitude_vector"].shape == (8,)
    assert ", DoRA" in (tmp_path / "README.md").read_text()
    again = mlp()
    lora.load_adapter(again, tmp_path)
    assert_close(again(X), model(X), **EXACT)
    overwritten = mlp()
    lora.inject(overwritten, CONFIG)
    lora.load_adapter(overwritten, tmp_path)
    assert_close(overwritten(X), model(X), **EXACT)


def test_lora_state_dict_in_a_file_is_read_back(tmp_path):
    model = adapted()
    torch.save(lora.lora_state_dict(model), tmp_path / "adapter.pt")
    again = mlp()
    lora.load_adapter(again, tmp_path / "adapter.pt", lora_alpha=3)
    assert_close(again(X), model(X), **EXACT)


def edit(path, **changes):
    file = path / "adapter_model.safetensors"
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | changes.pop("config", {})))
    tensors = {n: changes.pop(n, t) for n, t in load_file(file).items()} | changes
    from safetensors.torch import save_file

    save_file({name: t for name, t in tensors.items() if t is not None}, file)


KEY = "base_model.model.0.lora_magnitude_vector"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {KEY: None},
            FormatError,
            "0: lora_magnitude_vector is missing; the config says use_dora=True",
        ),
        (
            {"config": {"use_dora": False}},
            FormatError,
            "0: lora_magnitude_vector is unexpected; the config says use_dora=False",
        ),
        ({"config": {"use_dora": "yes"}}, FormatError, "use_dora is 'yes'; it must be true or"),
        ({KEY: torch.ones(7)}, MismatchError, r"and magnitude \(8,\) \(rank 2, weight .* got .*7"),
        (
            {"base_model.model.0.lora_A.weight": None},
            FormatError,
            r"0: lora_A is missing \(found .*lora_magnitude_vector\)",
        ),
        ({KEY: torch.full((8,), torch.nan)}, FormatError, "0.lora_magnitude_vector: 8 of 8"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes, error, text):
    lora.save_adapter(adapted(), tmp_path)
    edit(tmp_path, **changes)
    model = mlp()
    with pytest.raises(error, match=text):
        lora.load_adapter(model, tmp_path)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("ours", [True, False])
def test_lora_and_dora_do_not_overwrite_each_other(tmp_path, ours):
    lora.save_adapter(adapted(), tmp_path / "dora")
    plain = mlp()
    lora.inject(plain, CONFIG.replace(use_dora=False))
    lora.save_adapter(plain, tmp_path / "lora")
    model, here, file = (plain, "lora", "dora") if ours else (adapted(), "dora", "lora")
    with pytest.raises(
        MismatchError, match=f"adapted with variant {here}, but the file has variant {file}"
    ):
        lora.load_adapter(model, tmp_path / file)


def test_a_model_of_both_kinds_cannot_be_saved(tmp_path):
    model = nn.Sequential(lora.Linear(4, 4, r=2, variant="dora"), lora.Linear(4, 4, r=2))
    lora.mark_only_lora_as_trainable(model)
    with pytest.raises(SaveError, match="1 has use_dora=False, but others have use_dora=True"):
        lora.save_adapter(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


# --- where it cannot be


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.conv = nn.Conv1d(4, 4, 1)
        self.attn = nn.MultiheadAttention(4, 2)
        self.linear = nn.Linear(4, 4)


def test_every_layer_that_cannot_have_it_is_listed():
    model = Everything()
    names = ["embed", "conv", "attn", "linear"]
    with pytest.raises(TargetError) as caught:
        lora.inject(model, lora.LoraConfig(r=2, target_modules=names, use_dora=True))
    assert caught.value.problems == (
        "embed is an embedding; use_dora only supports nn.Linear and GPT-2's Conv1D",
        "conv is a convolution; use_dora only supports nn.Linear and GPT-2's Conv1D",
        "attn is an nn.MultiheadAttention; use_dora only supports nn.Linear and GPT-2's Conv1D",
        "attn.out_proj is nn.MultiheadAttention's out_proj; use_dora only supports nn.Linear and "
        "GPT-2's Conv1D",
    )
    assert type(model.linear) is nn.Linear


def test_slices_are_refused():
    with pytest.raises(ConfigError, match="use_dora adapts whole weights"):
        lora.LoraConfig(use_dora=True, slices={"qkv": [True, False, True]})


def test_slices_by_default_are_refused():
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, n_positions=4))
    with pytest.raises(
        TargetError, match=r"c_attn is adapted in slices, which use_dora .* list it in"
    ):
        lora.inject(model, lora.LoraConfig(r=2, use_dora=True))


def test_a_file_with_dora_on_an_embedding_is_refused(tmp_path):
    import peft

    model = Everything()
    config = peft.LoraConfig(r=2, target_modules=["embed", "conv"], use_dora=True)
    peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path)
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(model, tmp_path)
    assert len(caught.value.problems) == 2
    assert all("use_dora only supports nn.Linear" in text for text in caught.value.problems)
