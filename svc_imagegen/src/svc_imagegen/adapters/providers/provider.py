"""The Provider port over HTTP: one paid call, sorted; a free look-up where the server has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from qraft_runtime.clock import Clock
from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import (
    RUNNING,
    TASK_PREFIX,
    Reading,
    data_items,
    decode_object,
    read_answer,
)
from svc_imagegen.adapters.providers.dialect import Dialect, apply_maps
from svc_imagegen.adapters.providers.errors import raise_for_status
from svc_imagegen.adapters.providers.upstream import Upstream
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import BadPicture, Lookup, ProviderAnswer, ProviderOutcome, Rejected
from svc_imagegen.domain.request import ImageRequest
from svc_imagegen.ports import ReferenceBytes

# A task holds at most what one call may order.
_N_TASK_PICTURES_MAX: Final = 16
_SUCCEEDED: Final = frozenset({"succeeded", "success", "completed", "complete", "done", "finished"})
_FAILED: Final = frozenset({"failed", "failure", "error", "canceled", "cancelled", "expired", "rejected"})


class HttpProvider:
    """One configured provider, spoken to in its dialect."""

    is_simulated = False

    def __init__(self, upstream: Upstream, dialect: Dialect, *, clock: Clock) -> None:
        self._upstream = upstream
        self._config = upstream.config
        self._dialect = dialect
        self._clock = clock

    @property
    def provider_id(self) -> str:
        """Return the id under which it is configured."""
        return self._config.id

    def models(self) -> tuple[str, ...]:
        """Return the models in the order of the configuration."""
        return tuple(it.name for it in self._config.models)

    def declared(self, model: str, feature: str) -> Support:
        """Return what a person declared in the configuration, else what is certain of such a server."""
        found = self._config.model(model)
        if found is None:
            return Support.UNKNOWN
        if feature in found.unsupports:
            return Support.UNSUPPORTED
        if feature in found.supports:
            return Support.SUPPORTED
        if feature.startswith("extra:"):
            is_known = feature.removeprefix("extra:") in self._dialect.extras
            return Support.SUPPORTED if is_known else Support.UNSUPPORTED
        return self._dialect.declared(found, feature)

    async def generate(
        self, request: ImageRequest, references: Sequence[ReferenceBytes], *, attempt_id: str
    ) -> ProviderAnswer:
        """
        Make the pictures: one paid call, never repeated in here.

        Raises:
            NotDelivered, Throttled, Rejected, Uncertain, BadPicture: see domain/outcome.py.
        """
        model = self._config.model(request.model)
        if model is None:
            raise Rejected("model_unknown", f"the provider has no model {request.model[:80]!r}", param="model")
        call = apply_maps(self._dialect.call(model, request, references), self._config)
        answer = await self._upstream.pay(call, attempt_id=attempt_id, n_pictures=request.n)
        raise_for_status(answer, self._upstream, now=self._clock.now())
        reading = self._dialect.read(answer, self._upstream)
        return await read_answer(answer, reading, n=request.n, upstream=self._upstream)

    async def look_up(self, provider_request_id: str) -> Lookup:
        """Ask what became of a task; `unknown` for every id that is none, and whenever the answer is not plain."""
        path = self._config.task_path
        if not path or not provider_request_id.startswith(TASK_PREFIX):
            return Lookup("unknown", detail="this provider cannot be asked about an earlier call")
        task_id = quote(provider_request_id.removeprefix(TASK_PREFIX), safe="")
        try:
            answer = await self._upstream.ask(path.lstrip("/").replace("{id}", task_id))
            if answer.status not in (200, 202):
                return Lookup("unknown", detail=f"the provider answered {answer.status}")
            decoded = decode_object(answer)
        except ProviderOutcome as error:
            return Lookup("unknown", detail=error.detail or error.cause)
        return await self._finding(answer, decoded)

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    async def _finding(self, answer: Answer, decoded: dict[str, Any]) -> Lookup:
        status = _status_of(decoded)
        if status in _FAILED:
            return Lookup("failed", detail=f"the provider says {status}")
        if status in RUNNING:
            return Lookup("running", detail=f"the provider says {status}")
        items = _task_items(decoded)
        if status not in _SUCCEEDED and not items:
            return Lookup("unknown", detail=f"the provider says {status or 'nothing'}")
        try:
            found = await read_answer(answer, Reading(decoded, items), n=_N_TASK_PICTURES_MAX, upstream=self._upstream)
        except (BadPicture, Rejected) as error:
            # It was made and cannot be had now; a later look may be luckier.
            return Lookup("unknown", detail=error.detail or error.cause)
        return Lookup("succeeded", answer=found)

    def __repr__(self) -> str:
        return f"HttpProvider({self._config.id!r}, {self._config.kind})"


def _places(decoded: dict[str, Any]) -> list[dict[str, Any]]:
    data = decoded.get("data")
    first = data[0] if isinstance(data, list) and data else data
    return [it for it in (decoded, first) if isinstance(it, dict)]


def _status_of(decoded: dict[str, Any]) -> str:
    for place in _places(decoded):
        for key in ("status", "task_status", "state"):
            if isinstance(value := place.get(key), str):
                return value.lower()[:40]
    return ""


def _task_items(decoded: dict[str, Any]) -> list[Any]:
    for place in reversed(_places(decoded)):
        if items := data_items(place):
            return items
    return []
