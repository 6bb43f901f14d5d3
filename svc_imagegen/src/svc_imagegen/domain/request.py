"""What a person asks for, once it was checked: one value for the compatible path, the job API and the worker."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Operation(StrEnum):
    """The three operations of the OpenAI images interface."""

    GENERATION = "generation"
    EDIT = "edit"
    VARIATION = "variation"


class Reference(msgspec.Struct, frozen=True):
    """One reference picture that was checked, re-encoded and stored. role: image or mask."""

    artefact_key: str
    sha256: str
    media_type: str
    width: int
    height: int
    n_bytes: int
    role: str = "image"


class ImageRequest(msgspec.Struct, frozen=True):
    """
    One image call. size: `WxH` or auto; quality and background as OpenAI names them; n >= 1.

    text_material: further text that belongs to the prompt, already part of what is priced. extras: provider fields that
    the provider's adapter declares, such as seed; anything undeclared is refused at the edge.
    """

    operation: Operation
    model: str
    prompt: str
    n: int = 1
    size: str = "auto"
    quality: str = "auto"
    background: str = "auto"
    output_format: str = "png"
    output_compression: int | None = None
    moderation: str = "auto"
    input_fidelity: str | None = None
    references: tuple[Reference, ...] = ()
    text_material: str = ""
    end_user: str = ""
    extras: dict[str, str | int | float | bool] = {}

    @property
    def pictures(self) -> tuple[Reference, ...]:
        """Return the references that are no masks."""
        return tuple(it for it in self.references if it.role == "image")

    @property
    def mask(self) -> Reference | None:
        """Return the mask, or None."""
        return next((it for it in self.references if it.role == "mask"), None)
