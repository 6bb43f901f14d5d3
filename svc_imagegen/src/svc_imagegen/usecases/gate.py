"""May this request be sent to this provider? Unknown is a no wherever references, which cost money, are sent along."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from qraft_runtime.clock import Clock
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.domain.routing import ModelRoute
from svc_imagegen.ports import CapabilityStore, Provider
from svc_imagegen.usecases.references import Upload

# A finding counts this much later at most: the price of no query a call.
_TTL_S: Final = 2.0
_N_PASSED_MAX: Final = 1_024


class CapabilityGate:
    """Findings of the store first, then what the adapter declares."""

    def __init__(self, store: CapabilityStore, providers: Sequence[Provider], *, clock: Clock) -> None:
        self._store = store
        self._providers = {it.provider_id: it for it in providers}
        self._clock = clock
        self._findings: dict[tuple[str, str, str], Support] = {}
        self._passed: set[tuple[object, ...]] = set()  # kinds of requests that these findings let through
        self._until_s = -math.inf
        self._n_forgotten = 0
        self._lock = asyncio.Lock()

    async def support(self, provider: str, model: str, feature: str) -> Support:
        """Return what is known of one feature, at most two seconds old."""
        await self._refresh()
        return self._known(provider, model, feature)

    def forget(self) -> None:
        """Look every finding up again."""
        self._until_s = -math.inf
        self._n_forgotten += 1

    async def check(self, request: ImageRequest, route: ModelRoute, *, uploads: Sequence[Upload]) -> None:
        """
        Check every feature that the request needs.

        Raises:
            CallRefused: capability_unsupported, or capability_unknown where that is a no.
        """
        await self._refresh()
        kind = (
            route.provider, route.model, request.operation, request.size, request.quality, request.background,
            request.output_format, tuple(request.extras), tuple(it.role for it in uploads),
        )  # fmt: skip
        if kind in self._passed:
            return
        self._check(request, route, uploads=uploads)
        if len(self._passed) < _N_PASSED_MAX:
            self._passed.add(kind)

    def _check(self, request: ImageRequest, route: ModelRoute, *, uploads: Sequence[Upload]) -> None:
        for feature, param, must_be_known in _needs(request, uploads):
            support = self._known(route.provider, route.model, feature)
            if feature.startswith("extra:") and support is not Support.SUPPORTED:
                raise CallRefused(Kind.INVALID, "unknown_parameter", f"Unknown parameter: {param!r}.", param=param)
            if support is Support.UNSUPPORTED:
                raise _unsupported(route, feature, param)
            if support is Support.UNKNOWN and must_be_known:
                raise _unknown(route, feature, param)

    async def _refresh(self) -> None:
        """Read all findings anew when their time is over; one call does it for those that come at the same moment."""
        if self._clock.monotonic() < self._until_s:
            return
        async with self._lock:
            now_s = self._clock.monotonic()
            if now_s < self._until_s:
                return
            n_forgotten = self._n_forgotten
            found = await self._store.list_all()
            self._findings = {(it.provider, it.model, it.feature): it.support for it in found}
            self._passed = set()
            if n_forgotten == self._n_forgotten:
                self._until_s = now_s + _TTL_S

    def _known(self, provider: str, model: str, feature: str) -> Support:
        found = self._findings.get((provider, model, feature), Support.UNKNOWN)
        adapter = self._providers.get(provider)
        if found is Support.UNKNOWN and adapter is not None:
            return adapter.declared(model, feature)
        return found


def _needs(request: ImageRequest, uploads: Sequence[Upload]) -> list[tuple[str, str | None, bool]]:
    """Return (feature, parameter at fault, unknown is a no) of everything that a request asks for."""
    n_pictures = sum(it.role == "image" for it in uploads)
    has_references = request.operation is not Operation.GENERATION
    needs: list[tuple[str, str | None, bool]] = [(request.operation.value, None, has_references)]
    if n_pictures > 1:
        needs.append(("edit_multi", "image", True))
    if n_pictures < len(uploads):
        needs.append(("mask", "mask", True))
    options = ("size", "quality", "background", "output_format")
    needs.extend((f"{name}:{getattr(request, name)}", name, False) for name in options)
    needs.extend((f"extra:{name}", name, True) for name in request.extras)
    return needs


def _unsupported(route: ModelRoute, feature: str, param: str | None) -> CallRefused:
    if feature == Operation.VARIATION:
        message = f"Variations are not offered: {route.explicit_id} does not support them."
        return CallRefused(Kind.MISSING, "capability_unsupported", message)
    message = f"{route.explicit_id} does not support {feature}."
    return CallRefused(Kind.INVALID, "capability_unsupported", message, param=param)


def _unknown(route: ModelRoute, feature: str, param: str | None) -> CallRefused:
    message = (
        f"It is not known whether {route.explicit_id} supports {feature}, and a call that may be paid for nothing is "
        "not made. An administrator can find out with `qraft images probe` or declare it with POST /api/capabilities."
    )
    return CallRefused(Kind.INVALID, "capability_unknown", message, param=param)
