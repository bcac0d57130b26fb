"""What of adapters is in memory: beside the base, and on the host behind it, by least recent use.

With a budget only so many bytes are beside the base; what comes in takes the place of what nobody
holds. All here is done under the lock of the `Store`.
"""

from __future__ import annotations

import torch

from lorakit.adapters.budget import Budget
from lorakit.adapters.member import Member, bytes_of
from lorakit.adapters.routing import Routing
from lorakit.adapters.slab import DeviceOf, Slab


class Memory:
    """The adapters that are in it, those that were used last at the end."""

    def __init__(self, routing: Routing, budget: Budget, device_of: DeviceOf) -> None:
        self._routing, self._budget, self._device_of = routing, budget, device_of
        self._beside: dict[Member, None] = {}
        self._on_host: dict[Member, None] = {}

    def touch(self, member: Member) -> None:
        """It is the last that was used."""
        if member in self._beside:
            self._beside[member] = self._beside.pop(member)

    def put(self, member: Member, slab: Slab) -> None:
        """Bring it in, or keep it on the host where there is no room beside those that are held."""
        if not self.bring(member, slab):
            self._keep_on_host(member, slab)

    def bring(self, member: Member, slab: Slab) -> bool:
        """Put it beside the base, in place of the least recently used; False without room."""
        while self._budget.bytes is not None and (
            bytes_of(self._beside) + member.nbytes > self._budget.bytes
        ):
            idle = next((m for m in self._beside if not m.holders), None)
            if idle is None:
                return False
            self._keep_on_host(idle, self._let_go(idle))
        with torch.inference_mode(False), torch.no_grad():
            member.slab = slab if member.trains else slab.beside(self._device_of)
        member.arrivals += 1
        self._routing.slabs.add(member.slab)
        self._beside[member] = None
        self._leave_host(member)
        return True

    def forget(self, member: Member) -> None:
        """Put it away everywhere."""
        self._let_go(member)
        self._leave_host(member)

    def _let_go(self, member: Member) -> Slab | None:
        """Put it away; a forward that runs keeps what it computes with until its end."""
        slab, member.slab = member.slab, None
        self._beside.pop(member, None)
        if slab is not None:
            self._routing.drop(slab)
        return slab

    def _leave_host(self, member: Member) -> None:
        self._on_host.pop(member, None)
        member.on_host = None

    def _keep_on_host(self, member: Member, slab: Slab | None) -> None:
        """Keep it in host memory if it has room there, in place of the least recently used.

        One without a file has to stay there.
        """
        fits = member.origin is None or member.nbytes <= self._budget.on_host
        if slab is None or not fits:
            return
        with torch.inference_mode(False), torch.no_grad():
            member.on_host = slab.on_host()
        self._on_host.pop(member, None)
        self._on_host[member] = None
        for oldest in [other for other in self._on_host if other.origin is not None]:
            if bytes_of(self._on_host) <= self._budget.on_host:
                break
            self._leave_host(oldest)
