"""A base with an adapter on it, for whoever looks at both and asks for no task."""

from __future__ import annotations

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.injection.transfer.loading import LoadReport
from lorakit.methods import load
from lorakit.models.loading import load_base
from lorakit.models.vocabulary import fit_vocabulary
from lorakit.runs.adapter_place import AdapterPlace
from lorakit.runs.beside import load_own_tokenizer


def load_onto_base(
    base: str, bundle: AdapterBundle, place: AdapterPlace, check_base: bool = True
) -> tuple[nn.Module, LoadReport]:
    """The base with the bundle loaded onto it; `place` is where that was read.

    Raises as `load_base` and `lorakit.methods.load` do.
    """
    model = load_base(base, bundle=bundle)
    fit_vocabulary(model, bundle, load_own_tokenizer(place.directory()))
    return model, load(model, bundle, str(place), check_base)
