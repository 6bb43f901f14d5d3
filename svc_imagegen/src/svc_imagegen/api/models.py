"""`/v1/models`: what can be asked for, and which provider would make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from svc_imagegen.api.http import Answer, Call
from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.routing import Catalog, ModelRoute


class ModelExtension(msgspec.Struct, frozen=True):
    """Where a model's calls go. explicit_id: the name that always means this provider."""

    provider: str
    explicit_id: str
    is_simulated: bool
    is_default: bool


class ModelView(msgspec.Struct, frozen=True):
    """One model. created is not known of a configured model and always 0."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    qraft: ModelExtension


class ModelList(msgspec.Struct, frozen=True):
    """All models, in the order of the configuration; of two with one name the first has it."""

    object: Literal["list"]
    data: tuple[ModelView, ...]


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """The handlers."""

    catalog: Catalog

    async def list(self, _call: Call) -> Answer:
        """`GET /v1/models`."""
        return Answer(200, msgspec.json.encode(ModelList("list", tuple(map(self._view, self.catalog.routes)))))

    async def show(self, call: Call) -> Answer:
        """`GET /v1/models/{model}`."""
        name = call.params["model"]
        route = self.catalog.find(name)
        if route is None:
            message = f"The model {name[:200]!r} does not exist here."
            raise CallRefused(Kind.MISSING, "model_not_found", message, param="model")
        return Answer(200, msgspec.json.encode(self._view(route)))

    def _view(self, route: ModelRoute) -> ModelView:
        is_default = self.catalog.find(None) is route
        extension = ModelExtension(route.provider, route.explicit_id, route.is_simulated, is_default)
        return ModelView(route.public_id, "model", 0, route.provider, extension)
