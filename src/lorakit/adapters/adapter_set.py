"""`lorakit.AdapterSet`: any number of adapters on one base, chosen by name, by row, by thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from torch import nn

from lorakit.adapters.budget import budget_of
from lorakit.adapters.catalogue import (
    entries_of,
    require_apart,
    require_known,
    require_new,
    require_summable,
    weights_of,
)
from lorakit.adapters.choices import BASE, default_of, is_one
from lorakit.adapters.intake import Intake
from lorakit.adapters.layouts import cuts_rows
from lorakit.adapters.loaded import Loaded
from lorakit.adapters.member import Use
from lorakit.adapters.origin import Reading
from lorakit.adapters.routing import Routing
from lorakit.adapters.saving import bundle_of_parts
from lorakit.adapters.waiting import entered
from lorakit.checkpoint import AdapterBundle, write
from lorakit.checkpoint.reading import find
from lorakit.config import LoraConfig
from lorakit.config.sizes import Size
from lorakit.errors import ConfigError, StateError
from lorakit.injection.record import Claim
from lorakit.injection.transfer.base_facts import base_config
from lorakit.methods.applied import require_plain
from lorakit.surgery.wrappers import unwrapped


class AdapterSet:
    """Many adapters on one model, each by its name.

    The model stays what it is: parameters, names and state_dict are the base's, and a module asks
    the set at each forward which adapter to compute with. `activate` chooses one for all threads;
    `rows` chooses one for each row of a batch, in the thread or asyncio task that enters it. An
    adapter may have any rank, variant, targets and file format, and heads and biases of its own.

    `model` is a plain model, in a wrapper of torch.compile or none. `budget`, bytes or a text such
    as "2GiB", is how much of adapters may be beside its weights at one time. The others come in
    when they are chosen, in place of those that were not used for longest: from host memory, where
    `host_budget` keeps the last that left, or from their files. Without a budget all stay.

    Raises StateError if the model is adapted, prepared for a method, has PEFT's modules or another
    set, and ConfigError for what is no model, or no number of bytes.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> adapters = AdapterSet(model)
    >>> adapters.list()
    []
    """

    def __init__(
        self, model: nn.Module, budget: Size | None = None, *, host_budget: Size = 0
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"AdapterSet() takes a model, an nn.Module, not {model!r}.")
        self.model = unwrapped(model)
        require_plain(self.model)
        self._routing = Routing(cuts_rows(self.model))
        self._intake = Intake(self.model, self._routing, budget_of(budget, host_budget))
        self._store = self._intake.store
        self._hooks = (
            self.model.register_forward_pre_hook(self._routing.begin, with_kwargs=True),
            self.model.register_forward_hook(self._routing.end, always_call=True),
        )
        self._claim: Claim | None = Claim(self.model)

    # --- adapters in and out

    def load(
        self,
        name: str,
        source: str | Path,
        lora_alpha: float | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        rename: Mapping[str, str] | None = None,
        check_base: bool = True,
    ) -> Loaded:
        """Load the adapter in `source` for inference, under this `name`.

        All but the name are as `lorakit.load_adapter` has them, which is as strict.

        Raises StateError for a name that is taken; ConfigError, FormatError, MissingAlphaError and
        MismatchError as `load_adapter`, and TargetError for tensors that cannot differ by row.
        Nothing has changed then.
        """
        self._require_open()
        require_new(name, self._store.members)
        found, base = find(source, revision, subfolder), base_config(self.model)
        reading = Reading(found, lora_alpha, rename and dict(rename), check_base, base)
        return self._intake.load(name, str(source), reading)

    def load_bundle(
        self, name: str, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> Loaded:
        """`load` of an adapter that was read already; `origin` is what messages call it.

        It has no file to come back from: where a budget lets it leave, it stays in host memory.

        Raises as `load` does for an adapter that does not fit.
        """
        self._require_open()
        require_new(name, self._store.members)
        return self._intake.keep(self._intake.matched(name, bundle, origin, check_base))

    def add(self, name: str, config: LoraConfig) -> Loaded:
        """Add a new adapter under this `name`, to be trained: what `config` selects, as `inject`.

        Its Parameters are the set's, `parameters(name)`, and so are the copies of modules_to_save,
        such as a head; the base's no longer require gradients until `close`. Other rows of a batch
        may have other adapters, which then do not change.

        Raises StateError for a name that is taken, TargetError as `inject` and for modules that are
        one for all rows, and ConfigError for biases and rows of tokens, which a set does not train.
        """
        self._require_open()
        return self._intake.add(name, config)

    def share(self, name: str, source: nn.Module, config: LoraConfig) -> Loaded:
        """Let the adapter of another model of this base, made by `inject`, be one of the set's too.

        Both have its Parameters. Raises StateError for a name that is taken, or a model without an
        adapter, and TargetError that lists what does not fit, or cannot differ from row to row.
        """
        self._require_open()
        return self._intake.share(name, source, config)

    def named_parameters(self, name: str) -> Iterator[tuple[str, nn.Parameter]]:
        """(name in an adapted model's state_dict, Parameter) of the adapter `name` that trains."""
        member = self._store.member(name)
        entries = member.slab.entries if member.trains and member.slab is not None else {}
        for module, entry in entries.items():
            for leaf, tensor in entry.named_tensors():
                if isinstance(tensor, nn.Parameter):
                    yield f"{module}.{leaf}", tensor

    def parameters(self, name: str) -> Iterator[nn.Parameter]:
        """The Parameters of the adapter called `name`, for an optimizer; none if it was loaded."""
        return (parameter for _, parameter in self.named_parameters(name))

    def save(self, name: str, path: str | Path) -> Path:
        """Save the adapter called `name` in the directory `path`, as `lorakit.save_adapter` does.

        Raises StateError for an unknown name, and SaveError as `save_adapter`.
        """
        self._require_open()
        member = self._store.member(name)
        slab = self._store.slab_of(member)
        slab.let_use()
        return write(bundle_of_parts(self.model, slab.entries, member.loaded.config), path)

    def unload(self, name: str) -> None:
        """Forget the adapter called `name`.

        Raises StateError for an unknown name, and for one that is active or in use by `rows`.
        """
        self._require_open()
        with self._store.changed:
            require_known([name], self._store.members)
            if name in self._routing.default.weights:
                raise StateError(f"The adapter {name!r} is active; call deactivate() first.")
            self._store.remove(name)

    def close(self) -> None:
        """Give the model back as it was, and forget all adapters; again it does nothing."""
        self._routing.choose(BASE)
        for hook in self._hooks:
            hook.remove()
        self._intake.close()
        self._claim = None

    # --- with a budget

    def prefetch(self, names: Iterable[str | None]) -> Future[None]:
        """Let these adapters come in while others compute, for `rows` or `activate` soon after.

        In a thread of the set, and on CUDA on a stream of its own, from pinned memory. As many come
        as there is room for beside those in use. The result of the Future, which need not be waited
        for, is there when they have come, or raises as `rows` would.

        Raises StateError for unknown names, or for more than the budget has room for.
        """
        self._require_open()
        return self._store.prefetch(names)

    def pin(self, name: str) -> None:
        """Let the adapter called `name` come in, and stay until `unpin`.

        Raises StateError for an unknown name, or if the budget has no room for it.
        """
        self._require_open()
        self._store.pin(name)

    def unpin(self, name: str) -> None:
        """Let the adapter called `name` leave again when others need its room."""
        self._require_open()
        self._store.unpin(name)

    # --- which one runs

    def activate(self, name: str | Mapping[str, float]) -> None:
        """Choose the adapter called `name` in all threads, where `rows` does not choose.

        A mapping from names to weights chooses the weighted sum of their updates.

        Raises StateError that lists every unknown name, and every adapter that cannot be added up:
        those of DoRA, with heads or biases, or that train.
        """
        self._require_open()
        weights = weights_of(name)
        require_known(weights, self._store.members)
        if not is_one(weights):
            require_summable(weights, self._store.members)
        with self._store.holding(weights, "active", "activate()") as members:
            slabs = [member.slab for member in members.values() if member.slab is not None]
            self._routing.choose(default_of(weights, slabs))

    def deactivate(self) -> None:
        """Choose the base: every forward that `rows` does not rule computes without an adapter."""
        with self._store.holding((), "active", "deactivate()"):
            self._routing.choose(BASE)

    @contextmanager
    def rows(self, names: Iterable[str | None]) -> Iterator[None]:
        """Inside, row n of a batch has the adapter called names[n], or none.

        `names` has an entry for each row. A batch of a multiple of them, such as the beams of
        `generate`, has each row repeated. It holds in this thread or asyncio task alone; a thread
        that is started inside does not inherit it, unless it runs in a copy of the context.

        Raises StateError that lists every unknown name, or every module whose input does not begin
        with the rows, or for no names at all, or where a budget has no room, however long it would
        wait; and so does a forward for another number of rows.
        """
        self._require_open()
        names, use, store = entries_of(names), Use(), self._store
        wanted = [name for name in names if name is not None]
        require_known(wanted, store.members)
        require_apart(wanted, store.members)
        with store.holding(wanted, use, "rows()") as members:
            slabs = [None if name is None else members[name].slab for name in names]
            choice = self._routing.rows(slabs)
        try:
            with entered(use), self._routing.held(choice):
                yield
        finally:
            store.release(members.values(), use)

    def context_fn(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The argument of this name of `torch.utils.checkpoint.checkpoint(use_reentrant=False)`.

        With it a recomputed forward has the adapters of the first, wherever backward is called.
        Without it a layer that is recomputed raises StateError once `rows` was used, or once
        forwards in the same mode, as `model.train()`, had others by `activate`.

        transformers takes it in its `gradient_checkpointing_kwargs`.
        """
        return nullcontext(), self._routing.carried()

    @property
    def active(self) -> dict[str, float]:
        """What `activate` has chosen: weights by name, one of 1.0 or none for the base."""
        return dict(self._routing.default.weights)

    def list(self) -> list[Loaded]:
        """What each adapter is, in the order in which they came."""
        members = list(self._store.members.values())
        return [replace(member.loaded, where=member.where) for member in members]

    def __reduce__(self) -> NoReturn:
        raise StateError(
            "An AdapterSet is not copied or pickled: the copy of a model computes with what was "
            "active, and another set of it loads the adapters that save() wrote."
        )

    def _require_open(self) -> None:
        if self._claim is None:
            raise StateError("This AdapterSet is closed; make another one of the model.")
