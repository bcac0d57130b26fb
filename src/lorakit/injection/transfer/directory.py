"""The directory of an adapted transformers model: the adapter, and what a Trainer reads of it."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle, write
from lorakit.checkpoint.formats.tensor_files import for_safetensors, save_safetensors
from lorakit.errors import SaveError
from lorakit.files import atomic_write, directory_for_writing
from lorakit.injection.transfer.saving import bundle_of
from lorakit.layers.conversion import lora_layers

_TRAINERS_FILE = "model.safetensors"


def save_directory(model: nn.Module, directory: Path) -> None:
    """Write the adapter's files, and its tensors under the model's own names beside them.

    The second file is whole under a temporary name before the first ones change. Raises as
    `bundle_of` and `write` do, and SaveError if it cannot be written.
    """
    bundle, file = bundle_of(model), directory / _TRAINERS_FILE
    try:
        if file.is_dir():
            raise IsADirectoryError("it is a directory")
        with directory_for_writing(directory), atomic_write(file) as temporary:
            tensors = for_safetensors(_by_own_names(model, bundle))
            save_safetensors(tensors, temporary, {"format": "pt"})
            write(bundle, directory)
    except SaveError:
        raise
    except (OSError, SafetensorError) as error:
        raise SaveError(f"{file} could not be written: {error}") from error


def _by_own_names(model: nn.Module, bundle: AdapterBundle) -> dict[str, Tensor]:
    adapters = {
        f"{name}.{leaf}": layer.get_parameter(leaf)
        for name, layer in lora_layers(model)
        for leaf in layer.tensor_names
    }
    return {**adapters, **bundle.trained}
