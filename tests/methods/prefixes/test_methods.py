"""What the methods with virtual tokens train, keep and undo."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5EncoderModel,
)

import lorakit as lora
from lorakit.errors import MismatchError, TargetError
from lorakit.methods import find, method_of
from lorakit.methods.prefixes.config import PrefixConfig
from lorakit.methods.registry import extra_positions
from tests.methods.prefixes.models import CLASSES, CONFIGS, NAMES, SETTINGS, batch, make
from tests.tolerances import EXACT, MODEL, TOLERANCES

GPT3 = GPT2Config(n_embd=12288, n_layer=96, n_head=96)


def gpt3():
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(GPT3)


@pytest.mark.parametrize(
    ("name", "prefix", "infix", "parameters"),
    [
        ("prefix_embedding", 256, 8, 3_244_032),
        ("prefix_embedding", 512, 8, 6_389_760),
        ("prefix_layer", 8, 8, 18_874_368),
        ("prefix_layer", 64, 0, 75_497_472),
    ],
)
def test_gpt3_has_as_many_parameters_as_the_formulas_say(name, prefix, infix, parameters):
    report = find(name).apply(gpt3(), SETTINGS[name](prefix=prefix, infix=infix))
    assert report.adapter_parameters == report.trainable_parameters == parameters


@pytest.mark.parametrize(("r", "parameters"), [(1, 4_718_592), (8, 37_748_736)])
def test_lora_of_gpt3_is_as_large_as_the_paper_says(r, parameters):
    report = find("lora").apply(gpt3(), lora.LoraConfig(r=r))
    assert report.adapter_parameters == report.trainable_parameters == parameters


@torch.no_grad()
def output(model, inputs):
    return model(**inputs).logits


@pytest.mark.parametrize("kind", CLASSES)
@NAMES
def test_it_trains_saves_loads_and_is_undone(name, kind, tmp_path):
    model, inputs = make(kind, torch.float32), batch(kind)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    kinds = {n: type(m) for n, m in model.named_modules()}
    base = output(model, inputs)
    find(name).apply(model, SETTINGS[name](prefix=3, infix=1))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    trained = output(model, inputs)
    assert not torch.equal(trained, base)
    assert not lora.check_training(model).stuck
    assert extra_positions(model) == 4
    with lora.disabled(model):
        assert_close(output(model, inputs), base, **EXACT)

    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(output(twin, inputs), trained, **EXACT)

    lora.save_adapter(model, tmp_path)
    loaded = make(kind, torch.float32)
    report = lora.load_adapter(loaded, tmp_path)
    assert report.base_verified
    assert method_of(loaded) is find(name)
    assert_close(output(loaded, inputs), trained, **EXACT)

    find(name).undo(model)
    assert {n: torch.equal(p, before[n]) for n, p in model.named_parameters()} == dict.fromkeys(
        before, True
    )
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    assert_close(output(model, inputs), base, **EXACT)


@NAMES
def test_a_file_with_other_virtual_tokens_is_refused(name, tmp_path):
    model, other = make("bert"), make("bert")
    find(name).apply(model, SETTINGS[name](prefix=3))
    lora.save_adapter(model, tmp_path)
    find(name).apply(other, SETTINGS[name](prefix=2))
    with pytest.raises(MismatchError, match=r"size mismatch"):
        lora.load_adapter(other, tmp_path)


@NAMES
def test_it_is_not_merged(name):
    model = make("bert")
    find(name).apply(model, SETTINGS[name](prefix=3))
    with pytest.raises(TargetError, match=f"{name} has no plain form"):
        find(name).fold(model)


@pytest.mark.parametrize("kind", CLASSES)
@NAMES
def test_a_seed_begins_it_again_as_words_of_the_base(name, kind):
    starts = []
    for _ in range(2):
        model = make(kind)
        torch.manual_seed(3)
        find(name).apply(model, SETTINGS[name](prefix=4))
        (weight,) = [p for p in model.parameters() if p.requires_grad]
        starts.append(weight.detach()[:, :16])
    assert_close(*starts, **EXACT)
    if name == "prefix_embedding":
        words = model.get_input_embeddings().weight
        assert all(any(torch.equal(row, word) for word in words) for row in starts[0])


@NAMES
def test_a_bfloat16_base_has_float32_rows_and_computes_in_its_own_dtype(name):
    model = make("llama", torch.bfloat16)
    find(name).apply(model, SETTINGS[name](prefix=3))
    (weight,) = [p for p in model.parameters() if p.requires_grad]
    assert weight.dtype == torch.float32
    assert model(**batch("llama")).logits.dtype == torch.bfloat16


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("roberta", "gpt2", "t5")]


@pytest.mark.parametrize("kind", ["bert", "llama", *SLOW])
@NAMES
def test_a_forward_is_compiled_whole(name, kind):
    model, inputs = make(kind, torch.float32).eval(), batch(kind)
    find(name).apply(model, SETTINGS[name](prefix=3, infix=1))
    if kind in ("gpt2", "llama"):
        del inputs["labels"]
        inputs["use_cache"] = False
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert_close(compiled(**inputs).logits, model(**inputs).logits, **MODEL)
    torch.compiler.reset()


@NAMES
def test_a_decoder_that_classifies_reads_the_infix(name):
    config = copy.deepcopy(CONFIGS["gpt2"])
    model = GPT2ForSequenceClassification(config).double().eval()
    find(name).apply(model, SETTINGS[name](prefix=2, infix=2), ["score"])
    inputs = batch("gpt2") | {"labels": torch.tensor([0, 1, 1])}
    found = model(**inputs).logits
    lengths = inputs["attention_mask"].sum(1).tolist()
    for row, length in enumerate(lengths):
        alone = model(input_ids=inputs["input_ids"][row : row + 1, :length]).logits
        assert_close(found[row : row + 1], alone, **TOLERANCES[torch.float64])
    states = model.transformer(input_ids=inputs["input_ids"][:1], output_hidden_states=True)
    assert states.last_hidden_state.shape[1] == 7
    assert {s.shape[1] for s in states.hidden_states} == {7}


def test_embeddings_in_place_of_ids_give_the_same():
    model, inputs = make("bert").eval(), batch("bert")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=2, infix=1))
    embedded = {**inputs, "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
    del embedded["input_ids"]
    assert_close(model(**embedded).logits, model(**inputs).logits, **EXACT)
    assert isinstance(model(**inputs, return_dict=False), tuple)


def test_labels_on_padding_leave_the_infix_behind_the_prefix():
    model, inputs = make("llama").eval(), batch("llama")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=2, infix=2))
    ids = inputs["input_ids"][1:2, :4]
    padded = torch.cat([torch.zeros(1, 3).long(), ids], 1)
    mask = (padded != 0).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    found = model(input_ids=padded, attention_mask=mask, position_ids=positions, labels=padded)
    assert_close(
        found.logits[:, 3:],
        model(input_ids=ids, labels=ids).logits,
        **TOLERANCES[torch.float64],
    )


def test_the_encoder_of_an_encoder_decoder_alone_has_outputs_of_its_tokens():
    model = T5EncoderModel(copy.deepcopy(CONFIGS["t5"])).eval()
    find("prefix_embedding").apply(model, PrefixConfig(prefix=2, infix=1))
    assert model(input_ids=torch.full((2, 5), 7)).last_hidden_state.shape == (2, 5, 16)
