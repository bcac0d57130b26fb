"""Generation with virtual tokens: in batches as alone, with the cache as without it."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from lorakit.errors import StateError
from lorakit.methods import find
from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig
from tests.methods.prefixes.models import CAUSAL, ENDS, SHARED, make

SETTINGS = {"prefix_embedding": PrefixConfig, "prefix_layer": PrefixLayerConfig}
PROMPTS = [[5, 9, 23, 7, 31], [14, 6], [8, 8, 30]]
NAMES = pytest.mark.parametrize("name", SETTINGS)
KINDS = pytest.mark.parametrize("kind", CAUSAL)


def prefixed(name, kind, prefix=3, infix=2):
    model = make(kind, torch.float32).eval()
    find(name).apply(model, SETTINGS[name](prefix=prefix, infix=infix))
    return model


def completions(model, prompts, **settings):
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    given = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **settings}
    return model.generate(input_ids=ids, attention_mask=mask, **given)[:, longest:].tolist()


@pytest.mark.parametrize("counts", [(3, 0), (3, 2), (0, 2)], ids=str)
@pytest.mark.parametrize("beams", [1, 3])
@KINDS
@NAMES
def test_each_row_of_a_padded_batch_is_completed_as_alone(name, kind, beams, counts):
    model = prefixed(name, kind, *counts)
    together = completions(model, PROMPTS, num_beams=beams)
    alone = [completions(model, [prompt], num_beams=beams)[0] for prompt in PROMPTS]
    assert together == alone
    assert together == completions(model, PROMPTS, num_beams=beams, use_cache=False)


@KINDS
@NAMES
def test_the_first_generated_token_is_what_the_training_predicts(name, kind):
    model = prefixed(name, kind)
    (completion,) = completions(model, PROMPTS[:1])
    ids = torch.tensor([PROMPTS[0] + completion])
    labels = torch.where(torch.arange(ids.shape[1]) < 5, -100, ids)
    predicted = model(input_ids=ids, labels=labels).logits[0, 4:-1].clone()
    predicted[:, 2] = -torch.inf  # min_new_tokens forbids the end
    assert predicted.argmax(-1).tolist() == completion


@KINDS
def test_the_text_is_drafted_and_read_in_chunks_as_in_steps(kind):
    model = prefixed("prefix_embedding", kind, 3, 0)
    wanted = completions(model, PROMPTS[:1])
    assert completions(model, PROMPTS[:1], prompt_lookup_num_tokens=2) == wanted
    assert completions(model, PROMPTS[:1], prefill_chunk_size=2) == wanted
    with pytest.raises(StateError, match="leave prefill_chunk_size out"):
        completions(prefixed("prefix_embedding", kind), PROMPTS[:1], prefill_chunk_size=2)


@KINDS
def test_a_static_cache_is_refused(kind):
    model = prefixed("prefix_embedding", kind)
    with pytest.raises(StateError, match="use the dynamic cache"):
        completions(model, PROMPTS, cache_implementation="static")


@KINDS
def test_a_conversation_from_an_earlier_cache_is_refused(kind):
    model = prefixed("prefix_embedding", kind)
    ids = torch.tensor(PROMPTS[:1])
    cache = model(input_ids=ids, use_cache=True).past_key_values
    with pytest.raises(StateError, match="generate cannot continue from a cache"):
        model.generate(input_ids=ids, past_key_values=cache)


@KINDS
@NAMES
def test_steps_by_hand_equal_generate(name, kind):
    model = prefixed(name, kind)
    (wanted,) = completions(model, PROMPTS[:1], min_new_tokens=None, eos_token_id=[])
    ids, cache, mask, found = torch.tensor(PROMPTS[:1]), None, torch.ones(1, 5).long(), []
    for _ in range(6):
        output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        ids, cache = output.logits[:, -1:].argmax(-1), output.past_key_values
        mask = torch.cat([mask, mask.new_ones(1, 1)], 1)
        found.append(ids.item())
    assert found == wanted


def test_a_cache_without_the_virtual_tokens_is_refused():
    model, plain = prefixed("prefix_embedding", "llama"), make("llama", torch.float32).eval()
    ids = torch.tensor(PROMPTS[:1])
    cache = plain(input_ids=ids, use_cache=True).past_key_values
    with pytest.raises(StateError, match="attention mask does not fit"):
        model(
            input_ids=ids[:, :1],
            past_key_values=cache,
            attention_mask=torch.ones(1, 6).long(),
        )


@NAMES
def test_an_encoder_decoder_generates_each_row_as_alone(name):
    model = make("t5", torch.float32).eval()
    find(name).apply(model, SETTINGS[name](prefix=3, infix=2))
    ids = torch.tensor([[5, 9, 23, 7], [14, 6, 0, 0]])
    settings = {"num_beams": 2, "max_new_tokens": 5, "do_sample": False}
    together = model.generate(input_ids=ids, attention_mask=(ids != 0).long(), **settings)
    alone = model.generate(input_ids=ids[1:, :2], **settings)
    assert together[1, : alone.shape[1]].tolist() == alone[0].tolist()
    slow = model.generate(
        input_ids=ids, attention_mask=(ids != 0).long(), use_cache=False, **settings
    )
    assert slow.tolist() == together.tolist()


@NAMES
def test_a_prefix_is_in_a_sliding_window_whatever_padding_is_before_it(name):
    torch.manual_seed(0)
    config = Gemma2Config(head_dim=8, num_key_value_heads=1, sliding_window=4, **ENDS, **SHARED)
    model = Gemma2ForCausalLM(config).eval()
    find(name).apply(model, SETTINGS[name](prefix=3, infix=1))
    together = completions(model, PROMPTS)
    assert together == [completions(model, [prompt])[0] for prompt in PROMPTS]


def test_a_model_that_runs_inside_of_anothers_generation_has_its_own_prompts():
    outer, inner = (prefixed("prefix_embedding", "llama", infix=2) for _ in range(2))
    ids = torch.tensor([[5, 9, 23, 7, 31, 8, 14]])
    wanted, found = inner(input_ids=ids).logits, []

    def look(input_ids, scores):
        found.append(inner(input_ids=ids).logits)
        return scores

    completions(outer, PROMPTS[1:2], logits_processor=[look])
    assert all(torch.equal(logits, wanted) for logits in found)
    assert found
