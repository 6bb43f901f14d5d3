"""What /readyz answers from: each part of a process says whether it can serve, and why not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """Readiness of the parts of one process. A process without any part is not ready: unknown means no."""

    _parts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    _notes: dict[str, str] = field(default_factory=dict)

    def set_ready(self, part: str, ok: bool, why: str = "") -> None:
        """Record one part's state; `why` says what is missing when it is not ready."""
        self._parts[part] = (ok, why)

    def set_note(self, part: str, text: str) -> None:
        """Record what people should see beside a part's readiness, and what does not decide about it."""
        self._notes[part] = text

    @property
    def is_ready(self) -> bool:
        """Return whether every known part is ready, and there is one."""
        return bool(self._parts) and all(ok for ok, _ in self._parts.values())

    def report(self) -> dict[str, str]:
        """Return each part's state as text, then the notes."""
        parts = {part: "ready" if ok else f"not ready: {why}" for part, (ok, why) in sorted(self._parts.items())}
        return parts | dict(sorted(self._notes.items()))
