"""What a method costs in inference: the time of a forward over that of the base alone.

The paper's table 1 and figure 5 (LoRA, arXiv 2106.09685, section 3 and appendix B), on any model
and device. All candidates stand beside each other in one process and share the base's weights,
which are random, since times do not depend on them; `lorakit.timing` measures them in rounds, and a
slow-down is a ratio within one round. The base also runs as a candidate of its own: a slow-down as
small as that one's is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError, LorakitError, require
from lorakit.experiments.latency.study import LatencyStudy
from lorakit.experiments.latency.table import BASE, Latency, LatencyTable, spread
from lorakit.foreign_files import local_path
from lorakit.methods.base import Method
from lorakit.methods.registry import METHODS
from lorakit.models import loading
from lorakit.models.dtypes import autocast, compute_in
from lorakit.models.positions import position_limit
from lorakit.timing import Times, interleave

AGAIN = f"{BASE} again"
_CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Candidate:
    """A model ready to be called."""

    name: str
    model: nn.Module
    parameters: int


def measure_latency(study: LatencyStudy, log: Callable[[str], None] = print) -> LatencyTable:
    """The times of all candidates of `study` with all batches; `log` gets a line before each.

    Raises FormatError for a model that cannot be built, ConfigError that lists every method that
    does not fit it, and every length that it or a method does not take, before anything is timed.
    """
    device = _device(study.device)
    base = _base(study, device)
    _require_fitting(study, base)
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(autocast(torch.device(device), study.dtype))
        candidates = [Candidate(BASE, base, 0), Candidate(AGAIN, base, 0)]
        candidates += _adapted(study, base, stack)
        _require_forwards(candidates, _inputs(base, 1, max(study.lengths), device))
        cells: list[Latency] = []
        for batch, length in product(sorted(set(study.batches)), sorted(set(study.lengths))):
            log(f"batch {batch}, length {length}: {len(candidates)} candidates")
            inputs = _inputs(base, batch, length, device)
            calls = {one.name: partial(one.model, **inputs) for one in candidates}
            times = interleave(calls, device, study.seconds, study.rounds)
            cells += _cells(times, batch, length)
    return LatencyTable(
        model=study.model,
        model_class=type(base).__name__,
        model_parameters=sum(p.numel() for p in base.parameters()),
        device=device,
        dtype=study.dtype,
        threads=torch.get_num_threads(),
        parameters={one.name: one.parameters for one in candidates},
        cells=tuple(cells),
    )


def _device(name: str | None) -> str:
    """The device of that name, or the one that there is; raises ConfigError if there is none."""
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found.type if found is not None else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts that it has it
        raise ConfigError(f"There is no device {name} here.") from error
    kind = torch.device(name).type
    return kind if kind == "cpu" else name  # cpu:0 has no clock of its own either


def _base(study: LatencyStudy, device: str) -> nn.Module:
    """The model without a head, as the study computes with it."""
    place = local_path(study.model)
    name = str(place.parent) if place.name == _CONFIG_FILE and place.is_file() else study.model
    model = loading.untrained_model(name, study.revision, "AutoModel", device)
    model.eval().requires_grad_(False)
    compute_in(model, study.dtype)
    return model


def _require_fitting(study: LatencyStudy, base: nn.Module) -> None:
    """Raise ConfigError for inputs that the model does not take."""
    config: Any = base.config
    if getattr(config.get_text_config(), "vocab_size", None) is None:
        raise ConfigError(f"{study.model} is a {type(base).__name__}, which reads no tokens.")
    limit = position_limit(base)
    require(
        {
            f"length is {length}, and {study.model} has {limit} positions": (
                limit is None or length <= limit
            )
            for length in study.lengths
        }
    )


def _adapted(study: LatencyStudy, base: nn.Module, stack: ExitStack) -> list[Candidate]:
    """Each method on copies of its own, in each of the ways in which it runs."""
    problems: list[str] = []
    found: list[Candidate] = []
    for name, config in study.methods.items():
        try:
            found += _candidates(name, config, base, stack)
        except LorakitError as error:
            problems.append(f"{name}: {'; '.join(error.problems) or error.headline}")
    if problems:
        raise ConfigError(f"These methods do not fit {type(base).__name__}:", problems)
    return found


def _require_forwards(candidates: Sequence[Candidate], inputs: Mapping[str, Tensor]) -> None:
    """Raise ConfigError that lists every candidate that refuses the longest text."""
    problems = []
    for one in candidates:
        try:
            one.model(**inputs)
        except LorakitError as error:
            problems.append(f"{one.name}: {error}")
    if problems:
        raise ConfigError("These methods do not take the longest text:", problems)


def _candidates(name: str, config: Any, base: nn.Module, stack: ExitStack) -> Iterator[Candidate]:
    """One, or of a method that merges several: from the cache, as trained, and as plain modules
    where it has that form."""
    method = METHODS[name]
    model, parameters = _prepared(method, config, base)
    if stack.enter_context(method.inference(model)) is None:
        yield Candidate(method.title, model, parameters)
        return
    yield Candidate(f"{method.title}, merged", model, parameters)
    yield Candidate(f"{method.title}, unmerged", *_prepared(method, config, base))
    if method.has_plain_form:
        folded, _ = _prepared(method, config, base)
        method.fold(folded)
        yield Candidate(f"{method.title}, folded", folded, parameters)


def _prepared(method: Method[Any], config: Any, base: nn.Module) -> tuple[nn.Module, int]:
    """A copy of the base with the method on it, and what the method trains, heads apart."""
    model = sharing_copy(base)
    return model, method.apply(model, config).adapter_parameters


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy with parameters of its own, whose values are the model's: they take no memory."""
    shared: dict[int, Tensor] = {id(b): b for b in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    return deepcopy(model, shared)


def _inputs(model: nn.Module, batch: int, length: int, device: str) -> dict[str, Tensor]:
    config: Any = model.config
    words = config.get_text_config().vocab_size
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(words, (batch, length), generator=draws).to(device)
    answer = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    return {"input_ids": ids, **answer}


def _cells(times: Times, batch: int, length: int) -> Iterator[Latency]:
    for name, seconds in times.items():
        ratios = [one / base for one, base in zip(seconds, times[BASE], strict=True)]
        milliseconds = spread([1e3 * one for one in seconds])
        yield Latency(name, batch, length, milliseconds, spread(ratios), len(seconds))
