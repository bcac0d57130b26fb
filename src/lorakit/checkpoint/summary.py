"""What an adapter file holds, as a value and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lorakit.checkpoint.bundle import AdapterBundle


@dataclass(frozen=True)
class Summary:
    """An adapter at a glance."""

    format: str
    base_model: str | None
    r: int
    lora_alpha: float
    use_rslora: bool
    use_dora: bool
    target_modules: list[str] | str
    adapted_modules: int
    ranks: dict[int, int]
    """Rank -> number of modules that have it."""
    adapter_parameters: int
    trained: dict[str, int]
    """Tensors that were trained in full and their number of parameters."""
    dtypes: list[str]
    fingerprint: str | None
    fits: str | None = None
    """The base that it was checked against."""
    base_verified: bool | None = None
    """Whether that base is the one it was trained on; None if that cannot be told."""

    def __str__(self) -> str:
        rows = {
            "format": self.format,
            "base model": self.base_model or "not said",
            "rank, alpha": f"{self.r}, {self.lora_alpha:g}"
            + (" (rsLoRA)" if self.use_rslora else "")
            + (" (DoRA)" if self.use_dora else ""),
            "targets": self.target_modules
            if isinstance(self.target_modules, str)
            else ", ".join(self.target_modules),
            "modules": ", ".join(f"{n} of rank {r}" for r, n in self.ranks.items()),
            "parameters": f"{self.adapter_parameters:,} in the adapter, "
            f"{sum(self.trained.values()):,} trained in full",
            "trained in full": ", ".join(self.trained) or "nothing",
            "types": ", ".join(self.dtypes),
            "fingerprint": self.fingerprint or "none",
        }
        if self.fits is not None:
            verified = "its weights are the ones" if self.base_verified else "weights not verified"
            rows["fits"] = f"{self.fits} ({verified})"
        width = max(map(len, rows))
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows.items())


def summarise(
    bundle: AdapterBundle, fits: str | None = None, base_verified: bool | None = None
) -> Summary:
    """The summary of a bundle, and of the base that it was found to fit."""
    config = bundle.config
    targets = config.target_modules
    if targets is None or not bundle.targets_stated:
        targets = sorted({name.rpartition(".")[2] for name in bundle.adapters})
    ranks = Counter(pair.r or pair.lora_B.shape[1] for pair in bundle.adapters.values())
    return Summary(
        format=bundle.format,
        base_model=bundle.base_model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        target_modules=targets if isinstance(targets, str) else list(targets),
        adapted_modules=len(bundle.adapters),
        ranks=dict(ranks),
        adapter_parameters=sum(pair.parameters for pair in bundle.adapters.values()),
        trained={name: tensor.numel() for name, tensor in bundle.trained.items()},
        dtypes=sorted({str(t.dtype).removeprefix("torch.") for t in bundle.tensors.values()}),
        fingerprint=next(iter(bundle.fingerprint.values())) if bundle.fingerprint else None,
        fits=fits,
        base_verified=base_verified,
    )
