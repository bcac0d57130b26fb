"""File <-> AdapterBundle without a model: nothing is lost, and nothing wrong is let through."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.formats import loralib as loralib_format
from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.encoding import encode
from lorakit.checkpoint.formats.peft.layout import PREFIX, PeftFiles, parse_header
from lorakit.checkpoint.header import header_text
from lorakit.checkpoint.summary import summarise
from lorakit.config import LoraConfig
from lorakit.errors import FormatError, MissingAlphaError, SaveError
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    Site,
    SlicedSite,
)

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q"]}


def pair(
    r: int = 2,
    i: int = 5,
    o: int = 4,
    alpha: float = 6,
    site: type[LinearSite] = LinearSite,
    **settings: Any,
) -> ModuleAdapter:
    return adapter(site(i, o), r, alpha, **settings)


def adapter(
    site: Site, r: int = 2, alpha: float = 6, dtype: torch.dtype = torch.float32, **settings: Any
) -> ModuleAdapter:
    a, b = (torch.randn(shape, dtype=dtype) for shape in site.factor_shapes(r))
    return ModuleAdapter(AdapterSpec(r, alpha, **settings), {"lora_A": a, "lora_B": b}, site)


def tensors(r: int = 2, i: int = 5, o: int = 4, module: str = "q") -> dict[str, Tensor]:
    key = f"base_model.model.{module}"
    return {f"{key}.lora_A.weight": torch.randn(r, i), f"{key}.lora_B.weight": torch.randn(o, r)}


def there_and_back(bundle: AdapterBundle) -> AdapterBundle:
    files = encode(bundle)
    header = parse_header(header_text(files.header or {}))
    return decode(PeftFiles(json.loads(json.dumps(files.config)), files.tensors, header))


def assert_same_bundle(found: AdapterBundle, expected: AdapterBundle) -> None:
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
        assert found.tensors[name].dtype == tensor.dtype
    for name, low_rank in expected.adapters.items():
        other = found.adapters[name]
        assert other.spec.r == low_rank.spec.r, name
        assert other.spec.lora_alpha == low_rank.spec.lora_alpha, name
        assert other.spec.scaling == low_rank.spec.scaling, name
        assert other.site == low_rank.site, name


def write_files(directory: Path, config: Mapping[str, Any], content: dict[str, Tensor]) -> Path:
    (directory / "adapter_config.json").write_text(json.dumps(config))
    save_file(content, directory / "adapter_model.safetensors")
    return directory


# --- there and back


@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7), st.integers(1, 40)),
        min_size=1,
        max_size=5,
    ),
    rslora=st.booleans(),
)
def test_linear_pairs_come_back_as_they_were(
    shapes: list[tuple[int, int, int, int]], rslora: bool
) -> None:
    pairs = {
        f"layer.{n}.q": pair(r, i, o, alpha, use_rslora=rslora)
        for n, (r, i, o, alpha) in enumerate(shapes)
    }
    config = LoraConfig(r=shapes[0][0], target_modules=["q"], use_rslora=rslora)
    bundle = AdapterBundle(config, pairs, {"head.weight": torch.randn(2, 3)}, base_model="org/base")
    found = there_and_back(bundle)
    assert_same_bundle(found, bundle)
    assert (found.base_model, found.config.use_rslora) == ("org/base", rslora)


@given(
    r=st.integers(1, 3),
    parts=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=4).filter(
        lambda parts: any(adapted for _, adapted in parts)
    ),
    rslora=st.booleans(),
)
def test_slices_come_back_as_they_were(r: int, parts: list[tuple[int, bool]], rslora: bool) -> None:
    count = sum(adapted for _, adapted in parts)
    site = SlicedSite(5, sum(size for size, _ in parts), slices=tuple(parts))
    low_rank = adapter(site, r, 7, use_rslora=rslora)
    config = LoraConfig(r=r, lora_alpha=7, target_modules=["qkv"], use_rslora=rslora)
    bundle = AdapterBundle(config, {"qkv": low_rank})
    files = encode(bundle)
    written = files.config["lora_alpha"] / (
        math.sqrt(files.config["r"]) if rslora else files.config["r"]
    )
    assert written == pytest.approx(7 / (math.sqrt(r) if rslora else r), rel=1e-12)
    assert files.config["r"] == r * count
    assert_same_bundle(there_and_back(bundle), bundle)


@pytest.mark.parametrize(
    "low_rank",
    [
        adapter(EmbeddingSite(9, 4)),
        adapter(ConvSite((4, 3, 5))),
        adapter(ConvSite((4, 3, 5, 1))),
        adapter(ConvSite((4, 3, 5), groups=2), r=4),
    ],
    ids=["embedding", "1-d kernel", "2-d kernel", "groups"],
)
def test_other_kinds_come_back_as_they_were(low_rank: ModuleAdapter) -> None:
    bundle = AdapterBundle(LoraConfig(r=low_rank.spec.r, target_modules=["m"]), {"m": low_rank})
    found = there_and_back(bundle)
    assert_same_bundle(found, bundle)
    assert found.adapters["m"].site == low_rank.site


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtype_of_the_tensors_stays_and_is_named(dtype: torch.dtype) -> None:
    low_rank = adapter(LinearSite(5, 4), dtype=dtype)
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=["q"]), {"q": low_rank})
    files = encode(bundle)
    assert files.header is not None
    assert files.header["dtypes"] == [str(dtype).removeprefix("torch.")]
    assert_same_bundle(there_and_back(bundle), bundle)


def test_fingerprint_and_task_come_back() -> None:
    bundle = AdapterBundle(
        LoraConfig(r=2, target_modules=["q"]),
        {"q": pair()},
        task_type="CAUSAL_LM",
        fingerprint={"float32": "ab" * 32},
    )
    found = there_and_back(bundle)
    assert (found.task_type, found.fingerprint) == ("CAUSAL_LM", {"float32": "ab" * 32})


def test_loralib_form_of_a_grouped_convolution_is_refused() -> None:
    low_rank = adapter(ConvSite((6, 2, 3, 3), groups=2, square=True))
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=["m"]), {"m": low_rank})
    with pytest.raises(SaveError, match="m is a grouped convolution in loralib's matrix form"):
        encode(bundle)


def test_everything_that_peft_has_no_form_for_is_listed() -> None:
    grouped = adapter(ConvSite((6, 2, 3, 3), groups=2, square=True))
    bundle = AdapterBundle(
        LoraConfig(r=2, target_modules=["m"]),
        {
            "m": grouped,
            "n": grouped,
            "attn": pair(2, 4, 12, site=InProjSite),
            "attn.out_proj": pair(3, 4, 4, site=OutProjSite),
        },
    )
    with pytest.raises(SaveError) as caught:
        encode(bundle)
    assert [problem.split()[0] for problem in caught.value.problems] == ["m", "n", "attn"]


def test_attention_projections_of_unequal_rank_are_refused() -> None:
    bundle = AdapterBundle(
        LoraConfig(r=2, target_modules=["attn"]),
        {
            "attn": pair(2, 4, 12, site=InProjSite),
            "attn.out_proj": pair(3, 4, 4, site=OutProjSite),
        },
    )
    with pytest.raises(
        SaveError, match="attn has r=2, lora_alpha=6, but its out_proj has r=3, lora_alpha=6"
    ):
        encode(bundle)


@pytest.mark.parametrize("there", ["attn", "attn.out_proj"])
def test_attention_projection_that_is_not_adapted_gets_zeros(there: str) -> None:
    given = pair(2, 4, 12, site=InProjSite) if there == "attn" else pair(2, 4, 4, site=OutProjSite)
    files = encode(AdapterBundle(LoraConfig(r=2, target_modules=["attn"]), {there: given}))
    zeros = {key for key, tensor in files.tensors.items() if not tensor.any()}
    prefix = "base_model.model.attn."
    missing = prefix + ("base_layer.out_proj." if there == "attn" else "")
    assert zeros == {f"{missing}lora_A.weight", f"{missing}lora_B.weight"}
    assert files.tensors[f"{prefix}lora_B.weight"].shape == (12, 2)


# --- what a PEFT file may not be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"r": None}, "r is None"),
        ({"r": "8"}, "r is '8'"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"lora_dropout": 1.5}, "lora_dropout is 1.5"),
        ({"bias": "some"}, "bias is 'some'"),
        ({"use_dora": True}, "q: lora_magnitude_vector is missing; the config says use_dora=True"),
        ({"use_dora": 1}, "use_dora is 1; it must be true or false"),
        ({"lora_bias": True}, "q: lora_B.bias is missing; the config says lora_bias=True"),
        (
            {"target_parameters": ["experts.w"]},
            r"target_parameters=\['experts.w'\], and it has no adapter of one of them",
        ),
        (
            {"trainable_token_indices": [1]},
            "trainable_token_indices lists tokens, but the file has",
        ),
        ({"trainable_token_indices": [-1]}, r"trainable_token_indices is \[-1\]; it must list one"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora=True"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_16"}, "'pissa_niter_16' changes the base"),
        ({"init_lora_weights": "loftq"}, "'loftq' changes the base"),
        ({"target_modules": "("}, "not a valid regular expression"),
        (
            {"r": 3},
            r"q: size mismatch: the config says rank 3, got lora_A \(2, 5\) and lora_B \(4, 2\)",
        ),
        ({"rank_pattern": {"q": 4}}, "q: size mismatch: the config says rank 4"),
        ({"use_rslora": "false"}, "use_rslora is 'false'; it must be true or false"),
        ({"use_rslora": 1}, "use_rslora is 1; it must be true or false"),
        ({"auto_mapping": "x"}, "auto_mapping is 'x'; it must be a dict with strings as"),
        (
            {"auto_mapping": {"base_model_class": 5}},
            "auto_mapping is .*; it must be a dict with strings as parent_library and base_model_",
        ),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path is 5; it must be a string"),
        ({"task_type": ["x"]}, "task_type is .*; it must be a string"),
        ({"bias": ["none"]}, "bias is .*; it must be a string"),
        ({"target_modules": 5}, "target_modules is 5; it must be a string or a list"),
        ({"target_modules": {"q": 1}}, "target_modules is .*; it must be a string or a list"),
        ({"modules_to_save": [5]}, "modules_to_save is .*; it must be a string or a list"),
        ({"rank_pattern": [1]}, "rank_pattern is"),
        ({"layers_to_transform": ["x"]}, "layers_to_transform is"),
        (
            {"layers_pattern": "h.*", "layers_to_transform": [0]},
            "layers_pattern is .*must list names",
        ),
    ],
)
def test_config_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        decode(PeftFiles(CONFIG | change, tensors(), None))


def test_unknown_features_are_listed_together() -> None:
    config = CONFIG | {"use_qalora": True, "use_bdlora": True, "layer_replication": [[0, 2]]}
    with pytest.raises(FormatError) as caught:
        decode(PeftFiles(config, tensors(), None))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("unused", [None, False, {}, [], ""])
def test_unknown_field_that_is_off_is_no_obstacle(unused: object) -> None:
    bundle = decode(PeftFiles(CONFIG | {"invented_next_year": unused}, tensors(), None))
    assert bundle.unknown_settings == {}


@pytest.mark.parametrize("value", [3, True, "x", [1], {"a": {"b": [None]}}])
def test_unknown_field_that_is_set_is_read_and_named(value: object) -> None:
    bundle = decode(PeftFiles(CONFIG | {"invented_next_year": value}, tensors(), None))
    assert bundle.unknown_settings == {"invented_next_year": value}
    assert f"unknown settings  invented_next_year={value!r}" in str(summarise(bundle))


def test_fields_that_other_tools_add_to_auto_mapping_are_no_obstacle() -> None:
    names = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama"}
    mapping = names | {"unsloth_fixed": True, "depth": {"a": [1]}}
    bundle = decode(PeftFiles(CONFIG | {"auto_mapping": mapping}, tensors(), None))
    assert bundle.base_class == ("transformers.models.llama", "LlamaForCausalLM")
    assert bundle.unknown_settings == {}


@pytest.mark.parametrize("name", ["layers_to_transform", "layers_pattern", "exclude_modules"])
@pytest.mark.parametrize("empty", [[], None, ""])
def test_list_that_is_empty_is_none_as_in_peft(name: str, empty: object) -> None:
    bundle = decode(PeftFiles(CONFIG | {name: empty}, tensors(), None))
    assert getattr(bundle.config, name) is None


def test_layers_pattern_without_layers_is_ignored_as_in_earlier_peft() -> None:
    bundle = decode(PeftFiles(CONFIG | {"layers_pattern": "h"}, tensors(), None))
    assert bundle.config.layers_pattern is None


def test_alpha_that_peft_may_leave_out_is_its_default() -> None:
    config = {name: value for name, value in CONFIG.items() if name != "lora_alpha"}
    assert decode(PeftFiles(config, tensors(), None)).adapters["q"].spec.lora_alpha == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it contains no tensors"),
        (
            {"base_model.model.q.lora_A.weight": torch.ones(2, 5)},
            r"q: lora_B is missing \(found lora_A\)",
        ),
        (
            {"base_model.model.q.lora_B.weight": torch.ones(4, 2)},
            r"q: lora_A is missing \(found lora_B\)",
        ),
        (
            tensors() | {"base_model.model.q.lora_magnitude_vector": torch.ones(4)},
            "q: lora_magnitude_vector is unexpected; the config says use_dora=False",
        ),
        (
            tensors() | {"base_model.model.e.token_adapter.trainable_tokens_delta": torch.ones(2)},
            r"e\.token_adapter\.trainable_tokens_delta is unexpected: trainable_token_indices",
        ),
        (
            tensors() | {"base_model.model.e.token_adapter.lora_A": torch.ones(2)},
            r"unexpected key: .*token_adapter\.lora_A \(this type of adapter",
        ),
        (
            tensors() | {"base_model.model.q.lora_B.bias": torch.ones(4)},
            "q: lora_B.bias is unexpected; the config says lora_bias=False",
        ),
        (
            {
                "base_model.model.q.lora_A.weight": torch.ones(2),
                "base_model.model.q.lora_B.weight": torch.ones(4),
            },
            r"q: lora_A and lora_B must both be .*, got shapes \(2,\) and \(4,\)",
        ),
        (
            {
                "base_model.model.q.lora_A.weight": torch.ones(2, 5, 3),
                "base_model.model.q.lora_B.weight": torch.ones(4, 2),
            },
            "lora_B must both be matrices or both be convolution kernels",
        ),
        (
            {
                "base_model.model.q.lora_A.weight": torch.ones(2, 5, 3),
                "base_model.model.q.lora_B.weight": torch.ones(4, 0, 1),
            },
            "lora_B must both be matrices or both be convolution kernels",
        ),
    ],
)
def test_tensors_that_cannot_be_are_refused(content: dict[str, Tensor], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        decode(PeftFiles(CONFIG, content, None))


def test_every_contradiction_is_listed() -> None:
    content = {
        **tensors(3),
        **tensors(3, module="v"),
        "base_model.model.k.lora_A.weight": torch.ones(2, 5),
        "base_model.model.q.lora_magnitude_vector": torch.ones(4),
    }
    with pytest.raises(FormatError) as caught:
        decode(PeftFiles(CONFIG, content, None), lora_alpha=99)
    assert len(caught.value.problems) == 5
    for word in (
        "q:",
        "v:",
        "k: lora_B is missing",
        "lora_magnitude_vector",
        "lora_alpha=99 was passed",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool], ids=str
)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_factors_of_a_type_that_nobody_trains_are_listed(
    dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    content = {key: tensor.to(dtype) for key, tensor in tensors().items()}
    write_files(tmp_path, CONFIG, content)
    if suffix == ".bin":
        (tmp_path / "adapter_model.safetensors").unlink()
        torch.save(content, tmp_path / "adapter_model.bin")
    with pytest.raises(FormatError, match=f"has dtype {dtype}; expected float32") as caught:
        read(tmp_path)
    assert len(caught.value.problems) == 2


def test_trained_tensor_of_eight_bits_is_refused(tmp_path: Path) -> None:
    head = {"head.weight": torch.ones(2, 2).to(torch.float8_e5m2), "head.steps": torch.tensor(3)}
    with pytest.raises(FormatError, match=r"head\.weight has dtype torch\.float8_e5m2") as caught:
        read(write_files(tmp_path, CONFIG, tensors() | head))
    assert len(caught.value.problems) == 1


def test_pair_that_is_there_twice_is_refused() -> None:
    content = tensors()
    again = {key.removeprefix("base_model.model."): tensor for key, tensor in content.items()}
    with pytest.raises(FormatError, match=r"duplicate key: q\.lora_A\.weight and base_model\."):
        decode(PeftFiles(CONFIG, content | again, None))


@pytest.mark.parametrize("inner", ["modules_to_save.default", "modules_to_save", "original_module"])
def test_second_copy_of_peft_counts_only_beside_the_first(inner: str) -> None:
    copy = {f"base_model.model.a.head.{inner}.dense.bias": torch.ones(3)}
    plain = {"base_model.model.a.head.dense.bias": torch.zeros(3)}
    found = decode(PeftFiles(CONFIG, tensors() | copy | plain, None))
    assert list(found.trained) == ["a.head.dense.bias"]
    assert not found.trained["a.head.dense.bias"].any()
    with pytest.raises(
        FormatError, match=rf"head\.{inner}\.dense\.bias is a second copy that PEFT"
    ):
        decode(PeftFiles(CONFIG, tensors() | copy, None))


def test_base_layer_without_a_pair_is_refused() -> None:
    stray = {"base_model.model.v.base_layer.weight": torch.ones(3, 3)}
    with pytest.raises(FormatError, match=r"v\.base_layer\.weight belongs to an adapted module"):
        decode(PeftFiles(CONFIG, tensors() | stray, None))


def test_lora_alpha_that_agrees_with_the_file_may_be_passed() -> None:
    assert (
        decode(PeftFiles(CONFIG, tensors(), None), lora_alpha=6).adapters["q"].spec.lora_alpha == 6
    )


@pytest.mark.parametrize(
    "change",
    [
        {"lora_alpha": 12},
        {"use_rslora": True},
        {"use_dora": True},
        {"alpha_pattern": {"q": 12}},
        {"r": 4, "rank_pattern": {"q": 2}},
    ],
)
def test_config_that_contradicts_the_header_is_refused(change: dict[str, Any]) -> None:
    files = encode(
        AdapterBundle(LoraConfig(r=2, lora_alpha=6, target_modules=["q"]), {"q": pair()})
    )
    decode(files)
    with pytest.raises(
        FormatError, match=r"adapter_config\.json says .*, but the tensors were saved with"
    ):
        decode(PeftFiles(files.config | change, files.tensors, files.header))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "q: its slices in the header are invalid"),
        ({"r": 2, "lora_alpha": 6, "slices": [3]}, "slices in the header are invalid"),
        ({"r": 2, "lora_alpha": 6, "slices": [[4, False]]}, "slices in the header are invalid"),
        (
            {"r": 2, "lora_alpha": 6, "slices": [[1, True], [1, True]]},
            "not zero outside the slices",
        ),
        (
            {"r": 1, "lora_alpha": 6, "slices": [[2, True], [2, True]]},
            "not zero outside the slices",
        ),
    ],
)
def test_header_that_lies_about_slices_is_refused(entry: dict[str, Any], message: str) -> None:
    files = encode(
        AdapterBundle(LoraConfig(r=2, lora_alpha=6, target_modules=["q"]), {"q": pair()})
    )
    header = {**(files.header or {}), "modules": {"q": entry or {"r": 2}}}
    with pytest.raises(FormatError, match=message):
        decode(PeftFiles(files.config, files.tensors, header))


def in_header(**fields: object) -> str:
    return json.dumps({"version": 1, "config": {}, **fields})


def test_everything_that_is_wrong_in_a_header_is_listed() -> None:
    with pytest.raises(FormatError) as caught:
        parse_header({"lorakit": in_header(modules=[], base_class=5, fingerprint=[], num_labels=0)})
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "header is invalid"),
        ("[]", "header is invalid"),
        ('{"version": 1}', "it has no config"),
        (
            '{"version": 2, "config": {}}',
            "version 2; this version of lorakit reads version 1. Upgrade",
        ),
        (in_header(modules=[]), r"modules is \[\]; it must be a dict of dicts"),
        (in_header(modules={"q": 3}), "modules is .*; it must be a dict of dicts"),
        (in_header(base_class="x"), r"base_class is 'x'; it must be a list \[module, class\]"),
        (in_header(base_class=5), r"base_class is 5; it must be a list \[module, class\]"),
        (
            in_header(base_class=["a", None]),
            r"base_class is .*; it must be a list \[module, class\]",
        ),
        (in_header(fingerprint=["float32"]), "fingerprint is .*; it must be a dict of strings"),
        (in_header(fingerprint={"float32": 5}), "fingerprint is .*; it must be a dict of strings"),
        (in_header(num_labels="3"), "num_labels is '3'; it must be an integer > 0"),
    ],
)
def test_header_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_header({"lorakit": text})


# --- files


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_safetensors_is_refused(cut: int, tmp_path: Path) -> None:
    write_files(tmp_path, CONFIG, tensors())
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(FormatError, match="corrupted or not a safetensors file"):
        read(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xff", b"null"])
def test_config_file_that_cannot_be_read_is_refused(text: bytes, tmp_path: Path) -> None:
    write_files(tmp_path, CONFIG, tensors())
    (tmp_path / "adapter_config.json").write_bytes(text)
    with pytest.raises(FormatError, match=r"adapter_config\.json"):
        read(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file or directory"):
        read(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    there = r"expected one of .*adapter_model\.safetensors.*, found notes\.txt"
    with pytest.raises(FormatError, match=there):
        read(tmp_path)
    save_file(tensors(), tmp_path / "adapter_model.safetensors")
    with pytest.raises(FormatError, match=r"is missing, and adapter_model\.safetensors does not"):
        read(tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_listed(bad: float, tmp_path: Path) -> None:
    content = tensors() | {"base_model.model.head.weight": torch.ones(2, 3)}
    content["base_model.model.q.lora_A.weight"][1, :2] = bad
    content["base_model.model.head.weight"][0, 0] = bad
    with pytest.raises(FormatError) as caught:
        read(write_files(tmp_path, CONFIG, content))
    assert caught.value.problems == (
        "q.lora_A: 2 of 10 values are NaN or infinite",
        "head.weight: 1 of 6 values are NaN or infinite",
    )


def test_tensors_without_a_prefix_are_read(tmp_path: Path) -> None:
    content = {key.removeprefix("base_model.model."): t for key, t in tensors().items()}
    assert list(read(write_files(tmp_path, CONFIG, content)).adapters) == ["q"]


def test_pickled_adapter_of_peft_is_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    content = tensors()
    torch.save(content, tmp_path / "adapter_model.bin")
    for path in (tmp_path, tmp_path / "adapter_model.bin"):
        found = read(path)
        assert found.format == "peft"
        assert torch.equal(
            found.adapters["q"].tensors["lora_A"], content["base_model.model.q.lora_A.weight"]
        )


# --- loralib's file


def loralib(r: int = 2) -> dict[str, Tensor]:
    return {"m.q.lora_A": torch.randn(r, 5), "m.q.lora_B": torch.randn(4, r)}


@pytest.mark.parametrize(
    "wrappers",
    [
        (),
        ("model_state_dict",),
        ("state_dict",),
        ("model",),
        ("model", "model_state_dict"),
        ("model_state_dict", "state_dict", "model"),
    ],
    ids="/".join,
)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
def test_loralib_file_is_read_in_its_wrappings(
    wrappers: tuple[str, ...], prefix: str, suffix: str, tmp_path: Path
) -> None:
    content: Any = loralib() | {"m.head.bias": torch.randn(3)}
    saved: Any = {prefix + key: tensor for key, tensor in content.items()}
    for wrapper in reversed(wrappers):
        saved = {wrapper: saved, "epoch": 3}
    torch.save(saved, tmp_path / f"a{suffix}")
    found = read(tmp_path / f"a{suffix}", lora_alpha=5)
    assert (found.format, list(found.adapters)) == ("loralib", ["m.q"])
    assert found.tensors.keys() == content.keys()
    for key, tensor in content.items():
        assert torch.equal(found.tensors[key], tensor)
    assert found.adapters["m.q"].spec.lora_alpha == 5
    assert found.adapters["m.q"].site is None


def test_loralib_file_needs_its_alpha(tmp_path: Path) -> None:
    torch.save(loralib(), tmp_path / "a.pt")
    with pytest.raises(MissingAlphaError, match=r"Pass the value .* \(lora_alpha=\.\.\."):
        read(tmp_path / "a.pt")


def test_wrapping_is_only_taken_off_where_it_is_around_everything() -> None:
    content = loralib() | {"module.other.lora_A": torch.ones(1, 5)}
    with pytest.raises(FormatError, match=r"module\.other: lora_B is missing"):
        loralib_format.decode(content, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "does not contain a state dict"),
        ([torch.ones(2)], "does not contain a state dict"),
        (torch.ones(2), "does not contain a state dict"),
        ({"epoch": 3}, "does not contain a state dict"),
        ({1: torch.ones(2)}, "does not contain a state dict"),
        ({"m.weight": torch.ones(2)}, "it contains no lora_A and lora_B"),
        ({"m.lora_A": torch.ones(2, 5)}, "m: lora_B is missing"),
        (
            {"m.lora_A": torch.ones(5), "m.lora_B": torch.ones(4)},
            "m: expected 2-dimensional lora_A and lora_B",
        ),
        (
            loralib() | {"m.q.weight": torch.ones(4, 5)},
            "m.q.weight is a base weight, so this is the checkpoint of a whole",
        ),
        ({key: t.long() for key, t in loralib().items()}, "m.q.lora_A has dtype torch.int64"),
    ],
)
def test_loralib_content_that_cannot_be_is_refused(content: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        loralib_format.decode(content, 1)


class Runs:
    """A pickle of this creates a file when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["adapter.pt", "adapter.bin", "adapter_model.bin"])
def test_pickle_with_code_in_it_does_not_run(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    torch.save(loralib() | {"m.head": Runs(marker)}, tmp_path / name)
    with pytest.raises(FormatError, match="was not loaded: it contains other objects than tensors"):
        read(tmp_path / name, lora_alpha=1)
    assert not marker.exists()
    torch.load(tmp_path / name, weights_only=False)
    assert marker.exists(), "the file would have run"


@given(junk=st.binary(max_size=200))
def test_junk_is_refused(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("a.pt", "a.safetensors"):
        file = tmp_path_factory.getbasetemp() / name
        file.write_bytes(junk)
        with pytest.raises(FormatError, match=name):
            read(file, lora_alpha=1)


@pytest.mark.parametrize("cut", [1, 100, 600, -1, -200])
def test_truncated_loralib_file_is_refused(cut: int, tmp_path: Path) -> None:
    torch.save(loralib(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[:cut])
    with pytest.raises(FormatError, match=r"a\.pt"):
        read(tmp_path / "a.pt", lora_alpha=1)


def test_prefix_is_the_one_of_peft() -> None:
    assert PREFIX == "base_model.model."
