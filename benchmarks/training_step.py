"""Forward and backward of adapted transformers, over the same model frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.inputs import DTYPES, LENGTH, SMALL, Model, models
from benchmarks.registry import Row, Settings, Unavailable
from benchmarks.rounds import over
from lorakit.timing import Times, interleave

SECONDS = 120.0
DORA = "all linear, DoRA"
CONDITIONS = {
    "tokens": "2,048 of MiniLM, 1,024 of the others, in rows of 128 without padding",
    "adapter": "r 8, alpha 16, no dropout",
    "models": "random weights, no dropout, no head and no loss, which cost the same for all",
    "step": "forward and backward; no optimizer, which has only the factors to move",
    "floor": "the model frozen, its first q and v outputs needing a gradient: the forward, and the "
    "input gradients that any adapter in the first layer waits for, no more",
    "floor again": "the floor as a candidate of its own: what differs from 1 there is noise",
    "to the embeddings": "the model frozen, its embeddings needing a gradient: a higher floor",
    "full": "every parameter trains",
    "DoRA": "loralib has none; PEFT's forms B A and an identity matrix in each step",
    "bfloat16": "the base; PEFT's and lorakit's A and B are float32, loralib's bfloat16",
    "seconds for each model and dtype, about": SECONDS,
}


def check(settings: Settings) -> None:
    """On small models the libraries agree in output and every gradient, and the floor is one."""
    if not find_spec("transformers"):
        raise Unavailable("transformers is not installed")
    for model in SMALL:
        torch.manual_seed(settings.seed)
        base = model.build(**model.sizes).to(settings.device)
        ids = torch.arange(12, device=settings.device).view(2, 6)
        for targets in model.targets.values():
            adapted = [adapt(name, base, targets, settings.seed) for name in peers.INSTALLED]
            assert_equal_steps(adapted, ids)
        floor_reaches_the_first_layer_only(base, model, ids)


def assert_equal_steps(adapted: list[nn.Module], ids: Tensor) -> None:
    results = []
    for model in adapted:
        hidden = model(input_ids=ids).last_hidden_state
        hidden.sin().sum().backward()
        gradients = {name: factor.grad for name, factor in peers.factors(model).items()}
        assert sum(p.requires_grad for p in model.parameters()) == len(gradients)
        results.append({"hidden": hidden, **gradients})
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


def floor_reaches_the_first_layer_only(base: nn.Module, model: Model, ids: Tensor) -> None:
    leaves: list[Tensor] = []
    floor = frozen(base, first(base, model.query_value))
    for name in first(floor, model.query_value):
        floor.get_submodule(name).register_forward_hook(lambda m, i, out: leaves.append(out))
    floor(input_ids=ids).last_hidden_state.sin().sum().backward()
    assert len(leaves) == 2
    assert all(leaf.is_leaf and leaf.grad is not None for leaf in leaves)


def rows(settings: Settings) -> Iterator[Row]:
    """The candidates of both choices of targets share their rounds, and so their floor."""
    for model in models(settings):
        for dtype in DTYPES:
            steps = candidates(settings, model, dtype)
            seconds = 0.5 if settings.quick else SECONDS
            times = interleave(steps, settings.device, seconds, least=3)
            for targets in (*model.targets, DORA):
                row: Row = {"model": model.name, "targets": targets, "dtype": dtype}
                yield row | ratios(times, targets)


def ratios(times: Times, targets: str) -> Row:
    """Over the floor, for the candidates with these targets and for those that have none."""
    names = {name: f"{name}, {targets}" for name in reversed(peers.INSTALLED)}
    names |= {name: name for name in ("full", "floor again", "to the embeddings")}
    row: Row = {c: over(times, n, "floor") if n in times else "" for c, n in names.items()}
    if "peft" in names:
        row["peft / lorakit"] = over(times, names["peft"], names["lorakit"])
    return {**row, "floor, ms": median(times["floor"]) * 1e3, "rounds": len(times["floor"])}


def candidates(settings: Settings, model: Model, dtype: str) -> dict[str, Callable[[], object]]:
    base, ids = base_and_batch(settings, model, dtype)
    floor = frozen(base, first(base, model.query_value))
    embeddings = next(n for n, m in base.named_modules() if isinstance(m, nn.Embedding))
    steps = {"floor": floor, "floor again": floor, "to the embeddings": frozen(base, [embeddings])}
    for label, targets in model.targets.items():
        for library in reversed(peers.INSTALLED):
            steps[f"{library}, {label}"] = adapt(library, base, targets, settings.seed)
    for library in [name for name in peers.INSTALLED if name != "loralib"]:
        steps[f"{library}, {DORA}"] = adapt(library, base, model.all_linear, settings.seed, True)
    steps["full"] = base
    return {name: step(adapted, ids) for name, adapted in steps.items()}


def base_and_batch(settings: Settings, model: Model, dtype: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(settings.seed)
    base = model.build(**model.sizes).to(settings.device, DTYPES[dtype]).train()
    shape = model.rows, LENGTH
    return base, torch.randint(model.sizes["vocab_size"], shape, device=settings.device)


def adapt(
    library: str, base: nn.Module, targets: tuple[str, ...], seed: int, dora: bool = False
) -> nn.Module:
    model = peers.INSTALLED[library](deepcopy(base), peers.Adapter(targets, dora=dora)).model
    peers.set_factors(model, seed)
    return model


def first(base: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """The first module of each target, in the model's order."""
    names = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    return [next(n for n in names if n.rpartition(".")[2] == target) for target in targets]


def frozen(base: nn.Module, names: list[str]) -> nn.Module:
    """A frozen copy, in which backward goes as far as the outputs of these modules."""
    return needing_gradients(deepcopy(base).requires_grad_(False), names)


def needing_gradients(model: nn.Module, names: list[str]) -> nn.Module:
    """This frozen model, in which the outputs of these modules need a gradient."""
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda m, i, out: out.requires_grad_())
    return model


def step(model: nn.Module, ids: Tensor) -> Callable[[], object]:
    """Forward, and backward from a gradient that is the same each time; gradients are dropped."""
    with torch.no_grad():
        gradient = torch.ones_like(model(input_ids=ids).last_hidden_state)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def run() -> None:
        model(input_ids=ids).last_hidden_state.backward(gradient)
        for parameter in trained:
            parameter.grad = None

    return run
