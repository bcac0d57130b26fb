"""How many tokens a model reads, by its config and by the model itself."""

from __future__ import annotations

from pathlib import Path

from lorakit.models.loading import meta_model
from lorakit.models.positions import length_limit, position_limit
from tests.injection import zoo


def test_the_limit_of_a_model_that_sees_images_is_that_of_its_text(tmp_path: Path) -> None:
    zoo.llava().save_pretrained(tmp_path)
    base = str(tmp_path)
    assert length_limit(base) == position_limit(meta_model(base)) == 32
