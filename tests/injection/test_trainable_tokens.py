"""Added tokens train as rows of their own; the rest of the vocabulary is the base's."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.checkpoint.summary import summarise
from lorakit.errors import MismatchError, TargetError
from lorakit.surgery.ties import tied_names
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, q_and_v, snapshot, train
from tests.tolerances import EXACT, MODEL

TOKENS = [5, 8]
"""Two of those that every text batch of the zoo has."""
VALUES = "trainable_tokens_delta"
TEXT = ["bert", "roberta", "gpt2", "llama", "t5", "bart"]


def adapted(name: str, **fields: Any) -> tuple[zoo.Case, nn.Module, Any]:
    case = zoo.CASES[name]
    model = case.build()
    report = lora.inject(model, q_and_v(case, trainable_token_indices=TOKENS, **fields))
    return case, model, report


@pytest.mark.parametrize("name", TEXT)
def test_rows_train_and_the_base_does_not_change(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    before, y = snapshot(model), outputs(case, model)
    report = lora.inject(model, q_and_v(case, trainable_token_indices=TOKENS))
    assert_close(outputs(case, model), y, **EXACT)
    rows = {id(p): p for n, p in model.named_parameters() if n.endswith(VALUES)}
    assert [tuple(p.shape) for p in rows.values()] == [(2, 16)]
    width = sum(p.numel() for n, p in model.named_parameters() if n.endswith(("_A", "_B")))
    assert report.trainable_parameters == width + 32
    train(model, case)
    assert lora.check_training(model).stuck == {}
    with lora.disabled(model):
        assert_close(outputs(case, model), y, **EXACT)
    lora.eject(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        ("gpt2", {"transformer.wte", "lm_head"}),
        ("llama", {"model.embed_tokens"}),
        ("t5", {"shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"}),
    ],
)
def test_what_is_tied_to_the_embeddings_has_the_same_rows(name: str, tied: set[str]) -> None:
    _, model, report = adapted(name)
    owners = {n: m._parameters[VALUES] for n, m in model.named_modules() if VALUES in m._parameters}
    assert len({id(p) for p in owners.values()}) == 1
    assert {layer.name for layer in report.layers if layer.variant == "trainable_tokens"} == set(
        owners
    )
    assert set(owners) <= tied
    assert "only one of them adapted" not in str(report)


@pytest.mark.parametrize("name", TEXT)
def test_a_folded_model_has_the_rows_in_its_tables(name: str) -> None:
    case, model, _ = adapted(name)
    train(model, case)
    y, ties = outputs(case, model), tied_names(case.build())
    rows = next(p for n, p in model.named_parameters() if n.endswith(VALUES)).detach()
    with lora.merged(model):
        assert_close(outputs(case, model), y, **MODEL)
    lora.fold(model)
    assert_close(outputs(case, model), y, **MODEL)
    assert_close(model.get_input_embeddings().weight[TOKENS], rows, **EXACT)
    assert tied_names(model) == ties
    assert not any(n.endswith(VALUES) for n in model.state_dict())


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_rows_of_a_copy_are_its_own_and_still_tied(copied: Any) -> None:
    case, model, _ = adapted("gpt2")
    y = outputs(case, model)
    other = copied(model)
    train(other, case)
    assert other.lm_head.trainable_tokens_delta is other.transformer.wte.trainable_tokens_delta
    assert_close(outputs(case, model), y, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rows_of_a_narrow_base_are_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    case = zoo.CASES["gpt2"]
    model = case.build().to(dtype)
    y = outputs(case, model)
    lora.inject(model, q_and_v(case, trainable_token_indices=TOKENS))
    assert_close(outputs(case, model), y, **EXACT)
    rows = model.lm_head.trainable_tokens_delta
    assert rows.dtype == torch.float32
    train(model, case)
    expected = outputs(case, model)
    other = case.build().to(dtype)
    lora.load_adapter(other, lora.save_adapter(model, tmp_path))
    assert_close(outputs(case, other), expected, **EXACT)
    assert_close(other.lm_head.trainable_tokens_delta, rows, **EXACT)
    lora.fold(model)
    assert_close(model.lm_head.weight[TOKENS], rows.to(dtype), **EXACT)


@pytest.mark.parametrize("format", ["peft", "lorakit"])
@pytest.mark.parametrize("name", TEXT)
def test_saved_rows_load_into_a_plain_and_an_adapted_model(
    name: str, format: str, tmp_path: Path
) -> None:
    case, model, _ = adapted(name)
    train(model, case)
    expected = outputs(case, model)
    write(read(lora.save_adapter(model, tmp_path / "a")), tmp_path / format, format)
    plain = case.build()
    lora.load_adapter(plain, tmp_path / format)
    assert_close(outputs(case, plain), expected, **EXACT)
    _, other, _ = adapted(name)
    lora.load_adapter(other, tmp_path / format)
    assert_close(outputs(case, other), expected, **EXACT)
    lora.eject(other)
    assert_close(outputs(case, other), outputs(case, case.build()), **EXACT)


def test_rows_stand_beside_dora(tmp_path: Path) -> None:
    case, model, _ = adapted("llama", use_dora=True)
    train(model, case)
    other = case.build()
    lora.load_adapter(other, lora.save_adapter(model, tmp_path))
    assert_close(outputs(case, other), outputs(case, model), **EXACT)


def test_dropout_is_for_the_other_layers(tmp_path: Path) -> None:
    _, model, _ = adapted("llama", lora_dropout=0.5)
    assert model.model.embed_tokens.lora_dropout == 0
    other = zoo.llama()
    lora.load_adapter(other, lora.save_adapter(model, tmp_path))
    assert other.model.embed_tokens.lora_dropout == 0
    assert other.model.layers[0].self_attn.q_proj.lora_dropout == 0.5


def test_a_base_checkpoint_afterwards_gives_untrained_rows_its_values() -> None:
    case, model, _ = adapted("llama")
    base = {name: value + 1 for name, value in case.build().state_dict().items()}
    model.load_state_dict(base, strict=False)
    table = base["model.embed_tokens.weight"]
    assert_close(model.model.embed_tokens.trainable_tokens_delta, table[TOKENS], **EXACT)


def test_rows_of_an_embedding_with_max_norm_are_rescaled() -> None:
    model = nn.Sequential(nn.Embedding(6, 4, max_norm=1.0), nn.Linear(4, 4))
    tokens = {"0": [2, 3]}
    lora.inject(model, lora.LoraConfig(target_modules=["1"], trainable_token_indices=tokens))
    with torch.no_grad():
        model[0].trainable_tokens_delta.fill_(3.0)
    assert_close(model[0](torch.tensor([3])).norm(), torch.tensor(1.0))


def test_rows_of_a_subclass_go_through_its_own_forward() -> None:
    class Scaled(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 3

    model = nn.Sequential(Scaled(6, 4), nn.Linear(4, 4))
    tokens = {"0": [2]}
    lora.inject(model, lora.LoraConfig(target_modules=["1"], trainable_token_indices=tokens))
    with torch.no_grad():
        model[0].trainable_tokens_delta.fill_(1.0)
    assert_close(model[0](torch.tensor([2])), torch.full((1, 4), 3.0), **EXACT)


def test_summary_and_card_count_the_tokens_apart(tmp_path: Path) -> None:
    _, model, _ = adapted("llama")
    lora.save_adapter(model, tmp_path)
    summary = summarise(read(tmp_path))
    assert (summary.adapted_modules, summary.ranks) == (4, {2: 4})
    assert summary.tokens == {"model.embed_tokens": TOKENS}
    assert "2 of model.embed_tokens" in str(summary)
    card = (tmp_path / "README.md").read_text()
    assert "- Adapted modules: 4 " in card
    assert "- Trained tokens: 2 of model.embed_tokens\n" in card


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart"])
def test_compiled_code_has_the_rows(name: str) -> None:
    case, model, _ = adapted(name)
    train(model, case)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager")(**case.batch())[0]
    assert_close(compiled, outputs(case, model), **MODEL)


# --- refused, before anything changes


class Nameless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv, self.head = nn.Embedding(6, 4), nn.Conv1d(4, 4, 1), nn.Linear(4, 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trainable_token_indices": [1]}, "Nameless does not say which its input embeddings are"),
        ({"trainable_token_indices": {"embd": [1]}}, "'embd', which matches no module.*embed"),
        (
            {"trainable_token_indices": {"embed": [1, 7]}},
            r"embed has 6 rows, and row 7 is to be trained; call resize_token_embeddings\(8\)",
        ),
        ({"trainable_token_indices": {"conv": [1]}}, "conv has type Conv1d; trainable_token_in"),
        ({"trainable_token_indices": {"head": [1]}}, "head is in .*, and in target_modules"),
        (
            {"trainable_token_indices": {"embed": [1]}, "modules_to_save": ["embed"]},
            "embed is in .*, and trained in full by modules_to_save",
        ),
    ],
)
def test_rows_that_cannot_be_trained_are_refused(fields: dict[str, Any], message: str) -> None:
    model = Nameless()
    before = snapshot(model)
    with pytest.raises(TargetError, match=message):
        lora.inject(model, lora.LoraConfig(target_modules=["head"], **fields))
    assert_same(before, snapshot(model))


def test_a_head_that_is_tied_to_such_rows_cannot_be_trained_in_full() -> None:
    with pytest.raises(TargetError, match=r"lm_head is .*tied to a module in it, and trained in"):
        adapted("gpt2", modules_to_save=["lm_head"])


def test_a_file_with_other_rows_is_refused(tmp_path: Path) -> None:
    _, model, _ = adapted("llama")
    lora.save_adapter(model, tmp_path)
    case = zoo.CASES["llama"]
    other = case.build()
    lora.inject(other, q_and_v(case, trainable_token_indices=[5, 9]))
    with pytest.raises(MismatchError, match=r"with the rows \(5, 9\), but the file has the rows"):
        lora.load_adapter(other, tmp_path)


def test_a_vocabulary_without_the_rows_is_refused(tmp_path: Path) -> None:
    case = zoo.CASES["llama"]
    model = zoo.llama(vocab_size=44)
    lora.inject(model, q_and_v(case, trainable_token_indices=[5, 43]))
    lora.save_adapter(model, tmp_path)
    with pytest.raises(MismatchError, match=r"call resize_token_embeddings\(44\) on the model"):
        lora.load_adapter(case.build(), tmp_path)


def test_rows_of_an_untied_base_are_refused_where_they_are_tied(tmp_path: Path) -> None:
    case = zoo.CASES["llama"]
    model = case.build()
    tokens = {"embed_tokens": TOKENS, "lm_head": TOKENS}
    lora.inject(model, q_and_v(case, trainable_token_indices=tokens))
    train(model, case)
    lora.save_adapter(model, tmp_path)
    tied = zoo.llama(tie_word_embeddings=True)
    with pytest.raises(MismatchError, match="lm_head has other rows than"):
        lora.load_adapter(tied, tmp_path, check_base=False)
