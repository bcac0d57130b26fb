"""`save_pretrained` of an adapted model: what it writes, and what comes back from that.

With a named base it writes the adapter, from which transformers makes base and adapter, through
PEFT. Without a name it writes the model's state_dict as ever, and warns: the base weights as they
are, A and B under their own names, and the trained copies of heads and biases in place of the
originals. From that `from_pretrained` builds the plain class, calls A and B unexpected, and gives
the base with that head. A merged model is saved after `fold`.
"""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertForSequenceClassification, GPT2LMHeadModel

import lorakit as lora
from lorakit.errors import LorakitWarning
from tests.compat.peft_cases import ENCODER, GPT2, hf
from tests.tolerances import EXACT, MODEL

IDS = torch.arange(3, 15).view(2, 6)
CONFIG = lora.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)


from_the_base = pytest.mark.filterwarnings(
    "ignore:save_pretrained of this adapted:lorakit.errors.LorakitWarning"
)


def classifier() -> nn.Module:
    torch.manual_seed(3)
    return BertForSequenceClassification(BertConfig(**ENCODER, num_labels=3)).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS)[0]


@from_the_base
@pytest.mark.parametrize("mode", ["train", "eval", "merged"])
def test_base_weights_in_it_are_bit_identical(mode: str, tmp_path: Path) -> None:
    model = classifier()
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora.inject(model, CONFIG.replace(merge_weights=True))
    model.train(mode == "train")
    logits(model)
    if mode == "merged":
        with lora.merged(model):
            model.save_pretrained(tmp_path)
    else:
        model.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, **EXACT)
    extra = found.keys() - plain.keys()
    assert len(extra) == 8
    assert all(name.endswith((".lora_A", ".lora_B")) for name in extra)


@from_the_base
def test_reload_reports_the_adapter_as_unexpected_and_gives_the_base(tmp_path: Path) -> None:
    model = classifier()
    base = logits(model)
    lora.inject(model, CONFIG)
    assert not torch.equal(logits(model), base)
    model.save_pretrained(tmp_path)
    again, info = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    lora_keys = {name for name in model.state_dict() if "lora_" in name}
    assert set(info["unexpected_keys"]) == lora_keys
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert torch.equal(logits(again.eval()), base)


@from_the_base
def test_reload_has_the_trained_head_without_the_adapter(tmp_path: Path) -> None:
    model = classifier()
    lora.inject(model, CONFIG.replace(modules_to_save=["classifier"]))
    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    lora.inject(again, CONFIG)
    assert not torch.equal(again.bert.encoder.layer[0].attention.self.query.lora_A,
                           model.bert.encoder.layer[0].attention.self.query.lora_A)  # fmt: skip


@from_the_base
def test_reload_and_load_adapter_give_the_adapted_model(tmp_path: Path) -> None:
    """Both directories side by side are a whole: the base is the one that the adapter knows."""
    model = classifier()
    lora.inject(model, CONFIG.replace(modules_to_save=["classifier"]))
    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.save_pretrained(tmp_path / "model")
    lora.save_adapter(model, tmp_path / "adapter")
    again = BertForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    report = lora.load_adapter(again, tmp_path / "adapter")
    assert report.base_verified is True
    assert torch.equal(logits(again), logits(model))


def test_folded_model_is_a_plain_one(tmp_path: Path) -> None:
    model = classifier()
    lora.inject(model, CONFIG)
    expected = logits(model)
    lora.fold(model)
    model.save_pretrained(tmp_path)
    again, info = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    torch.testing.assert_close(logits(again.eval()), expected, **MODEL)


@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_folded_tie_is_saved_as_two_weights(target: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = hf("GPT2LMHeadModel", **GPT2, bos_token_id=0, eos_token_id=0)().eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=[target], init_lora_weights=False))
    expected = logits(model)
    lora.fold(model)
    model.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert again.lm_head.weight is not again.transformer.wte.weight
    torch.testing.assert_close(logits(again), expected, **MODEL)


def adapted(minilm: Path) -> Any:
    torch.manual_seed(3)
    model = AutoModel.from_pretrained(minilm).eval()
    lora.inject(model, CONFIG)
    return model


def test_real_model_reloads_with_its_adapter(minilm: Path, tmp_path: Path) -> None:
    model = adapted(minilm)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    again = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), logits(model), **MODEL)
    base = AutoModel.from_pretrained(minilm).eval()
    assert not torch.equal(logits(base), logits(model))
    lora.load_adapter(base, tmp_path)
    assert torch.equal(logits(base), logits(model))


def test_saving_again_replaces_what_was_saved(minilm: Path, tmp_path: Path) -> None:
    model = adapted(minilm)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1)
    model.save_pretrained(tmp_path, is_main_process=False)
    model.save_pretrained(tmp_path, safe_serialization=True)
    again = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), logits(model), **MODEL)


@pytest.mark.parametrize("copied", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_saves_its_own_adapter(minilm: Path, tmp_path: Path, copied: Any) -> None:
    model = adapted(minilm)
    again = copied(model)
    with torch.no_grad():
        next(p for p in again.parameters() if p.requires_grad).add_(1)
    again.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModel.from_pretrained(tmp_path)), logits(again), **MODEL)


def test_without_an_adapter_it_is_transformers_own_again(minilm: Path, tmp_path: Path) -> None:
    for undo in (lora.eject, lora.fold):
        model = adapted(minilm)
        undo(model)
        assert "save_pretrained" not in model.__dict__
        model.save_pretrained(tmp_path / undo.__name__)
        again = AutoModel.from_pretrained(tmp_path / undo.__name__)
        assert torch.equal(logits(again), logits(model))


def test_push_to_hub_is_refused_with_the_call_that_does_it(minilm: Path, tmp_path: Path) -> None:
    with pytest.raises(lora.errors.ConfigError, match=r"call model\.push_to_hub"):
        adapted(minilm).save_pretrained(tmp_path, push_to_hub=True)


def test_a_base_without_a_name_is_saved_as_it_was_with_a_warning(tmp_path: Path) -> None:
    model = classifier()
    lora.inject(model, CONFIG)
    with pytest.warns(LorakitWarning, match=r"from these files comes the base.*lorakit\.fold"):
        model.save_pretrained(tmp_path)


def test_dora_is_saved_with_a_word_on_what_transformers_leaves_out(
    minilm: Path, tmp_path: Path
) -> None:
    model: Any = AutoModel.from_pretrained(minilm).eval()
    lora.inject(model, CONFIG.replace(use_dora=True))
    said = r"leaves out lora_magnitude_vector, .*lorakit\.load_adapter and peft\.PeftModel"
    with pytest.warns(LorakitWarning, match=said):
        model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(minilm).eval()
    lora.load_adapter(base, tmp_path)
    assert torch.equal(logits(base), logits(model))
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(minilm).eval(), tmp_path)
    torch.testing.assert_close(logits(theirs), logits(model), **MODEL)


class Unet(nn.Module):
    """A model of a library with `save_pretrained` that does not look for adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(4, 4)

    def save_pretrained(self, directory: Path, variant: str | None = None) -> str:
        return f"{directory} {variant}"


def test_another_librarys_method_stays_with_a_warning() -> None:
    model = Unet()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"]))
    said = "save_pretrained of this adapted Unet writes A and B"
    with pytest.warns(LorakitWarning, match=said):
        assert model.save_pretrained("here", variant="fp16") == "here fp16"


def test_a_wrapper_of_a_transformers_model_calls_that_ones(minilm: Path, tmp_path: Path) -> None:
    """As sentence-transformers does."""

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.auto_model = AutoModel.from_pretrained(minilm).eval()

        def save_pretrained(self, directory: Path) -> None:
            self.auto_model.save_pretrained(directory)

    model = Wrapper()
    lora.inject(model, CONFIG)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again), logits(model.auto_model), **MODEL)
