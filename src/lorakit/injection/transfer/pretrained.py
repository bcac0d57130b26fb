"""`save_pretrained` of an adapted model: a directory that loads back as what the model was.

transformers would write A and B beside the weights, and reading that again gives the base, with a
remark on unexpected keys. So an adapted transformers model writes what it writes for PEFT: the
adapter's files, from which `from_pretrained` makes base and adapter if PEFT is installed, and
`lorakit.load_adapter` without it. Beside them `model.safetensors` has the same tensors under the
model's own names, since a Trainer reads that when it resumes, and when it loads the best model.

transformers 5.23 leaves the magnitudes of DoRA out, of PEFT's own files too: there it warns.

A base without a name could not be found again, and other libraries with a `save_pretrained`, such
as diffusers, do not look for adapters. There the method stays what it is, and warns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.errors import ConfigError, LorakitWarning
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.alteration import altered

METHOD = "save_pretrained"


def keep_loadable(model: nn.Module) -> None:
    """Let `save_pretrained` of the model and of its adapted parts write what loads back."""
    for module in model.modules():
        if not callable(getattr(type(module), METHOD, None)) or not any(lora_layers(module)):
            continue
        if _is_transformers(module):
            saving: Callable[..., Any] = SaveAdapter(module)
        elif any(map(_is_transformers, module.modules())):
            continue  # sentence-transformers: it calls its part's
        else:
            saving = SaveAndWarn(module)
        module.__dict__[METHOD] = saving
        altered(module).attributes |= {METHOD}


def _is_transformers(module: nn.Module) -> bool:
    names = [(base.__module__.partition(".")[0], base.__name__) for base in type(module).__mro__]
    return ("transformers", "PreTrainedModel") in names


@dataclass(frozen=True, eq=False)
class SaveAndWarn:
    """The model's own method, with a word; an object, so that it is copied and pickled."""

    model: nn.Module

    def __call__(self, *args: Any, **settings: Any) -> Any:
        kind = type(self.model)
        warnings.warn(
            f"{METHOD} of this adapted {kind.__name__} writes A and B beside the weights, and from "
            "these files comes the base. Save the adapter with lorakit.save_adapter; merged "
            "weights are saved after lorakit.fold.",
            LorakitWarning,
            stacklevel=2,
        )
        return getattr(kind, METHOD)(self.model, *args, **settings)


class SaveAdapter(SaveAndWarn):
    """The adapter's files, if the base can be found again by its name."""

    def __call__(
        self, save_directory: str | Path, is_main_process: bool = True, **settings: Any
    ) -> Any:
        """`settings` are about whole weights.

        Raises ConfigError for push_to_hub, and as `save_directory` does.
        """
        if not getattr(getattr(self.model, "config", None), "name_or_path", None):
            return super().__call__(save_directory, is_main_process, **settings)
        if settings.get("push_to_hub"):
            raise ConfigError(
                "push_to_hub=True has no effect for an adapted model; call "
                "model.push_to_hub(repository) instead."
            )
        if is_main_process:
            from lorakit.injection.transfer import directory  # the file formats: not at import

            directory.save_directory(self.model, Path(save_directory))
            _warn_of_what_transformers_leaves_out(self.model)
        return None


def _warn_of_what_transformers_leaves_out(model: nn.Module) -> None:
    layers = [layer for _, layer in lora_layers(model) if "lora_B" in layer.tensor_names]
    names = {name for layer in layers for name in layer.tensor_names} - {"lora_A", "lora_B"}
    if names:
        warnings.warn(
            "transformers' from_pretrained reads A and B of these files and leaves out "
            f"{', '.join(sorted(names))}, which gives another model; lorakit.load_adapter and "
            "peft.PeftModel.from_pretrained read them rightly.",
            LorakitWarning,
            stacklevel=3,
        )
