"""
MiniMax H3 image: pictures one by one over server-sent events.

* With `stream` the pictures come as `….partial_succeeded` events with a URL each, in the order of their completion
  (`image_index` says which), and the end as `….completed` or `error`, both with usage and request_id.
* A comment line `: keepalive` comes every 15 s, so a long call is no silent call: gap_timeout_s may be short.
* Once the stream has begun errors are an `error` event that carries `http_code`; what succeeded before it is paid and
  kept.
* A stream that ends without completed or error was cut. What had come is delivered; with nothing it is uncertain.
* Only URLs can be had this way. The body of edits was not read in a first-hand source: OpenAI's JSON twin is sent, and
  edit stays unknown until it is probed.

Source: platform.minimax.io/docs/api-reference/image-generation-h3-streaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from svc_imagegen.adapters.http import Answer
from svc_imagegen.adapters.providers.answers import Reading, data_items, decode_success
from svc_imagegen.adapters.providers.config import ModelConfig, ProviderConfig
from svc_imagegen.adapters.providers.dialect import EDITS, GENERATIONS, Rules, taken_extras
from svc_imagegen.adapters.providers.errors import complaint_of
from svc_imagegen.adapters.providers.openai import declared_extras, json_references, scalar_fields
from svc_imagegen.adapters.providers.upstream import Call, Upstream, request_id_of
from svc_imagegen.domain.capability import Support
from svc_imagegen.domain.outcome import BadPicture, Rejected, Uncertain
from svc_imagegen.domain.request import ImageRequest, Operation
from svc_imagegen.ports import ReferenceBytes

_N_EVENTS_MAX: Final = 1_024
_RULES: Final = Rules(
    sends=frozenset({"size", "output_format"}),
    n_max=9,
    n_references_max=16,
    support={
        "generation": Support.SUPPORTED,
        "mask": Support.UNSUPPORTED,
        "variation": Support.UNSUPPORTED,
    },
)


@dataclass(frozen=True, slots=True)
class MiniMaxDialect:
    """MiniMax's images interface, streamed."""

    config: ProviderConfig
    extras: frozenset[str] = frozenset({"seed"})

    def call(self, model: ModelConfig, request: ImageRequest, references: Sequence[ReferenceBytes]) -> Call:
        """Return the request."""
        _RULES.check(request)
        fields = {
            "model": model.upstream_name,
            **scalar_fields(request),
            "response_format": "url",
            "stream": True,
            **taken_extras(request, declared_extras(model, self.extras)),
        }
        for name in ("moderation", "input_fidelity"):
            fields.pop(name, None)
        if request.operation is Operation.GENERATION:
            return Call(GENERATIONS, fields, is_stream=True)
        return Call(EDITS, {**fields, **json_references(references)}, is_stream=True)

    def read(self, answer: Answer, upstream: Upstream) -> Reading:
        """
        Return the last event, as the answer, and the pictures by their index.

        By the first bytes, not by the type: relays of this format are known to name it wrongly.
        """
        if answer.body[:64].lstrip()[:1] == b"{":
            decoded = decode_success(answer, upstream)
            return Reading(decoded, data_items(decoded))
        pictures: dict[int, dict[str, Any]] = {}
        for event in _events(answer.body):
            kind = str(event.get("type", ""))
            if kind.endswith(".partial_succeeded"):
                index = event.get("image_index")
                pictures[index if isinstance(index, int) else len(pictures)] = event
            elif kind.endswith(".completed"):
                return Reading(event, [pictures[it] for it in sorted(pictures)])
            elif kind == "error" or isinstance(event.get("error"), dict):
                return self._failed(event, pictures, answer, upstream)
        return self._cut(pictures, answer)

    def declared(self, _model: ModelConfig, feature: str, /) -> Support:
        """Return what is certain."""
        return _RULES.declared(feature)

    def _failed(
        self, event: dict[str, Any], pictures: dict[int, dict[str, Any]], answer: Answer, upstream: Upstream
    ) -> Reading:
        if pictures:
            return Reading(event, [pictures[it] for it in sorted(pictures)])
        complaint = complaint_of(event, upstream)
        error = event.get("error")
        status = error.get("http_code") if isinstance(error, dict) else None
        if complaint.is_policy:
            raise Rejected("content_policy", complaint.message, param="prompt")
        if isinstance(status, int) and 400 <= status < 500:
            # Never Throttled: the stream had begun, and nobody promises that a second call costs nothing.
            raise Rejected(
                "provider_quota" if complaint.is_quota or status == 402 else "bad_request", complaint.message
            )
        raise Uncertain("provider_error", complaint.message, provider_request_id=request_id_of(answer.headers))

    def _cut(self, pictures: dict[int, dict[str, Any]], answer: Answer) -> Reading:
        if pictures:
            return Reading({}, [pictures[it] for it in sorted(pictures)])
        if answer.body[:64].lstrip()[:1] == b"<":
            raise BadPicture("bad_picture", f"the provider answered {answer.status} with HTML")
        raise Uncertain(
            "connection_lost",
            "the stream ended before any picture",
            provider_request_id=request_id_of(answer.headers),
        )


def _events(body: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects of the data lines; comments, [DONE] and what cannot be read are passed over."""
    events: list[dict[str, Any]] = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(it[5:].strip() for it in block.split(b"\n") if it.startswith(b"data:"))
        if not data or len(events) >= _N_EVENTS_MAX:
            continue
        try:
            decoded = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(decoded, dict):
            events.append(decoded)
    return events
