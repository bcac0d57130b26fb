"""`resize`: an adapter of another rank."""

from __future__ import annotations

from dataclasses import replace

from lorakit.algebra.approximation import approximate, exact, widest
from lorakit.algebra.given import require_adapter
from lorakit.algebra.outcome import Approximation, Deviation, Outcome, require_finite
from lorakit.algebra.size import Size
from lorakit.base_checkpoints import Bar, told, untold
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.settings import with_settings_of
from lorakit.errors import MismatchError
from lorakit.layer_groups import group_sentences
from lorakit.variants import ModuleAdapter
from lorakit.variants.trainable_tokens import rows_of


def resize(
    bundle: AdapterBundle,
    rank: int | None = None,
    energy: float | None = None,
    bar: Bar = untold,
) -> Outcome:
    """The adapter `bundle` at `rank`, or each module at the least rank that keeps its `energy`.

    A higher rank is filled up with zeros: the function is the same to the bit, and the new
    directions do not train. A lower one is the best of its rank: the first singular values and
    vectors of dW (Eckart and Young). By `energy` a module keeps the fewest of them whose squares
    are this share of all, and gets no higher rank than it has. The scale stays, alpha follows.
    Rows of tokens, heads and biases have no rank and stay. `bar` is told the bytes that are done.

    Raises ConfigError unless one of the two is given and valid, and for what is no adapter;
    MismatchError that lists each module that cannot be resized: DoRA's update depends on the base
    weight; the layer's type is unknown; the rank is no multiple of a convolution's groups; its
    values are NaN or infinite, or become so.
    """
    size = Size(rank, energy)
    require_adapter(bundle)
    rows = rows_of(bundle.adapters)
    others = {name: x for name, x in bundle.adapters.items() if name not in rows}
    if problems := _problems(bundle, others, size):
        raise MismatchError("This adapter cannot be resized:", group_sentences(problems))
    each = told(others, lambda adapter: adapter.bytes, bar)
    parts = {name: _resized(adapter, size) for name, adapter in each}
    require_finite(parts)
    adapters = {n: parts[n].adapter if n in parts else x for n, x in bundle.adapters.items()}
    config = with_settings_of(bundle.config, adapters)
    return Outcome(replace(bundle, config=config, adapters=adapters), Deviation.of(parts))


def _resized(adapter: ModuleAdapter, size: Size) -> Approximation:
    return approximate(exact(adapter), size, widest([adapter]))


def _problems(bundle: AdapterBundle, adapters: dict[str, ModuleAdapter], size: Size) -> list[str]:
    if not adapters:
        return [f"it has no adapters with a rank; its method is {bundle.method}"]
    problems = []
    for name, adapter in adapters.items():
        if not adapter.variant.is_low_rank:
            problems.append(
                f"{name} is adapted by {adapter.variant.title}, which "
                f"{adapter.variant.beyond_product}; merge it and extract an adapter of the rank "
                "instead"
            )
        elif adapter.site is None:
            problems.append(f"{name}: {UNKNOWN_LAYER}")
        elif size.rank is not None and (wrong := adapter.site.rank_problem(size.rank)):
            problems.append(f"{name} {wrong}")
    return problems


UNKNOWN_LAYER = (
    "its file does not say the type of its layer; lorakit convert FILE DIR --to peft --base MODEL "
    "finds it"
)
