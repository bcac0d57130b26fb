"""The FLOPs of a plan beside counts that are written out, and those of torch in a real step."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, GPT2Config, LlamaConfig, MixtralConfig, T5Config

import lorakit as lora
from lorakit.planner.bases import model_on_meta
from lorakit.planner.inputs import fake_inputs, loss_in
from lorakit.planner.planning import plan_step, prepare
from lorakit.planner.recording import Recorder
from lorakit.planner.settings import StepSettings

ROWS, LENGTH = 2, 16
TOKENS = ROWS * LENGTH
H, HEADS, KV, INNER, LAYERS, WORDS, R = 64, 4, 2, 160, 2, 100, 4
D = H // HEADS
SIZES = {
    "hidden_size": H,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "vocab_size": WORDS,
}
EVERYWHERE = lora.LoraConfig(r=R, target_modules="all-linear")
LLAMA = LlamaConfig(**SIZES, num_key_value_heads=KV)
BERT = BertConfig(**SIZES)
SCORES = 2 * ROWS * HEADS * LENGTH * LENGTH * D
"""FLOPs of queries with keys, and as many of scores with values."""


def flops_of(config, method, targets=(), **settings) -> float:
    adapter = lora.LoraConfig(r=R, target_modules=list(targets)) if method == "lora" else None
    sizes = {"batch": ROWS, "length": LENGTH, **settings}
    plan = lora.plan(config, method, adapter, **sizes)
    return plan.flops_per_token * TOKENS


def products(*shapes: tuple[int, int], tokens: int = TOKENS) -> int:
    """FLOPs of tokens with each matrix."""
    return sum(2 * tokens * rows * columns for rows, columns in shapes)


LLAMA_LAYER = products((H, H), (H, KV * D), (H, KV * D), (H, H), *[(H, INNER)] * 3)
BERT_LAYER = products(*[(H, H)] * 4, *[(H, INNER)] * 2)
ADAPTER = products((H, R), (R, H))
"""Forward through A and B; their gradients, and the input's, cost as much each."""
AGAIN = {"fp32": 0, "bf16": products((H, R))}
"""Of A x, for the gradient of B; small inputs in fp32 keep it."""


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_full_llama_has_three_products_a_weight(dtype):
    attention = 2 * SCORES + 5 * SCORES  # the kernel's backward computes the scores again
    expected = LAYERS * (3 * LLAMA_LAYER + attention) + 3 * products((H, WORDS))
    assert flops_of(LLAMA, "full", dtype=dtype) == expected


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_lora_llama_has_no_weight_gradients_of_frozen_weights(dtype):
    attention = 2 * SCORES + 5 * SCORES
    queries = LAYERS * (3 * ADAPTER + AGAIN[dtype]) - products(
        (R, H)
    )  # no gradient of the embeddings
    first = LLAMA_LAYER + (LLAMA_LAYER - products((H, H), (H, KV * D), (H, KV * D)))
    layers = first + (LAYERS - 1) * 2 * LLAMA_LAYER + LAYERS * attention
    expected = layers + queries + 2 * products((H, WORDS))
    assert flops_of(LLAMA, "lora", ["q_proj"], dtype=dtype) == expected


def test_full_bert_has_three_products_a_weight():
    attention = 2 * SCORES + 4 * SCORES
    head = products((H, H), (H, 2), tokens=ROWS)
    expected = LAYERS * (3 * BERT_LAYER + attention) + 3 * head
    assert flops_of(BERT, "full") == expected


def test_lora_bert_has_no_weight_gradients_of_frozen_weights():
    layer = 2 * BERT_LAYER + 6 * SCORES + 3 * ADAPTER + AGAIN["bf16"]
    # the first layer's inputs need no gradient, nor do its keys and values
    first = layer - products(*[(H, H)] * 3, (H, R)) - 2 * SCORES
    head = 2 * products((H, H), tokens=ROWS) + 3 * products((H, 2), tokens=ROWS)
    assert flops_of(BERT, "lora", ["query"]) == first + (LAYERS - 1) * layer + head


def test_checkpointing_computes_the_layers_forward_again():
    last = products((INNER, H))  # of a layer, which is not kept for its own backward
    again = LAYERS * (LLAMA_LAYER + 2 * SCORES - last)
    plain, checkpointing = (flops_of(LLAMA, "full", checkpointing=c) for c in (False, True))
    assert checkpointing == plain + again


def test_experts_count_for_the_tokens_that_are_theirs():
    config = MixtralConfig(
        **SIZES, num_key_value_heads=KV, num_local_experts=4, num_experts_per_tok=2
    )
    attention = products((H, H), (H, KV * D), (H, KV * D), (H, H)) + SCORES * 7 / 3
    chosen = 2 * products(*[(H, INNER)] * 3)
    expected = LAYERS * (attention + chosen + products((H, 4))) + products((H, WORDS))
    assert flops_of(config, "full") == pytest.approx(3 * expected)


REAL = {
    "bert": BERT,
    "llama": LLAMA,
    "gpt2": GPT2Config(n_embd=H, n_layer=LAYERS, n_head=HEADS, vocab_size=WORDS),
    "t5": T5Config(
        d_model=H, num_layers=2, num_heads=4, d_kv=D, d_ff=INNER, vocab_size=WORDS,
        decoder_start_token_id=0,
    ),
}  # fmt: skip


MISSING = {torch.ops.aten.addmm_: lambda y, a, b, **_: 2 * a[0] * a[1] * b[1]}
"""What torch's counter does not know: products in place, and those of oneDNN."""
if torch.backends.mkldnn.is_available():
    MISSING[torch.ops.mkldnn._linear_pointwise] = lambda x, w, *_, **__: 2 * x[0] * x[1] * w[0]


def planned_and_counted(config, settings) -> tuple[float, int]:
    config = type(config)(**config.to_dict(), attn_implementation="eager")
    plan = plan_step(model_on_meta(config), settings)
    planned = plan.flops_per_token * settings.batch * settings.length
    model = type(model_on_meta(config))(config)
    prepare(model, settings)
    batch = fake_inputs(model, settings.batch, settings.length)
    with FlopCounterMode(display=False, custom_mapping=MISSING) as counter:
        loss_in(settings.dtype)(model, batch).backward()
    return planned, counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "method"), [*product(REAL, ("lora", "full")), ("gpt2", "houlsby")]
)
def test_flops_are_those_that_torch_counts_in_a_real_step(name, method):
    planned, counted = planned_and_counted(
        REAL[name], StepSettings(method, None, ROWS, LENGTH, "fp32")
    )
    assert planned == counted


@pytest.mark.parametrize(("dtype", "length"), [("bf16", LENGTH), ("fp32", 256)])
def test_flops_of_the_fused_layer_are_those_that_torch_counts(dtype, length):
    planned, counted = planned_and_counted(
        BERT, StepSettings("lora", EVERYWHERE, ROWS, length, dtype)
    )
    assert planned == counted


FLOATS = torch.ones(8)
MOVED = {
    "reads two, writes one": (lambda: FLOATS + FLOATS, 3 * 32),
    "in place": (lambda: FLOATS.add_(FLOATS), 3 * 32),
    "a view": (lambda: FLOATS.view(2, 4), 0),
    "memory alone": (lambda: torch.empty(8), 0),
    "an expanded one": (lambda: torch.ones(1).expand(8) + FLOATS, 4 + 2 * 32),
    "some rows": (lambda: FLOATS.view(4, 2)[torch.tensor([0])], 2 * 8),
    "nothing returned": (lambda: torch._foreach_add_([FLOATS], 1.0), 2 * 32),
}


@pytest.mark.parametrize("case", MOVED)
def test_bytes_are_those_that_are_read_and_written(case):
    compute, nbytes = MOVED[case]
    recorder = Recorder()
    recorder.phase = "forward"
    with recorder:
        compute()
    last = list(recorder.work["forward"].operations)[-1]
    assert (last.nbytes, last.flops) == (nbytes, 0)


def test_random_numbers_are_those_of_dropout():
    recorder = Recorder()
    recorder.phase = "forward"
    with recorder:
        torch.nn.functional.dropout(FLOATS, 0.5)
    assert sum(found.drawn for found in recorder.work["forward"].operations) == 8
