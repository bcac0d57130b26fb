"""llama.cpp's files: the same function there, read back as they were, and nothing half-read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.formats.gguf.architectures import as_rotated, interleaved
from lorakit.checkpoint.formats.gguf.reading import read_gguf
from lorakit.checkpoint.late_names import in_model_names
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError, SaveError
from lorakit.variants import EmbeddingSite, LinearSite, ModuleAdapter
from tests.checkpoint.bundles import assert_equal_tensors
from tests.checkpoint.test_forms import DORA, adapter
from tests.tolerances import EXACT, TOLERANCES

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
SITES = {
    "model.layers.0.self_attn.q_proj": LinearSite(6, 16),
    "model.layers.1.self_attn.k_proj": LinearSite(6, 8),
    "model.layers.1.mlp.down_proj": LinearSite(5, 6),
    "lm_head": LinearSite(6, 9),
    "model.embed_tokens": EmbeddingSite(9, 6),
}


@st.composite
def bundles(draw: st.DrawFn) -> AdapterBundle:
    use_rslora = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(sorted(SITES)), min_size=1, unique=True))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    alphas = st.sampled_from([1, 2, 3, 6.5, 16])
    adapters = {
        name: adapter(
            SITES[name], draw(st.integers(1, 4)), draw(alphas), dtype, use_rslora=use_rslora
        )
        for name in names
    }
    config = LoraConfig(target_modules=names, use_rslora=use_rslora)
    return AdapterBundle(config, adapters, base_model="org/base", task_type="CAUSAL_LM")


@given(bundle=bundles())
def test_file_is_the_same_update_and_reads_back_without_its_base(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("gguf")
    found = read(write(bundle, directory / "a.gguf", "gguf", base=LLAMA))
    assert (found.base_model, found.task_type) == ("org/base", "CAUSAL_LM")
    assert found.adapters.keys() == bundle.adapters.keys()
    for name, pair in bundle.adapters.items():
        assert found.adapters[name].site == pair.site
        assert_close(found.adapters[name].delta(), pair.delta(), **TOLERANCES[torch.float32])
    again = write(found, directory / "b.gguf", "gguf", base=LLAMA)
    assert again.read_bytes() == (directory / "a.gguf").read_bytes()


def bundle_of(*names: str) -> AdapterBundle:
    adapters = {name: adapter(SITES[name]) for name in names or SITES}
    return AdapterBundle(LoraConfig(target_modules=list(adapters)), adapters)


def test_file_has_llama_cpps_layout(tmp_path: Path) -> None:
    bundle = bundle_of()
    reader = gguf.GGUFReader(write(bundle, tmp_path / "a.gguf", "gguf", base=LLAMA))
    texts = {key: reader.get_field(key).contents() for key in ("general.type", "adapter.type")}
    assert texts == {"general.type": "adapter", "adapter.type": "lora"}
    assert reader.get_field("general.architecture").contents() == "llama"
    assert reader.get_field("adapter.lora.alpha").contents() == 6
    shapes = {tensor.name: tuple(tensor.data.shape) for tensor in reader.tensors}
    assert shapes["blk.0.attn_q.weight.lora_a"] == (2, 6)
    assert shapes["blk.0.attn_q.weight.lora_b"] == (16, 2)
    assert shapes["token_embd.weight.lora_a"] == (9, 2)
    assert shapes["output.weight.lora_b"] == (9, 2)
    _, tensors = read_gguf(tmp_path / "a.gguf")
    for tensor in reader.tensors:
        assert_close(tensors[tensor.name], torch.from_numpy(tensor.data.copy()), **EXACT)


@given(heads=st.integers(1, 4), half=st.integers(1, 4), r=st.integers(1, 3))
def test_rows_of_heads_go_there_and_back(heads: int, half: int, r: int) -> None:
    b = torch.randn(heads * half * 2, r)
    assert_close(as_rotated(interleaved(b, heads), heads), b, **EXACT)


def without_header(file: Path) -> Path:
    """The file as llama.cpp's converter writes it."""
    metadata, tensors = read_gguf(file)
    writer = gguf.GGUFWriter(file, metadata["general.architecture"])
    for key in ("general.type", "adapter.type"):
        writer.add_string(key, metadata[key])
    writer.add_float32("adapter.lora.alpha", metadata["adapter.lora.alpha"])
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_file_of_llama_cpps_converter_is_read_with_its_base(tmp_path: Path) -> None:
    bundle = bundle_of()
    file = without_header(write(bundle, tmp_path / "a.gguf", "gguf", base=LLAMA))
    with pytest.raises(FormatError, match="the order of its rows depends on the base: pass"):
        read(file)
    found, problems = in_model_names(read(file, base=LLAMA), SITES)
    assert problems == []
    assert_equal_tensors(found.tensors, bundle.tensors)
    with pytest.raises(
        FormatError, match="for a base of architecture llama, and this one is qwen2"
    ):
        read(file, base=LLAMA | {"model_type": "qwen2"})


REFUSED: dict[str, tuple[dict[str, ModuleAdapter], dict[str, Any], str]] = {
    "DoRA": ({"model.layers.0.self_attn.q_proj": DORA}, {}, "has DoRA, which llama.cpp does not"),
    "name": ({"encoder.x": adapter(LinearSite(4, 3))}, {}, "encoder.x has no tensor in llama.cpp"),
    "float64": (
        {"lm_head": adapter(SITES["lm_head"], dtype=torch.float64)},
        {},
        "lm_head has float64 values",
    ),
    "tied head": (
        {"lm_head": adapter(SITES["lm_head"])},
        {"tie_word_embeddings": True},
        "lm_head is tied",
    ),
    "heads": (
        {"model.layers.0.self_attn.q_proj": adapter(LinearSite(6, 10))},
        {},
        "has 10 rows, which are no 4 heads",
    ),
}


@pytest.mark.parametrize(("adapters", "config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_llama_cpp_does_not_have_is_refused_by_name(
    adapters: dict[str, ModuleAdapter], config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    dora = DORA in adapters.values()
    settings = LoraConfig(target_modules=list(adapters), use_dora=dora)
    bundle = AdapterBundle(settings, adapters, {"score.weight": torch.ones(1)})
    with pytest.raises(SaveError, match=message) as caught:
        write(bundle, tmp_path / "a.gguf", "gguf", base=LLAMA | config)
    assert "score.weight is trained in full" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_base_is_required_and_has_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"the format has llama\.cpp's names of the base: pass"):
        write(bundle_of(), tmp_path / "a.gguf", "gguf")
    with pytest.raises(ConfigError, match=r"The base is a 'bert' model.*written for gemma"):
        write(bundle_of(), tmp_path / "a.gguf", "gguf", base={"model_type": "bert"})


def test_a_model_is_no_adapter(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("token_embd.weight", torch.ones(2, 2).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FormatError, match=r"general\.type is None, not 'adapter'"):
        read(tmp_path / "a.gguf")


def hostile(counts: tuple[int, int], rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + rest


NESTED = struct.pack("<IIQ", 9, 9, 1) * 99


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


HOSTILE = {
    "counts": hostile((2**60, 2**60)),
    "a long text": hostile((0, 1), struct.pack("<Q", 2**60) + b"x"),
    "a long array": hostile((0, 1), text(b"a") + struct.pack("<IIQ", 9, 4, 2**60)),
    "many texts": hostile((0, 1), text(b"a") + struct.pack("<IIQ", 9, 8, 2**60)),
    "nested arrays": hostile((0, 1), text(b"a") + NESTED),
    "an unknown type": hostile((0, 1), text(b"a") + struct.pack("<I", 77)),
    "no UTF-8": hostile((0, 1), text(b"\xff") + struct.pack("<IB", 0, 1)),
    "the same name": hostile((0, 2), (text(b"a") + struct.pack("<IB", 0, 1)) * 2),
    "an alignment of 0": hostile((0, 1), text(b"general.alignment") + struct.pack("<II", 4, 0)),
    "a huge tensor": hostile((1, 0), text(b"a") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)),
    "packed numbers": hostile((1, 0), text(b"a") + struct.pack("<IQIQ", 1, 32, 2, 0) + bytes(99)),
    "no number": hostile((1, 0), text(b"a") + struct.pack("<IQQIQ", 2, 2**63, 0, 0, 0) + bytes(99)),
    "many sizes": hostile((1, 0), text(b"a") + struct.pack("<I", 2**31)),
    "version 9": b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(FormatError, match="is corrupted or not a GGUF file"):
        read_gguf(tmp_path / "a.gguf")
    with pytest.raises(FormatError):
        read(tmp_path / "a.gguf")


def test_model_is_refused_before_its_tensors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_tensor("blk.0.attn_q.weight", torch.ones(8, 8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    monkeypatch.setattr(torch, "frombuffer", lambda *_, **__: pytest.fail("a tensor was read"))
    with pytest.raises(FormatError, match="holds no adapter of LoRA") as caught:
        read(tmp_path / "model.gguf")
    assert caught.value.problems[0] == "general.type is 'model', not 'adapter'"
