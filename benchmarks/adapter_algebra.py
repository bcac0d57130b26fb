"""Two adapters combined into one of the same rank: `lora.combine` beside PEFT's SVD."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import lorakit as lora
from benchmarks import peers
from benchmarks.registry import Row, Settings, spread
from benchmarks.rounds import over
from lorakit.checkpoint import AdapterBundle
from lorakit.timing import interleave

LAYERS, WIDTH, RANK = 2, 1024, 16
WEIGHTS = (0.7, 0.3)
SECONDS = 60.0
CONDITIONS = {
    "adapters": f"two of rank {RANK} and alpha {peers.ALPHA} on {LAYERS} linear layers of {WIDTH}, "
    f"float32, random A and B, weights {WEIGHTS}",
    "cut": f"to rank {RANK}: lora.combine(rank={RANK}), and PEFT's combination_type='svd'",
    "exact": "of the summed rank: lora.combine, and PEFT's 'cat'",
    "error": "of the update, against the weighted sum of dense float64 updates, relative, the "
    "worst layer",
    "over the best": "distance from the best update of the rank (float64 SVD), relative",
    "times faster": "than PEFT's in the same round",
}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lorakit": ("lorakit", {"rank": RANK}, {}),
    "lorakit, exact": ("lorakit", {}, {}),
    "peft svd": ("peft", {}, {"combination_type": "svd", "svd_rank": RANK}),
    "peft cat": ("peft", {}, {"combination_type": "cat"}),
    "peft linear": ("peft", {}, {"combination_type": "linear"}),
}
"""The library, and what lorakit or PEFT are called with."""


class Sums:
    """The same two adapters in both libraries, and their sum by definition."""

    def __init__(self, settings: Settings, width: int) -> None:
        self.names = [str(n) for n in range(LAYERS)]
        self._layers = lambda: nn.Sequential(
            *(nn.Linear(width, width, bias=False) for _ in self.names)
        )
        with TemporaryDirectory() as directory:
            paths = [self._write(settings.seed + n, Path(directory) / str(n)) for n in range(2)]
            self.bundles = [lora.checkpoint.read(path) for path in paths]
            self.peft = self._in_peft(paths) if "peft" in peers.INSTALLED else None

    def _write(self, seed: int, path: Path) -> Path:
        torch.manual_seed(0)  # the base
        model = self._layers()
        torch.manual_seed(seed + 1)
        config = lora.LoraConfig(
            r=RANK, lora_alpha=peers.ALPHA, target_modules=self.names, init_lora_weights=False
        )
        lora.inject(model, config)
        return lora.save_adapter(model, path)

    def _in_peft(self, paths: list[Path]) -> Any:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(self._layers(), paths[0], adapter_name="0")
            model.load_adapter(paths[1], "1")
        return model

    def exact(self, name: str) -> Tensor:
        """The update of a layer in float64."""
        terms = zip(self.bundles, WEIGHTS, strict=True)
        deltas = [_wide(bundle, name) * weight for bundle, weight in terms]
        return torch.stack(deltas).sum(0)

    def candidates(self) -> Mapping[str, Callable[[], object]]:
        def ours(options: Mapping[str, Any]) -> Callable[[], object]:
            return lambda: lora.combine(list(zip(self.bundles, WEIGHTS, strict=True)), **options)

        def theirs(options: Mapping[str, Any]) -> Callable[[], object]:
            return lambda: self._peft_sum(options)

        return {
            name: ours(own) if library == "lorakit" else theirs(options)
            for name, (library, own, options) in KINDS.items()
            if library in peers.INSTALLED
        }

    def _peft_sum(self, options: Mapping[str, Any]) -> None:
        """Made anew: PEFT does nothing where the name is taken."""
        if "sum" in self.peft.peft_config:
            self.peft.delete_adapter("sum")
        self.peft.add_weighted_adapter(["0", "1"], list(WEIGHTS), "sum", **options)

    def update(self, kind: str, name: str) -> Tensor:
        """The update of a layer that a candidate makes."""
        library, own, _ = KINDS[kind]
        self.candidates()[kind]()
        if library == "lorakit":
            terms = list(zip(self.bundles, WEIGHTS, strict=True))
            return _wide(lora.combine(terms, **own).bundle, name)
        layer = self.peft.base_model.model.get_submodule(name)
        a, b = (part["sum"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
        return b @ a * layer.scaling["sum"]


def _wide(bundle: AdapterBundle, name: str) -> Tensor:
    adapter = bundle.adapters[name]
    a, b = (adapter.tensors[leaf].double() for leaf in ("lora_A", "lora_B"))
    return b @ a * adapter.spec.scaling


def check(settings: Settings) -> None:
    """All but PEFT's 'linear' make the sum, or the best of its rank."""
    sums = Sums(settings, 64)
    for kind in sums.candidates():
        error, excess = errors(sums, kind)
        assert (min(error, excess) > 0.1) == (kind == "peft linear"), kind


def errors(sums: Sums, kind: str) -> tuple[float, float]:
    """Relative distances of the worst layer from the sum, and from the best of the rank."""
    found = []
    for name in sums.names:
        exact, made = sums.exact(name), sums.update(kind, name)
        u, s, vt = torch.linalg.svd(exact)
        best = (u[:, :RANK] * s[:RANK]) @ vt[:RANK]
        found.append([float((made - other).norm() / exact.norm()) for other in (exact, best)])
    error, excess = zip(*found, strict=True)
    return max(error), max(excess)


def rows(settings: Settings) -> Iterator[Row]:
    sums = Sums(settings, WIDTH)
    candidates = sums.candidates()
    times = interleave(candidates, "cpu", 1.0 if settings.quick else SECONDS, least=3)
    for kind, (library, own, _) in KINDS.items():
        if kind not in candidates:
            continue
        error, excess = errors(sums, kind)
        row: Row = {"candidate": kind, "ms": spread([1e3 * t for t in times[kind]]), "error": error}
        if own or kind == "peft svd":
            row["over the best"] = excess
        peer = "peft svd" if own else "peft cat"
        if library == "lorakit" and peer in candidates:
            row["times faster"] = over(times, peer, kind)
        yield row
