"""The adapter of one module as a value: its variant (LoRA, DoRA, ...), settings and tensors.

adapter = (variant, spec, tensors), for the weight that a site describes
"""

from lorakit.variants.adapter import ModuleAdapter
from lorakit.variants.base import Host, Tensors, Variant
from lorakit.variants.conv_site import ConvSite
from lorakit.variants.parameter_site import ParameterSite
from lorakit.variants.registry import VARIANTS, register
from lorakit.variants.site import (
    EmbeddingSite,
    InProjSite,
    LinearSite,
    OutProjSite,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.spec import AdapterSpec, adapter_specs

__all__ = [
    "VARIANTS",
    "AdapterSpec",
    "ConvSite",
    "EmbeddingSite",
    "Host",
    "InProjSite",
    "LinearSite",
    "ModuleAdapter",
    "OutProjSite",
    "ParameterSite",
    "RowsSite",
    "Site",
    "SlicedSite",
    "Tensors",
    "Variant",
    "adapter_specs",
    "register",
]
