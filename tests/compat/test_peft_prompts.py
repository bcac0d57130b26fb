"""Virtual tokens beside PEFT's prompt tuning and prefix tuning, with the same numbers."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import FormatError, MismatchError
from lorakit.methods import find
from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig
from tests.methods.prefixes.models import CAUSAL, batch, make
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
TASKS = {"gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}


def prompt_tuned(kind, weight):
    config = peft.PromptTuningConfig(
        task_type=TASKS[kind], num_virtual_tokens=len(weight), num_transformer_submodules=1
    )
    model = peft.get_peft_model(make(kind), config)
    table = model.prompt_encoder["default"].embedding
    table.weight = torch.nn.Parameter(weight.detach().clone())
    return model, table.weight


@pytest.mark.parametrize("kind", TASKS)
def test_a_prefix_embedding_is_pefts_prompt_tuning(kind):
    model, inputs = make(kind), batch(kind)
    find("prefix_embedding").apply(model, PrefixConfig(prefix=3))
    (weight,) = [p for p in model.parameters() if p.requires_grad]
    theirs, table = prompt_tuned(kind, weight)
    loss, reference = model(**inputs).loss, theirs(**inputs).loss
    loss.backward(), reference.backward()
    assert_close(loss, reference, **CLOSE)
    assert_close(weight.grad, table.grad, **CLOSE)


def keys_and_values(kind, model, rows_VLd):
    """Of each layer, as PEFT's table has them: (V, L * 2 * heads * head size)."""
    found = []
    for number in range(rows_VLd.shape[1]):
        x = rows_VLd[None, :, number]
        if kind == "gpt2":
            block = model.transformer.h[number]
            _, key, value = block.attn.c_attn(block.ln_1(x)).split(16, dim=-1)
        else:
            block, turns = model.model.layers[number], model.model.rotary_emb
            x = block.input_layernorm(x)
            cos, sin = turns(x, position_ids=torch.arange(x.shape[1])[None])
            key, value = block.self_attn.k_proj(x), block.self_attn.v_proj(x)
            half = torch.cat([-key[..., 4:], key[..., :4]], -1)
            key = key * cos + half * sin
        found += [key[0], value[0]]
    return torch.cat(found, -1)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_prefix_layer_is_pefts_prefix_tuning_with_the_keys_and_values_of_its_activations(kind):
    model, inputs = make(kind), batch(kind)
    find("prefix_layer").apply(model, PrefixLayerConfig(prefix=3))
    (weight,) = [p for p in model.parameters() if p.requires_grad]
    rows = weight.detach().clone().requires_grad_()
    table = keys_and_values(kind, make(kind), rows.unflatten(1, (3, -1)))
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    theirs = peft.get_peft_model(make(kind), config)
    prefix = theirs.prompt_encoder["default"].embedding
    prefix.weight = torch.nn.Parameter(table.detach().clone())
    loss, reference = model(**inputs).loss, theirs(**inputs).loss
    loss.backward(), reference.backward()
    assert_close(loss, reference, **CLOSE)
    table.backward(prefix.weight.grad)
    own = torch.float32 if kind == "llama" else torch.float64  # of its norms, in any dtype
    assert_close(weight.grad, rows.grad, **TOLERANCES[own])


@pytest.mark.parametrize("kind", TASKS)
def test_a_file_of_pefts_prompt_tuning_is_loaded(kind, tmp_path):
    theirs, table = prompt_tuned(kind, torch.randn(3, 16).double())
    theirs.save_pretrained(tmp_path)
    model, inputs = make(kind), batch(kind)
    report = lora.load_adapter(model, tmp_path)
    assert report.format == "prompt_tuning"
    assert report.adapter.adapter_parameters == table.numel()
    assert_close(model(**inputs).loss, theirs(**inputs).loss, **CLOSE)
    said = rf"prompt_embeddings are of a model that completes prompts \({TASKS[kind]}\)"
    for other in ("bert", "gpt2" if kind == "t5" else "t5"):
        wrong = make(other)
        with pytest.raises(MismatchError, match=said):
            lora.load_adapter(wrong, tmp_path)
        assert all(p.requires_grad for p in wrong.parameters())


def test_what_pefts_default_has_for_the_decoder_is_left_out_as_peft_does(tmp_path):
    config = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    theirs = peft.get_peft_model(make("t5"), config)
    table = theirs.prompt_encoder["default"].embedding
    table.weight = torch.nn.Parameter(torch.randn(6, 16).double())
    theirs.save_pretrained(tmp_path)
    model, inputs = make("t5"), batch("t5")
    report = lora.load_adapter(model, tmp_path)
    assert report.adapter.adapter_parameters == 3 * 16
    assert_close(model(**inputs).loss, theirs(**inputs).loss, **CLOSE)
    found, reference = model.eval(), theirs.eval()
    written = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    settings = {"max_new_tokens": 5, "min_new_tokens": 5}
    assert torch.equal(
        found.generate(**written, **settings), reference.generate(**written, **settings)
    )


def test_a_prompt_of_an_encoder_decoder_with_other_rows_is_refused(tmp_path):
    theirs, _ = prompt_tuned("t5", torch.randn(3, 16).double())
    theirs.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=r"\(3, 16\); the config says 3 virtual .*, 2 times"):
        lora.load_adapter(make("t5"), changed(tmp_path, num_transformer_submodules=2))


def changed(path, **settings):
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | settings))
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_virtual_tokens": 4}, r"of shape \(3, 16\); the config says 4 virtual tokens"),
        ({"task_type": "SEQ_CLS"}, r"task_type is 'SEQ_CLS'; only CAUSAL_LM and SEQ_2_SEQ_LM"),
        (
            {"peft_type": "PREFIX_TUNING"},
            "PREFIX_TUNING, which is not read: it has keys and values",
        ),
        ({"peft_type": "P_TUNING"}, "P_TUNING, which is not read"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_file_that_means_another_function_is_refused(settings, message, tmp_path):
    theirs, _ = prompt_tuned("gpt2", torch.randn(3, 16).double())
    theirs.save_pretrained(tmp_path)
    with pytest.raises(FormatError, match=message):
        lora.load_adapter(make("gpt2"), changed(tmp_path, **settings))
