"""`generate` with rows: each text is what its row's adapter alone writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.adapters.files import Build, alone, loaded_set, save_all
from tests.injection import zoo

TARGETS: dict[str, tuple[Build, list[str]]] = {
    "gpt2": (lambda: zoo.gpt2(n_positions=32), ["c_attn", "c_fc"]),
    "llama": (zoo.llama, ["q_proj", "v_proj", "down_proj"]),
}
NAMES = ["a", None, "b", "a", "dora"]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "beams returned": {"num_beams": 3, "num_return_sequences": 2},
}


def prompts() -> dict[str, Tensor]:
    """Five prompts of unequal length, padded on the left."""
    ids = 3 + torch.arange(5 * 6).reshape(5, 6) % 37
    mask = torch.ones_like(ids)
    for row, padding in enumerate([0, 3, 1, 4, 2]):
        ids[row, :padding], mask[row, :padding] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TARGETS)
def test_each_text_is_what_its_adapter_alone_writes(name: str, way: str, tmp_path: Path) -> None:
    build, targets = TARGETS[name]
    configs = {
        "a": {"r": 4, "lora_alpha": 4, "target_modules": targets},
        "b": {"r": 2, "lora_alpha": 4, "target_modules": targets[:1]},
        "dora": {"r": 2, "use_dora": True, "target_modules": targets},
    }
    paths, model = save_all(build, tmp_path, configs), build()
    # Token 7 ends a text: some rows end early, and the others go on.
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": 7, "pad_token_id": 0}
    settings |= WAYS[way]
    with loaded_set(model, paths).rows(NAMES):
        together = model.generate(**prompts(), **settings)  # type: ignore[operator]
    per_row = WAYS[way].get("num_return_sequences", 1)
    for n, adapter in enumerate(NAMES):
        single = alone(build, None if adapter is None else paths[adapter])
        batch = {key: value[n : n + 1] for key, value in prompts().items()}
        expected = single.generate(**batch, **settings)  # type: ignore[operator]
        got = together[n * per_row : (n + 1) * per_row, : expected.shape[1]]
        assert got.tolist() == expected.tolist()
        assert not together[n * per_row : (n + 1) * per_row, expected.shape[1] :].any()
    texts = {tuple(row.tolist()) for row in together[:, 6:]}
    assert len(texts) > 3, "the adapters write the same texts"
