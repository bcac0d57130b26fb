"""The tokens at which a model stops, in its generation config and beside an adapter.

An adapter's directory has transformers' own `generation_config.json`: the base's, with the tokens
that training marked as an end. So `GenerationConfig.from_pretrained` reads it, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from lorakit.errors import FormatError
from lorakit.files import atomic_write_text

GENERATION_CONFIG = "generation_config.json"


def stop_ids(config: Any, tokenizer: Any, more: Iterable[int] = ()) -> list[int] | None:
    """`more`, the tokenizer's EOS and those of a generation config, each once; None for none."""
    own = config.eos_token_id
    ends = [*more, tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return list(dict.fromkeys(end for end in ends if end is not None)) or None


def set_stop_tokens(model: Any, tokenizer: Any, ends: Iterable[int] = ()) -> None:
    """Let the model stop at `ends`, and still at the tokenizer's EOS and at its own."""
    config = model.generation_config
    config.eos_token_id = stop_ids(config, tokenizer, ends)
    if tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id


def save_generation_config(model: Any, directory: Path) -> None:
    """Write the model's generation config beside an adapter.

    Not through `save_pretrained`, which refuses what some published configs hold.
    """
    content = model.generation_config.to_json_string(ignore_metadata=True)
    atomic_write_text(directory / GENERATION_CONFIG, content)


def load_generation_config(model: Any, directory: Path) -> bool:
    """Give the model the generation config in this directory; False if there is none.

    Raises FormatError for a damaged file.
    """
    if not (directory / GENERATION_CONFIG).is_file():
        return False
    try:
        model.generation_config = GenerationConfig.from_pretrained(directory)
    except Exception as error:  # its constructor raises whatever a broken file leads to
        raise FormatError(
            f"{directory / GENERATION_CONFIG} is damaged and cannot be read: {error}"
        ) from error
    return True
