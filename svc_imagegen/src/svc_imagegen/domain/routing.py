"""Which provider serves a model name. Values only: the catalog is made once, in the order of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """One model of one provider. public_id: its name for clients, `provider/model` where another took the name."""

    provider: str
    model: str
    is_simulated: bool
    public_id: str

    @property
    def explicit_id(self) -> str:
        """Return the name that always means this route."""
        return f"{self.provider}/{self.model}"


class Catalog:
    """The models by name. Of two providers with one model name the first has it, the other is `provider/model`."""

    def __init__(self, models: Sequence[tuple[str, str, bool]], *, default_model: str) -> None:
        """Take (provider, model, is_simulated) in the order of the configuration."""
        self._by_name: dict[str, ModelRoute] = {}
        routes: list[ModelRoute] = []
        for provider, model, is_simulated in models:
            explicit = f"{provider}/{model}"
            if explicit in self._by_name:
                continue
            public = explicit if model in self._by_name else model
            route = ModelRoute(provider=provider, model=model, is_simulated=is_simulated, public_id=public)
            self._by_name[public] = route
            self._by_name.setdefault(explicit, route)
            routes.append(route)
        self._routes = tuple(routes)
        self.default_model = default_model

    @property
    def routes(self) -> tuple[ModelRoute, ...]:
        """Return every model of every provider, in order."""
        return self._routes

    def find(self, name: str | None) -> ModelRoute | None:
        """Return who serves a model name, or the default model for None; None if nobody does."""
        return self._by_name.get(self.default_model if name is None else name)
