"""Files with different values for tensors that a model ties, in every format and method."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import UMT5Config, UMT5ForConditionalGeneration

import lorakit as lora
from lorakit import methods
from lorakit.checkpoint import write
from lorakit.errors import MismatchError, StateError
from lorakit.injection.transfer.saving import bundle_of
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, snapshot
from tests.tolerances import EXACT, MODEL

LLAMA = zoo.CASES["llama"]
IDS = torch.arange(6).view(1, -1)
PAIR = ["embed_tokens", "lm_head"]


def tied() -> nn.Module:
    return zoo.llama(tie_word_embeddings=True)


def move_apart(model: nn.Module) -> None:
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1)
        model.lm_head.weight.sub_(1)


def untied_with_tied_weights() -> nn.Module:
    """The weights of `tied`, in a model without the tie."""
    model = zoo.llama()
    model.load_state_dict(tied().state_dict())
    return model


def trained() -> nn.Module:
    model = untied_with_tied_weights()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=PAIR))
    move_apart(model)
    return model


def as_loralib(model: nn.Module, path: Path) -> Path:
    torch.save(bundle_of(model).tensors, path / "adapter.pt")
    return path / "adapter.pt"


FORMATS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "peft": lambda model, path: write(bundle_of(model), path, "peft"),
    "lorakit": lambda model, path: write(bundle_of(model), path, "lorakit"),
    "loralib": as_loralib,
}


@pytest.mark.parametrize("format", FORMATS)
def test_tied_weights_are_untied_from_each_format(format: str, tmp_path: Path) -> None:
    theirs, ours = trained(), tied()
    path = FORMATS[format](theirs, tmp_path)
    lora.load_adapter(ours, path, lora_alpha=8 if format == "loralib" else None)
    assert_close(outputs(LLAMA, ours), outputs(LLAMA, theirs), **EXACT)
    lora.fold(ours)
    ours.tie_weights()
    assert ours.lm_head.weight is not ours.model.embed_tokens.weight


def loaded(tmp_path: Path) -> nn.Module:
    model = tied()
    lora.load_adapter(model, lora.save_adapter(trained(), tmp_path))
    return model


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "tie_weights": lambda model: model.tie_weights(),
    "resize_token_embeddings": lambda model: model.resize_token_embeddings(44),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_untied_model_is_not_tied_again(change: str, tmp_path: Path) -> None:
    model = loaded(tmp_path)
    before = model(IDS).logits
    CHANGES[change](model)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert_close(model(IDS).logits[..., :40], before, **MODEL)


def test_an_untied_model_says_that_it_is_until_eject(tmp_path: Path) -> None:
    model, plain = loaded(tmp_path), tied()
    for copy in (model, pickle.loads(pickle.dumps(model))):
        assert (copy.config.tie_word_embeddings, copy.all_tied_weights_keys) == (False, {})
        lora.eject(copy)
        assert copy.config.tie_word_embeddings is True
        assert copy.all_tied_weights_keys == plain.all_tied_weights_keys != {}
        assert copy.lm_head.weight is copy.model.embed_tokens.weight


def test_the_flag_stays_where_logits_are_scaled_by_it(tmp_path: Path) -> None:
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2}
    ours = UMT5ForConditionalGeneration(UMT5Config(**sizes, num_layers=1))
    theirs = deepcopy(ours)
    theirs.lm_head.weight = nn.Parameter(theirs.lm_head.weight.detach().clone())
    pair = ["shared", "lm_head"]
    lora.inject(theirs, lora.LoraConfig(r=2, target_modules=["q"], modules_to_save=pair))
    with torch.no_grad():
        theirs.lm_head.weight.add_(1)
    lora.load_adapter(ours, lora.save_adapter(theirs, tmp_path))
    assert ours.config.tie_word_embeddings is True
    assert "lm_head.weight" not in ours.all_tied_weights_keys


def head_trained() -> nn.Module:
    model = untied_with_tied_weights()
    methods.find("head").apply(model, methods.MethodConfig(modules_to_save=PAIR))
    move_apart(model)
    return model


@pytest.mark.parametrize("make", [trained, head_trained])
def test_what_is_tied_again_is_not_saved(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = tied()
    lora.load_adapter(model, lora.save_adapter(make(), tmp_path / "theirs"))
    lora.save_adapter(model, tmp_path / "ours")
    model.lm_head.weight = model.model.embed_tokens.weight
    said = r"embed_tokens\.weight was loaded apart from lm_head\.weight, and is tied to it again"
    with pytest.raises(StateError, match=said):
        lora.save_adapter(model, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_tied_weights_of_the_method_head_are_untied(tmp_path: Path) -> None:
    method, theirs, ours = methods.find("head"), head_trained(), tied()
    lora.load_adapter(ours, lora.save_adapter(theirs, tmp_path))
    assert_close(outputs(LLAMA, ours), outputs(LLAMA, theirs), **EXACT)
    together = tied()
    method.apply(together, methods.MethodConfig(modules_to_save=PAIR))
    before = snapshot(together)
    with pytest.raises(MismatchError, match="is trained as one with"):
        lora.load_adapter(together, tmp_path)
    assert_same(before, snapshot(together))


def test_tied_weights_that_full_fine_tuning_moved_apart_are_refused(tmp_path: Path) -> None:
    """It trains the model's own tensors in place, where there is one for both."""
    method = methods.find("full")
    theirs = untied_with_tied_weights()
    method.apply(theirs, method.default_config())
    move_apart(theirs)
    ours = tied()
    before = snapshot(ours)
    with pytest.raises(MismatchError, match=r"lm_head\.weight is unexpected"):
        lora.load_adapter(ours, lora.save_adapter(theirs, tmp_path))
    assert_same(before, snapshot(ours))


class OneTwice(nn.Module):
    """One module under two names, or two modules."""

    def __init__(self, is_one: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.body, self.a, self.b = (nn.Linear(4, 4) for _ in range(3))
        if is_one:
            self.b = self.a


def test_values_for_one_module_under_two_names_are_refused(tmp_path: Path) -> None:
    theirs, ours = OneTwice(False), OneTwice(True)
    config = lora.LoraConfig(r=2, target_modules=["body"], modules_to_save=["a", "b"])
    lora.inject(theirs, config)
    lora.save_adapter(theirs, tmp_path)
    before = snapshot(ours)
    with pytest.raises(MismatchError, match=r"b\.\w+ is a\.\w+ under another name"):
        lora.load_adapter(ours, tmp_path)
    assert_same(before, snapshot(ours))
