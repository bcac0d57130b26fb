"""The base class of adapted layers: their tensors, and the forward that all of them share.

`adapter_settings` has their settings, and `merged_weight` the cache of the merged weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.functional.linear import add_scaled
from lorakit.functional.token_rows import Rows
from lorakit.functional.token_rows import replace as replace_rows
from lorakit.layers.adapter_settings import AdapterSettings
from lorakit.layers.lora_layer import LoRALayer
from lorakit.surgery.disabling import here
from lorakit.variants import AdapterSpec, ModuleAdapter, Site, Variant
from lorakit.variants.registry import find

if TYPE_CHECKING:
    from typing import Self


class AdapterLayer(AdapterSettings, LoRALayer):
    """An nn.Module with a frozen weight and an adapter's parameters, such as `lora_A`, `lora_B`.

    A subclass defines the site of its weight, the base layer's forward and that of B A; the variant
    of the adapter defines the rest.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    site: Site
    variant: Variant

    torch_class: ClassVar[type[nn.Module]]
    """The torch class that this one adapts; a converted module may have had a subclass of it."""
    weight_name: ClassVar[str] = "weight"
    is_shared: ClassVar[bool] = False
    """Whether it has no adapter of its own, and runs those of an `AdapterSet`."""
    without_weight: ClassVar[str] = (
        "has no parameter named weight (it may be pruned, weight-normalised or quantised)"
    )
    """The error message for a module that has no such parameter."""

    # --- what a subclass defines

    @classmethod
    def weight_of(cls, module: nn.Module) -> nn.Parameter | None:
        """The weight of a module of `torch_class`, adapted or not; None if it has none."""
        return module._parameters.get(cls.weight_name)

    @classmethod
    def weight_path(cls, name: str) -> str:
        """The full name of the weight of the module called `name`."""
        return f"{name}.{cls.weight_name}"

    @classmethod
    def give_back(cls, module: nn.Module, weight: nn.Parameter | None) -> None:
        """After `module` has its own class again: `weight` replaces its own, if there is one."""
        if weight is not None:
            module._parameters[cls.weight_name] = weight

    @classmethod
    def site_of(cls, module: nn.Module) -> Site:
        """The geometry of a module of `torch_class`, adapted or not."""
        raise NotImplementedError

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        """The base layer's forward with `weight` in place of W."""
        raise NotImplementedError

    def low_rank(self, input: Tensor, a: Tensor, b: Tensor, dropout: float) -> Tensor:
        """B A on the input after dropout, without the scale."""
        raise NotImplementedError

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        """The base layer's output, plus s * B A applied to the input after dropout."""
        y = self.plain(input, self.base_weight)
        return add_scaled(y, self.low_rank(input, a, b, dropout).to(y.dtype), s)

    def with_rows(self, input: Tensor, rows: Rows, values: Tensor) -> Tensor:
        """The base layer's output with `values` in these rows of W; override it where that is
        possible without the whole weight."""
        return self.plain(input, replace_rows(self.base_weight, rows, values))

    # --- the forward of every subclass

    def forward(self, input: Tensor) -> Tensor:
        spec = self.spec  # plain attributes only: this runs in every forward
        # True wherever `base_or_merged_weight` gives a weight; the two have to agree.
        if spec.merge_weights or self._merging or here.disabled or not (self._active and spec.r):
            weight = self.base_or_merged_weight()
            if weight is not None:
                return self.plain(input, weight)
        own: Any = self._parameters
        if self.weight_name not in own:
            own = self.__dict__  # as in `_own_tensors`, without a call
        dropout = spec.lora_dropout if self.training else 0.0
        return self.variant.forward(self, input, own, self.scaling, dropout)

    # --- the adapter

    def attach(
        self,
        spec: AdapterSpec,
        site: Site | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add the adapter's tensors, given or newly initialized, and freeze W. Rank 0 adds nothing.

        `site` defaults to the module's own; slices need another one.
        """
        self.variant = find(spec.variant)
        self.spec, self.site = spec, site if site is not None else self.site_of(self)
        if spec.r == 0:
            return
        problem = self.site.rank_problem(spec.r) or self.variant.refusal(self.site)
        if problem is not None:
            name = self.torch_class.__name__
            raise ConfigError(f"This {name} cannot be adapted:", [f"it {problem}"])
        self.scaling = spec.scaling
        values = tensors if tensors is not None else self.initial_tensors()
        for name in self.variant.tensor_names:
            trains = name not in self.variant.frozen
            self.register_parameter(name, nn.Parameter(values[name].contiguous(), trains))
        self.base_weight.requires_grad_(False)

    def initial_tensors(self) -> dict[str, Tensor]:
        """Initial values of the adapter's tensors."""
        return self.variant.initial(self.site, self.base_weight.detach(), self.spec)

    @property
    def base_weight(self) -> Tensor:
        """W, as it is stored."""
        own: Any = self._parameters
        if self.weight_name not in own:
            own = self.__dict__  # as in `_own_tensors`, without a call
        weight: Tensor = own[self.weight_name]
        return weight

    @property
    def _own_tensors(self) -> Mapping[str, Tensor]:
        """The tensors of this very module by name."""
        own: Any = self._parameters
        if self.weight_name not in own:
            own = self.__dict__  # a replica of DataParallel, which has tensors for parameters
        tensors: Mapping[str, Tensor] = own
        return tensors

    @property
    def base_bias(self) -> Tensor | None:
        """The layer's bias, if it has one."""
        bias: Tensor | None = getattr(self, "bias", None)
        return bias

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The names of the adapter's own parameters; none at rank 0."""
        return self.variant.tensor_names if self.spec.r else ()

    def adapter_tensors(self) -> tuple[Tensor, ...]:
        """The adapter's own parameters, in the order of `tensor_names`."""
        return tuple(map(self._own_tensors.__getitem__, self.tensor_names))

    @property
    def adapter(self) -> ModuleAdapter:
        """The adapter as a value; its tensors are the layer's own, not copies."""
        tensors = dict(zip(self.tensor_names, self.adapter_tensors(), strict=True))
        return ModuleAdapter(self.scaled_spec, tensors, self.site)

    def reset_lora_parameters(self) -> None:
        """Reinitialize the adapter's tensors in place."""
        if "spec" in self.__dict__ and self.r:  # not while the torch class is constructed
            self.set_adapter_tensors(self.initial_tensors())

    def set_adapter_tensors(self, values: Mapping[str, Tensor]) -> None:
        """Write these values, by name, into the adapter."""
        with torch.no_grad():
            for name, parameter in zip(self.tensor_names, self.adapter_tensors(), strict=True):
                if name in values:
                    parameter.copy_(values[name])
        self.drop_cache()

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.r == 0:
            return text
        text = f"{text}, r={self.r}, lora_alpha={self.lora_alpha}"
        if self.spec.variant != "lora":
            text = f"{text}, variant={self.spec.variant}"
        return f"{text} (r above min(in, out)={self.max_rank})" if self.r > self.max_rank else text

    @property
    def max_rank(self) -> int:
        """The rank above which another row of A adds nothing: min(in, out)."""
        return self.site.max_rank

    # --- moving and loading

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        base_was_meta = self.r > 0 and self.base_weight.is_meta
        values = {n: t.detach() for n, t in self.adapter.tensors.items()} if base_was_meta else {}
        super()._apply(fn, recurse)
        if base_was_meta and not self.base_weight.is_meta:
            self._fill_after_to_empty(values)
        return self

    def _fill_after_to_empty(self, values: Mapping[str, Tensor]) -> None:
        """Restore or reinitialise the adapter: to_empty leaves uninitialized memory."""
        if any(value.is_meta for value in values.values()):
            self.reset_lora_parameters()
        else:
            self.set_adapter_tensors(values)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """After a base checkpoint, recompute tensors derived from W that were never trained."""
        given = {name for name in self.tensor_names if prefix + name in state_dict}
        stale = [name for name in self._at_initial_values() if name not in given]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if stale:
            derived = self._derived()
            self.set_adapter_tensors({name: derived[name] for name in stale})

    def _at_initial_values(self) -> list[str]:
        """Tensors derived from W that still have their initial values; to_empty may leave NaN."""
        own = self.adapter.tensors
        if any(tensor.is_meta for tensor in (self.base_weight, *own.values())):
            return []
        return [
            name
            for name, start in self._derived().items()
            if torch.allclose(own[name], start.to(own[name].dtype), equal_nan=True)
        ]

    def _derived(self) -> dict[str, Tensor]:
        tensors = self.adapter.tensors
        if not tensors:
            return {}
        with torch.no_grad():
            return self.variant.derived(self.site, self.base_weight, tensors, self.scaling)

    def delta_of(self, tensors: Sequence[Tensor]) -> Tensor:
        named = dict(zip(self.tensor_names, tensors, strict=True))
        return self.variant.delta(self.site, self.base_weight, named, self.scaling)

    def base_or_merged_weight(self) -> Tensor | None:
        """As `MergedWeight` says, but never a merged weight where A and B cost hardly anything."""
        if not self.variant.is_worth_merging and self.active:
            return None
        return super().base_or_merged_weight()

    def folded_weight(self) -> Tensor:
        """W + dW, a new tensor in the type of W."""
        return self.variant.merged(self.site, self.base_weight, self._own_tensors, self.scaling)

    def bias_delta(self) -> Tensor | None:
        """What the adapter adds to the output, in at least float32; None if it adds nothing."""
        if not self.r or not self.variant.changes_bias:
            return None
        return self.variant.bias_delta(self._own_tensors, self.scaling)

    def rounding_loss(self) -> float:
        """The share of dW that `folded_weight` loses to rounding."""
        tensors = {name: tensor.detach() for name, tensor in self.adapter.tensors.items()}
        weight = self.base_weight.detach()
        return self.variant.rounding_loss(self.site, weight, tensors, self.scaling)
