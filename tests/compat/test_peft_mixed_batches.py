"""Mixed batches beside PEFT's `adapter_names`: the same rows from the same files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.adapters.files import Build, loaded_set, output, save_all
from tests.injection import zoo
from tests.tolerances import MODEL

peft = pytest.importorskip("peft")

IDS = 3 + torch.arange(6 * 5).reshape(6, 5) % 37
NAMES: list[str | None] = ["b", None, "a", "a", "c", "b"]
CASES: dict[str, tuple[Build, dict[str, dict[str, Any]]]] = {
    "llama": (
        zoo.llama,
        {
            "a": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
            "b": {"r": 2, "lora_alpha": 3, "use_rslora": True, "target_modules": ["down_proj"]},
            "c": {"r": 3, "target_modules": "all-linear"},
        },
    ),
    "gpt2": (
        zoo.gpt2,
        {
            "a": {"r": 4, "target_modules": ["c_attn"]},
            "b": {"r": 2, "target_modules": ["c_fc", "wte"]},
            "c": {"r": 2, "target_modules": ["wte", "c_attn"]},
        },
    ),
    "a head": (
        lambda: zoo.bert("BertForSequenceClassification", num_labels=3),
        {
            name: {"r": rank, "target_modules": ["query"], "modules_to_save": ["classifier"]}
            for name, rank in (("a", 1), ("b", 2), ("c", 3))
        },
    ),
}


def with_peft(model: nn.Module, paths: dict[str, Path]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (first, path), *others = paths.items()
        wrapped = peft.PeftModel.from_pretrained(model, path, adapter_name=first)
        for name, path in others:
            wrapped.load_adapter(path, adapter_name=name)
    return wrapped.eval()


@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_pefts_mixed_batch(case: str, tmp_path: Path) -> None:
    build, configs = CASES[case]
    paths, model = save_all(build, tmp_path, configs), build()
    theirs = with_peft(build(), paths)
    with torch.no_grad():
        names = [name or "__base__" for name in NAMES]
        expected = theirs(input_ids=IDS, adapter_names=names).logits
    with loaded_set(model, paths).rows(NAMES):
        assert_close(output(model, input_ids=IDS), expected, **MODEL)


def test_peft_leaves_its_rows_behind_after_an_exception(tmp_path: Path) -> None:
    """The defect that a context variable does not have."""
    build, configs = CASES["llama"]
    paths, model = save_all(build, tmp_path, configs), build()
    theirs, adapters = with_peft(build(), paths), loaded_set(model, paths)

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def outputs_after_an_interrupt(forward: Any, inner: nn.Module) -> torch.Tensor:
        hook = inner.get_submodule("lm_head").register_forward_hook(interrupt)
        with pytest.raises(Interrupted):
            forward()
        hook.remove()
        with torch.no_grad():
            logits: torch.Tensor = inner(input_ids=IDS).logits
            return logits

    def mixed() -> None:
        with adapters.rows(NAMES):
            model(input_ids=IDS)

    base = output(build(), input_ids=IDS)
    assert_close(outputs_after_an_interrupt(mixed, model), base, **MODEL)
    names = [name or "__base__" for name in NAMES]
    theirs.set_adapter("a")
    right = output(theirs, input_ids=IDS)
    wrong = outputs_after_an_interrupt(
        lambda: theirs(input_ids=IDS, adapter_names=names), theirs.get_base_model()
    )
    assert not torch.allclose(wrong, right, atol=1e-3)
