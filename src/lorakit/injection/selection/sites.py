"""The site that a config gives a module: its own, or slices of it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lorakit.functional import slices
from lorakit.injection.selection.architectures import Parts
from lorakit.injection.selection.naming import matches_suffix
from lorakit.layers import conversion
from lorakit.variants import InProjSite, LinearSite, Site, SlicedSite


def site_of(
    name: str, module: nn.Module, parts: Mapping[str, Parts]
) -> tuple[Site | None, str | None]:
    """The site of a module that can be adapted; None, and why, if its slices are wrong.

    `parts` are the slices by the ending of a name.
    """
    site = conversion.site_of(module)
    part = next((p for suffix, p in parts.items() if matches_suffix(name, suffix)), None)
    if part is None:
        return site, None
    if not isinstance(site, LinearSite) or isinstance(site, InProjSite):
        return None, f"has type {type(module).__name__}; slices are for linear layers only"
    resolved = slices.resolve(part, site.out_features)
    if resolved is None:
        text = f"its {len(part)} slices do not add up to it"
        return None, f"has out_features={site.out_features}; {text}"
    return SlicedSite(site.in_features, site.out_features, site.transposed, resolved), None
