"""What the methods with virtual tokens train, keep, undo and refuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5EncoderModel,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import lorakit as lora
from lorakit.errors import ConfigError, MismatchError, StateError, TargetError
from lorakit.methods import find, method_of
from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig
from lorakit.methods.registry import extra_positions
from tests.methods.prefixes.models import CLASSES, CONFIGS, batch, make
from tests.tolerances import EXACT, MODEL, TOLERANCES

SETTINGS = {"prefix_embedding": PrefixConfig, "prefix_layer": PrefixLayerConfig}
NAMES = pytest.mark.parametrize("name", SETTINGS)
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


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"prefix": -1}, "prefix is -1; it must be a whole number of at least 0"),
        ({"infix": 1.5}, "infix is 1.5; it must be a whole number of at least 0"),
        ({"prefix": 0}, "prefix and infix are both 0; one of them must be at least 1"),
        ({"reparametrisation": 0}, "reparametrisation is 0; it must be a whole number"),
    ],
)
@NAMES
def test_settings_that_are_none_are_refused(name, settings, problem):
    with pytest.raises(ConfigError, match=problem):
        SETTINGS[name](**settings)


def whisper():
    return WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            vocab_size=40,
            num_mel_bins=8,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )


def vit():
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
        )
    )


@pytest.mark.parametrize("build", [whisper, vit])
@NAMES
def test_a_model_of_sounds_or_images_is_refused_before_anything_changes(name, build):
    model = build()
    kinds = {n: type(m) for n, m in model.named_modules()}
    with pytest.raises(TargetError, match=f"{type(model).__name__} .* no place for virtual tokens"):
        find(name).apply(model, SETTINGS[name](prefix=3))
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    assert all(p.requires_grad or "embed_positions" in n for n, p in model.named_parameters())


@pytest.mark.parametrize(("kind", "room"), [("bert", 32), ("roberta", 32), ("gpt2", 32)])
def test_inputs_that_leave_no_positions_are_refused(kind, room):
    model = make(kind)
    find("prefix_embedding").apply(model, PrefixConfig(prefix=3))
    model(input_ids=torch.full((1, room - 3), 5))
    with pytest.raises(StateError, match="The inputs are longer than 29 tokens: with 3 virtual"):
        model(input_ids=torch.full((1, room - 2), 5))


def test_masks_and_inputs_that_have_no_value_for_virtual_tokens_are_refused():
    model, inputs = make("bert"), batch("bert")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=3))
    wide = inputs["attention_mask"][:, None].expand(-1, 7, -1)
    with pytest.raises(StateError, match="one value a token"):
        model(**{**inputs, "attention_mask": wide})
    with pytest.raises(StateError, match="no values for position_ids"):
        model(**inputs, position_ids=torch.zeros(3, 3, 7).long())


def test_a_layer_that_is_called_alone_is_refused():
    model = make("bert")
    find("prefix_layer").apply(model, PrefixLayerConfig(prefix=3))
    with pytest.raises(StateError, match="outside of its model's forward"):
        model.bert.encoder.layer[0](torch.zeros(1, 4, 16).double())


def test_an_infix_in_training_needs_labels():
    model, inputs = make("gpt2"), batch("gpt2")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=1, infix=1))
    del inputs["labels"]
    with pytest.raises(StateError, match="the model got no labels"):
        model(**inputs)
    model.eval()(**inputs)


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


def test_a_model_that_reads_tokens_in_two_modules_is_refused():
    class Twins(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (BertModel(CONFIGS["bert"]) for _ in range(2))

        def forward(self, input_ids):
            return self.first(input_ids)[0] + self.second(input_ids)[0]

    with pytest.raises(TargetError, match=r"reads tokens in several modules \(BertModel, BertMod"):
        find("prefix_embedding").apply(Twins(), PrefixConfig())
