"""Files with different values for tensors that a model ties, in every format and method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit import methods
from lorakit.checkpoint import write
from lorakit.errors import MismatchError
from lorakit.injection.transfer.saving import bundle_of
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, snapshot
from tests.tolerances import EXACT

LLAMA = zoo.CASES["llama"]
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


def test_tied_weights_of_the_method_head_are_untied(tmp_path: Path) -> None:
    method = methods.find("head")
    theirs = untied_with_tied_weights()
    method.apply(theirs, methods.MethodConfig(modules_to_save=PAIR))
    move_apart(theirs)
    ours = tied()
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
