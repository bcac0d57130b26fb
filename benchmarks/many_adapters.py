"""Many adapters on one base: switching, a row's own adapter, threads, beside PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from statistics import median
from tempfile import TemporaryDirectory
from threading import Barrier, Lock
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lorakit as lora
from benchmarks import peers
from benchmarks.registry import Row, Settings
from benchmarks.rounds import over
from lorakit.timing import Times, interleave

LAYERS, WIDTH, ROWS = 8, 512, 32
DEEP = 112
"""Layers of the model into which one more is loaded: seven in each of sixteen blocks."""
LEAST = 10
"""Passes of an adapter; the first half is not counted."""
LOADED, FORWARDS, SECONDS = (64, 512), 10_000, 8.0
PEFTS_MOST = 64
"""PEFT loads so many; 512 would take it half an hour."""
CONDITIONS = {
    "batch": f"{LAYERS} linear layers of {WIDTH}, {ROWS} rows, rank {peers.RANK}, float32",
    "managed": f"the same layers; times over those with one adapter, PEFT up to {PEFTS_MOST}",
    "one, the same path": "one adapter in all rows but one, which has none",
    "plain": "one adapter, loaded by lorakit.load_adapter",
    "bytes, over plain": "weights and each row's factors, over weights and one adapter's",
    "read": "safetensors' load_file, each tensor copied",
    "bytes, hash": "one read of the whole file, and its SHA-256",
    "threads": f"two, each with an adapter of its own, {FORWARDS} forwards on one model",
}


def base(settings: Settings, count: int = LAYERS) -> nn.Sequential:
    torch.manual_seed(settings.seed)
    layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(count)]
    return nn.Sequential(*layers).eval().to(settings.device)


def write_adapters(
    settings: Settings, directory: Path, count: int, layers: int = LAYERS
) -> list[Path]:
    """Adapters of the base, each with numbers of its own."""
    model = base(settings, layers)
    adapter = peers.Adapter(tuple(map(str, range(layers))))
    lora.inject(model, lora.LoraConfig(**adapter.settings))
    paths = []
    for n in range(count):
        peers.set_factors(model, settings.seed + 100 * n)
        paths.append(lora.save_adapter(model, directory / f"a{n}"))
    return paths


@dataclass(frozen=True)
class Managed:
    """A model with some adapters, and what is done with one more."""

    model: nn.Module
    load: Callable[[str, Path], object]
    unload: Callable[[str], object]
    activate: Callable[[str], object]
    deactivate: Callable[[], object]
    rows: Callable[[list[str], Tensor], Tensor]


def with_lorakit(settings: Settings, paths: list[Path]) -> Managed:
    model = base(settings)
    adapters = lora.AdapterSet(model)
    for n, path in enumerate(paths):
        adapters.load(f"a{n}", path)

    def rows(names: list[str], x: Tensor) -> Tensor:
        with adapters.rows([None if name == "__base__" else name for name in names]):
            y: Tensor = model(x)
            return y

    return Managed(
        model, adapters.load, adapters.unload, adapters.activate, adapters.deactivate, rows
    )


def with_peft(settings: Settings, paths: list[Path]) -> Managed:
    from peft import PeftModel

    model: Any = base(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n, path in enumerate(paths):
            if n == 0:
                model = PeftModel.from_pretrained(model, path, adapter_name="a0")
            else:
                model.load_adapter(path, adapter_name=f"a{n}")
    model.eval()

    def deactivate() -> None:
        with model.disable_adapter():
            pass

    return Managed(
        model,
        lambda name, path: model.load_adapter(path, adapter_name=name),
        model.delete_adapter,
        model.set_adapter,
        deactivate,
        lambda names, x: model(x, adapter_names=names),
    )


MAKERS = {"lorakit": with_lorakit}
if "peft" in peers.INSTALLED:
    MAKERS["peft"] = with_peft


@torch.no_grad()
def check(settings: Settings) -> None:
    """Both libraries give each row what its adapter alone gives."""
    with TemporaryDirectory() as directory:
        paths = write_adapters(settings, Path(directory), 3)
        x, names = torch.randn(4, 2, WIDTH), ["a2", "__base__", "a0", "a2"]
        alone = []
        for name, row in zip(names, x, strict=True):
            model = base(settings)
            if name != "__base__":
                lora.load_adapter(model, paths[int(name[1:])])
            alone.append(model(row))
        for make in MAKERS.values():
            got = make(settings, paths).rows(names, x)
            torch.testing.assert_close(got, torch.stack(alone), rtol=1e-4, atol=1e-5)


def rows(settings: Settings) -> Iterator[Row]:
    counts = (4,) if settings.quick else LOADED
    with TemporaryDirectory() as directory:
        paths = write_adapters(settings, Path(directory), max(*counts, ROWS) + 1)
        yield from managed(settings, paths, counts)
        for tokens in (1, 32):
            yield mixed(settings, paths, tokens)
        yield threads(settings, paths)
    with TemporaryDirectory() as directory:
        yield one_more(settings, Path(directory))


def managed(settings: Settings, paths: list[Path], counts: tuple[int, ...]) -> Iterator[Row]:
    seconds = 0.2 if settings.quick else SECONDS
    for count in counts:
        names = [name for name in MAKERS if name == "lorakit" or count <= PEFTS_MOST]
        found: dict[str, dict[str, Times]] = {}
        for name in names:
            few, many = (MAKERS[name](settings, paths[:n]) for n in (1, count))
            found[name] = passes({"few": few, "many": many}, paths[-1], seconds) | {
                what: interleave({"few": one, "many": other}, settings.device, seconds)
                for what, one, other in switches(few, many)
            }
        for what in ("load", "unload", "activate", "deactivate"):
            times = {name: found[name][what] for name in names}
            yield {
                "what": what,
                "loaded": count,
                **{f"{name}, over 1": over(t, "many", "few") for name, t in times.items()},
                "lorakit, ms": median(times["lorakit"]["many"]) * 1e3,
            }


def passes(sets: dict[str, Managed], path: Path, seconds: float) -> dict[str, Times]:
    """An adapter comes and goes: each time both sets in turn, timed apart."""
    times: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in sets} for what in ("load", "unload")
    }
    end = perf_counter() + seconds
    while perf_counter() < end or len(times["load"]["few"]) < LEAST:
        for name, one in sets.items():
            for what, call in (
                ("load", partial(one.load, "another", path)),
                ("unload", partial(one.unload, "another")),
            ):
                start = perf_counter()
                call()
                times[what][name].append(perf_counter() - start)
    return {what: {name: t[LEAST // 2 :] for name, t in of.items()} for what, of in times.items()}


def switches(
    few: Managed, many: Managed
) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    yield "activate", partial(few.activate, "a0"), partial(many.activate, "a0")
    yield "deactivate", few.deactivate, many.deactivate


def one_more(settings: Settings, directory: Path) -> Row:
    """To load one adapter into a model of many layers, over reading its file."""
    layers = 8 if settings.quick else DEEP
    model = base(settings, layers)
    paths = write_adapters(settings, directory, 2, layers)
    file = paths[1] / "adapter_model.safetensors"
    foreign = directory / "foreign"
    copytree(paths[1], foreign)
    save_file(load_file(file), foreign / file.name)  # as PEFT writes it, without a checksum
    adapters = lora.AdapterSet(model)
    adapters.load("a0", paths[0])

    def load(path: Path) -> None:
        adapters.load("another", path)
        adapters.unload("another")

    candidates: dict[str, Callable[[], object]] = {
        "read": lambda: [tensor.clone() for tensor in load_file(file).values()],
        "bytes": file.read_bytes,
        "hash": partial(sha256, file.read_bytes()),
        "load": partial(load, paths[1]),
        "load, no checksum": partial(load, foreign),
    }
    times = interleave(candidates, settings.device, 0.2 if settings.quick else SECONDS)
    return {
        "what": f"load into {layers} layers",
        "MB": file.stat().st_size / 1e6,
        "lorakit, over read": over(times, "load", "read"),
        "no checksum, over read": over(times, "load, no checksum", "read"),
        **{f"{name}, ms": median(times[name]) * 1e3 for name in ("read", "bytes", "hash", "load")},
    }


@torch.no_grad()
def mixed(settings: Settings, paths: list[Path], tokens: int) -> Row:
    """A batch whose rows have an adapter each, over one in which all have the same."""
    x = torch.randn(ROWS, tokens, WIDTH, device=settings.device)
    apart, same = [f"a{n}" for n in range(ROWS)], ["a0"] * (ROWS - 1) + ["__base__"]
    plain = base(settings)
    lora.load_adapter(plain, paths[0])
    plain.eval()
    candidates: dict[str, Callable[[], object]] = {"plain": partial(plain, x)}
    for name, make in MAKERS.items():
        one = make(settings, paths[:ROWS])
        candidates[name] = partial(one.rows, apart, x)
        candidates[f"{name}, one"] = partial(one.rows, same, x)
    times = interleave(candidates, settings.device, 0.2 if settings.quick else SECONDS)
    factors = 2 * peers.RANK * WIDTH
    return {
        "what": f"{ROWS} rows, {ROWS} adapters",
        "tokens": tokens,
        **{f"{name}, over one": over(times, name, f"{name}, one") for name in MAKERS},
        "lorakit, over plain": over(times, "lorakit", "plain"),
        "bytes, over plain": (WIDTH**2 + ROWS * factors) / (WIDTH**2 + factors),
        **({"peft / lorakit": over(times, "peft", "lorakit")} if "peft" in MAKERS else {}),
        "lorakit, ms": median(times["lorakit"]) * 1e3,
    }


def threads(settings: Settings, paths: list[Path]) -> Row:
    """Two threads on one model: how many forwards gave not what their adapters alone give."""
    x = torch.randn(2, 1, WIDTH, device=settings.device)
    each = (100 if settings.quick else FORWARDS) // 2
    row: Row = {"what": "forwards in two threads", "forwards": 2 * each}
    for name, make in MAKERS.items():
        count = partial(wrong_forwards, make(settings, paths[:2]), x, each)
        with ThreadPoolExecutor(2) as pool:
            row[f"{name}, wrong"] = sum(pool.map(count, (["a0", "a1"], ["a1", "__base__"])))
    return row


@torch.no_grad()
def wrong_forwards(one: Managed, x: Tensor, count: int, names: list[str]) -> int:
    """How many forwards failed, or gave another output than the first one, which is alone."""
    with _ALONE:
        expected = one.rows(names, x)
    _TOGETHER.wait()
    wrong = 0
    for _ in range(count):
        try:
            right = torch.allclose(one.rows(names, x), expected, rtol=1e-4, atol=1e-5)
        except Exception:  # what a peer's state raises when another thread changes it
            right = False
        wrong += not right
    return wrong


_ALONE, _TOGETHER = Lock(), Barrier(2)
