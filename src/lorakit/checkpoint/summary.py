"""The summary of an adapter file, as a value and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.fingerprint import verdict
from lorakit.checkpoint.formats.tensor_files import dtype_names
from lorakit.checkpoint.layers_summary import LayerSummary, layers_of, layers_table
from lorakit.text import plural, settings
from lorakit.variants import VARIANTS
from lorakit.variants.trainable_tokens import rows_of

_LORA = AdapterBundle.method
"""The method of a bundle that names none."""
_NAMED = 8
"""How many tensors the table names; full fine-tuning has hundreds."""


@dataclass(frozen=True)
class Summary:
    """The main facts of an adapter, or of what another method trained."""

    format: str
    method: str
    base_model: str | None
    method_config: Mapping[str, Any]
    """Settings of a method other than LoRA."""
    r: int | None
    """LoRA's rank; it and the following four are None where a method has no such adapters."""
    lora_alpha: float | None
    use_rslora: bool | None
    variant: str | None
    target_modules: list[str] | str | None
    adapted_modules: int
    ranks: dict[int, int]
    """Rank -> number of modules that have it."""
    adapter_parameters: int
    tokens: dict[str, list[int]]
    """Rows of the vocabulary that are trained, by module."""
    layers: list[LayerSummary]
    """Rank, scale and norm of each adapted module."""
    trained: dict[str, int]
    """Tensors that were trained in full, or by a method other than LoRA, and their number of
    parameters."""
    dtypes: list[str]
    fingerprint: str | None
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the file that lorakit does not know; they could mean another function."""
    fits: str | None = None
    """The base that it was checked against."""
    base_verified: bool | None = None
    """Whether its fingerprint is that base's; None if that is unknown."""

    def __str__(self) -> str:
        rows = {
            "format": self.format,
            "base model": self.base_model or "unknown",
            **({} if self.method == _LORA else self._method()),
            **({} if self.r is None else self._lora()),
            "parameters": self._parameters(),
            "trained" if self._own() else "trained in full": _listed(self.trained) or "none",
            "dtype": ", ".join(self.dtypes),
            "fingerprint": self.fingerprint or "none",
        }
        if self.unknown_settings:
            rows["unknown settings"] = settings(self.unknown_settings)
        if self.fits is not None:
            rows["fits"] = f"{self.fits} ({verdict(self.base_verified, self.method == _LORA)})"
        width = max(map(len, rows))
        lines = [f"{name.ljust(width)}  {value}" for name, value in rows.items()]
        return "\n".join([*lines, *(["", *layers_table(self.layers)] if self.layers else [])])

    def _lora(self) -> dict[str, str]:
        targets = self.target_modules
        return {
            "rank, alpha": f"{self.r}, {self.lora_alpha:g}"
            + (" (rsLoRA)" if self.use_rslora else "")
            + ("" if self.variant in (None, "lora") else f" ({VARIANTS[self.variant].title})"),
            "targets": targets if isinstance(targets, str) else ", ".join(targets or ()),
            "modules": ", ".join(f"{n} of rank {r}" for r, n in self.ranks.items()),
            **({"tokens": self._tokens()} if self.tokens else {}),
        }

    def _tokens(self) -> str:
        return ", ".join(f"{len(rows):,} of {name}" for name, rows in self.tokens.items())

    def _method(self) -> dict[str, str]:
        given = {  # those of the adapters that it has too stand below
            name: value
            for name, value in self.method_config.items()
            if value is not None and not isinstance(value, Mapping)
        }
        return {"method": self.method, "settings": settings(given) or "none"}

    def _parameters(self) -> str:
        """LoRA's, a method's own, and those of modules that are trained in full beside them."""
        own = self._own()
        in_full = sum(self.trained.values()) - sum(own.values())
        parts = {
            "in the adapter": self.adapter_parameters if self.r is not None else None,
            f"in {plural(len(own), 'tensor')}": sum(own.values()) if own else None,
            "trained in full": in_full if in_full or not own else None,
        }
        return ", ".join(
            f"{number:,} {what}" for what, number in parts.items() if number is not None
        )

    def _own(self) -> Mapping[str, int]:
        """What a method other than LoRA has trained, apart from `modules_to_save`."""
        if self.method == _LORA:
            return {}
        nested = [value for value in self.method_config.values() if isinstance(value, Mapping)]
        saved = [part.get("modules_to_save") or () for part in (self.method_config, *nested)]
        inside = [f".{module}." for modules in saved for module in modules]
        return {
            n: size for n, size in self.trained.items() if not any(m in f".{n}" for m in inside)
        }


def _listed(names: Mapping[str, int]) -> str:
    first = list(names)[:_NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def summarise(
    bundle: AdapterBundle, fits: str | None = None, base_verified: bool | None = None
) -> Summary:
    """The summary of a bundle, and of the base that it was found to fit."""
    config = bundle.config if bundle.method == _LORA or bundle.adapters else None
    tokens = {name: list(rows) for name, rows in rows_of(bundle.adapters).items()}
    ranks = Counter(x.spec.r for name, x in bundle.adapters.items() if name not in tokens)
    return Summary(
        format=bundle.format,
        method=bundle.method,
        base_model=bundle.base_model,
        method_config=bundle.method_config,
        r=config.r if config else None,
        lora_alpha=config.lora_alpha if config else None,
        use_rslora=config.use_rslora if config else None,
        variant=config.variant if config else None,
        target_modules=_targets(bundle) if config else None,
        adapted_modules=len(bundle.adapters) - len(tokens),
        ranks=dict(ranks),
        adapter_parameters=sum(adapter.parameters for adapter in bundle.adapters.values()),
        tokens=tokens,
        layers=layers_of(bundle),
        trained={name: tensor.numel() for name, tensor in bundle.trained.items()},
        dtypes=dtype_names(bundle.tensors),
        fingerprint=next(iter(bundle.fingerprint.values())) if bundle.fingerprint else None,
        unknown_settings=bundle.unknown_settings,
        fits=fits,
        base_verified=base_verified,
    )


def _targets(bundle: AdapterBundle) -> list[str] | str:
    """The config's targets, or the last parts of the names where these are the modules' own."""
    targets = bundle.config.target_modules
    if targets is None or not bundle.targets_stated or bundle.adapters.keys() >= set(targets):
        return sorted({name.rpartition(".")[2] for name in bundle.adapters})
    parameters = bundle.config.target_parameters or ()
    return targets if isinstance(targets, str) else [*targets, *parameters]
