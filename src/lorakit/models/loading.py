"""Load the base that an adapter needs, with transformers."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import FormatError, LorakitWarning, MismatchError, MissingDependencyError
from lorakit.foreign_files import local_path
from lorakit.models.buildable import require_buildable
from lorakit.models.classes import LANGUAGE_MODELS, class_of, require_class
from lorakit.models.heads import head_height
from lorakit.models.known_words import require_words
from lorakit.models.quantised import require_unquantised

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")

WITHOUT_ADAPTER = {"subfolder": "none"}
"""`adapter_kwargs` of from_pretrained for a base alone: no adapter is found in that folder."""

_USUAL_WIDTH = 768


def meta_model(
    name: str,
    revision: str | None = None,
    auto_class: str | None = None,
    bundle: AdapterBundle | None = None,
) -> nn.Module:
    """The model of that directory or hub id on the meta device: names and shapes, no weights.

    It is of its own class, or of that `auto_class`, or of that for `bundle`. Raises FormatError if
    there is no such model.
    """
    return untrained_model(name, revision, auto_class, "meta", bundle)


def untrained_model(
    name: str,
    revision: str | None,
    auto_class: str | None,
    device: str,
    bundle: AdapterBundle | None = None,
) -> nn.Module:
    """The same with random weights on a device; the weights of the checkpoint are not read."""
    import torch

    transformers = _transformers()
    config = load_config(name, revision)
    own = class_of(transformers, config, bundle)
    if bundle is not None and (labels := head_height(bundle)) is not None:
        config.num_labels = labels
    model_class = getattr(transformers, auto_class) if auto_class else own
    try:
        with torch.device(device):
            return model_class.from_config(config)  # type: ignore[no-any-return]
    except Exception as error:  # a model's constructor raises whatever a broken config leads to
        raise FormatError(f"No model can be built from the config of {name}: {error}") from error


def width_of(config: Any) -> int:
    """The width of a model's hidden states, by its config; 768 where that does not say it."""
    own = getattr(config, "hidden_size", None)
    return int(own or getattr(config.get_text_config(), "hidden_size", None) or _USUAL_WIDTH)


def load_base(
    name: str, revision: str | None = None, *, bundle: AdapterBundle | None = None
) -> nn.Module:
    """The pretrained model, of the class and with the labels that `bundle` was trained with.

    `name` is a directory or a hub id, `revision` a branch, tag or commit of that.

    Raises FormatError if there is no such model, MismatchError if weights are missing in its
    checkpoint, or have another shape there, and the adapter does not contain them.
    """
    model_class, config = base_class(name, revision, bundle)
    model, info = _pretrained(model_class, name, revision, config=config)
    provided = set(bundle.trained) if bundle is not None else set()
    _require_loaded(model, name, _not_loaded(info, provided))
    return model.eval()  # type: ignore[no-any-return]


def base_class(
    name: str, revision: str | None = None, bundle: AdapterBundle | None = None
) -> tuple[Any, Any]:
    """The class of transformers, or auto class, of a base with the labels of `bundle`; its config.

    Raises FormatError if there is no such model, MismatchError if it is of another kind.
    """
    config = load_config(name, revision)
    model_class = class_of(_transformers(), config, bundle)
    labels = head_height(bundle) if bundle is not None else None
    if labels is not None and labels != config.num_labels:
        config.num_labels = labels
    return model_class, config


def load_for_task(
    name: str,
    auto_class: str,
    head: Mapping[str, Any],
    revision: str | None = None,
    provided: Collection[str] | None = None,
) -> tuple[nn.Module, list[str]]:
    """The pretrained model with a head for a task, and the modules that are new in it.

    `name` is a directory or a hub id, `revision` a branch, tag or commit of that, `auto_class` one
    of transformers. `head` are settings of the model's config. `provided` are the weights that an
    adapter contains; None means that a newly initialized head will be trained. A language model
    needs the head of its checkpoint in any case: the output of an adapter on random weights is
    meaningless.

    Raises FormatError if there is no such model, or none with that head, MismatchError for newly
    initialized weights that the adapter does not contain.
    """
    model_class, config = class_for_task(name, auto_class, head, revision)
    model, info = _pretrained(model_class, name, revision, config=config, dtype="float32")
    if provided is None and auto_class in LANGUAGE_MODELS:
        provided = ()
    if provided is not None:
        _require_loaded(model, name, _not_loaded(info, provided))
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    new = dict.fromkeys(k.rpartition(".")[0] for k in sorted({*info["missing_keys"], *mismatched}))
    return model, list(new)


def class_for_task(
    name: str, auto_class: str, head: Mapping[str, Any], revision: str | None = None
) -> tuple[Any, Any]:
    """The auto class of `load_for_task`, and the base's config with the settings of the head.

    Raises FormatError if there is no such model, or none with that head.
    """
    transformers = _transformers()
    config = load_config(name, revision)
    require_class(transformers, config, auto_class, name)
    for key, value in head.items():
        setattr(config, key, value)
    return getattr(transformers, auto_class), config


def holds_adapter(name: str, revision: str | None = None) -> bool:
    """Whether an adapter stands beside the base, which transformers would add to it."""
    find = _transformers().utils.find_adapter_config_file
    return find(name, revision=revision) is not None


def _pretrained(
    model_class: Any, name: str, revision: str | None, **options: Any
) -> tuple[Any, Mapping[str, Any]]:
    """The model and transformers' loading info; missing weights and other shapes are in the latter.

    Without the adapter that may be in the same place.
    """
    if holds_adapter(name, revision):
        warnings.warn(
            f"{name} also holds an adapter (adapter_config.json); the base is loaded without it. "
            "Training starts from that adapter if a recipe names it as init_adapter.",
            LorakitWarning,
            stacklevel=3,
        )
    try:
        return model_class.from_pretrained(  # type: ignore[no-any-return]
            name,
            revision=revision,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            adapter_kwargs=WITHOUT_ADAPTER,
            **options,
        )
    except Exception as error:  # as in `meta_model`; damaged weights raise more kinds still
        raise FormatError(
            f"The base model {name} cannot be loaded: {_reason(error, name)}"
        ) from error


def load_tokenizer(name: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a model, or the one saved with an adapter.

    Raises FormatError if there is none, or none that knows a word.
    """
    _require_place(name)
    if (Path(name) / "config.json").is_file():
        load_config(str(name), revision)  # what is wrong with it is not the tokenizer's fault
    try:
        tokenizer = _transformers().AutoTokenizer.from_pretrained(name, revision=revision)
    except Exception as error:  # as in `load_config`
        raise FormatError(
            f"The tokenizer of {name} cannot be loaded: {_reason(error, name)}"
        ) from error
    require_words(tokenizer, name)
    return tokenizer


def _require_loaded(model: nn.Module, name: str, problems: list[str]) -> None:
    if problems:
        raise MismatchError(
            f"The checkpoint of {name} lacks weights of {type(model).__name__}:", problems
        )


def without_dropout(name: str, revision: str | None = None) -> dict[str, float]:
    """The dropout probabilities in a base's config, each set to 0."""
    return dropout_off(load_config(name, revision))


def dropout_off(config: Any) -> dict[str, float]:
    """The dropout probabilities in a config, each set to 0."""
    return {key: 0.0 for key, value in config.to_dict().items() if _is_dropout(key) and value}


def _is_dropout(key: str) -> bool:
    """Whether a key of a config is a dropout probability: attn_pdrop, hidden_dropout_prob, ..."""
    return key.endswith(("_pdrop", "dropout", "dropout_prob"))


def _not_loaded(info: Mapping[str, Any], provided: Collection[str]) -> list[str]:
    """The newly initialized weights that the adapter does not contain."""
    problems = [
        f"{key} is newly initialized: it is missing from the base checkpoint and from the adapter"
        for key in sorted(set(info["missing_keys"]) - set(provided))
    ]
    return problems + [
        f"{key} has a size mismatch: expected {tuple(here)}, got {tuple(there)} in the base "
        "checkpoint, and it is missing from the adapter"
        for key, there, here in sorted(info["mismatched_keys"])
        if key not in provided
    ]


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "Loading a base model needs transformers: pip install 'lorakit[transformers]'"
        ) from error
    return transformers


def load_config(name: str, revision: str | None = None) -> Any:
    """The config of a model; raises FormatError if there is none."""
    _require_place(name)
    directory = Path(name)
    if directory.is_dir() and not (directory / "config.json").is_file():
        raise FormatError(f"{name} is not a model directory: it has no config.json.")
    auto_config = _transformers().AutoConfig
    try:
        config = auto_config.from_pretrained(name, revision=revision)
    except Exception as error:  # a config's constructor raises whatever a broken file leads to
        reason = _reason(error, name)
        raise FormatError(f"No transformers model found at {name}: {reason}") from error
    require_unquantised(name, config)
    require_buildable(name, config)
    return config


def _require_place(name: str | Path) -> None:
    """Raise FormatError for a path that is no directory and cannot be a hub id."""
    if local_path(name).exists() and not Path(name).is_dir():
        raise FormatError(f"{name} is a file; a model is a directory or a hub id.")
    if not Path(name).exists() and not _HUB_ID.fullmatch(str(name)):
        raise FormatError(f"No transformers model found at {name}: no such directory.")


def _reason(error: Exception, name: str | Path) -> str:
    """The first lines of transformers' message, and whether it speaks of the Hub."""
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are a pickle that is damaged or could run code"
    said = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    if isinstance(error, AttributeError | IndexError | KeyError | TypeError):
        said = f"its files hold a value of a kind that transformers does not read there ({said})"
    if isinstance(error, OSError) and not Path(name).exists():
        return f"there is no such directory, and it could not be read from the Hub: {said}"
    return said
