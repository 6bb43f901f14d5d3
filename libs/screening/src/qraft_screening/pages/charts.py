"""Small charts as inline SVG. Each carries its numbers as text, for whoever cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qraft_screening.pages.words import text

_HEIGHT: Final = 150
_TOP: Final = 16
_BOTTOM: Final = 30
_LEFT: Final = 8
_WIDTH_MIN: Final = 300
_STEP_MIN: Final = 23
_RIGHT: Final = 48  # room for the ends of the scale
_SIGN_PX: Final = 7  # of a label, with its gap


class _Scale:
    """From values to pixels, zero always inside."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high = min(0.0, *values), max(0.0, *values)
        if self.high == self.low:
            self.high = 1.0

    def y(self, value: float) -> float:
        room = _HEIGHT - _TOP - _BOTTOM
        return round(_TOP + (self.high - value) / (self.high - self.low) * room, 1)


def bars(
    labels: Sequence[str], values: Sequence[float | None], *, what: str, form: str,
    colors: Sequence[str], limits: Sequence[tuple[float, str]] = (),
) -> str:  # fmt: skip
    """Return bars from zero, up and down; None is drawn as a dash. limits: value and CSS class of dashed lines."""
    known = [value for value in values if value is not None]
    scale = _Scale([*known, *(limit for limit, _ in limits)] or [0.0])
    step = max(_STEP_MIN, (_WIDTH_MIN - _LEFT) // max(len(labels), 1))
    step = min(step, 90)
    width, zero = _LEFT + step * len(labels), scale.y(0.0)
    every = max(1, -(-max(map(len, labels), default=1) * _SIGN_PX // step))
    parts = []
    for i, (label, value) in enumerate(zip(labels, values, strict=True)):
        x, middle = _LEFT + i * step, _LEFT + (i + 0.5) * step
        said = "–" if value is None else f"{value:{form}}"
        if value is not None:
            y = scale.y(value)
            parts.append(
                f'<rect x="{x + 3}" y="{min(y, zero)}" width="{step - 6}" height="{max(abs(y - zero), 1):.1f}" '
                f'fill="{colors[i]}"><title>{text(label)}: {said}</title></rect>'
            )
        else:
            parts.append(f'<text x="{middle}" y="{zero - 3}" text-anchor="middle">–</text>')
        if i % every == 0:
            parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{text(label)}</text>')
    lines = [
        f'<line class="{css}" x1="{_LEFT}" x2="{width}" y1="{scale.y(limit)}" y2="{scale.y(limit)}"/>'
        f'<text class="soft" x="{width + 4}" y="{scale.y(limit) + 4}">{limit:g}</text>'
        for limit, css in limits
    ]
    axis = f'<line class="axis" x1="{_LEFT}" x2="{width}" y1="{zero}" y2="{zero}"/>'
    said = "; ".join(
        f"{label} {'unknown' if value is None else f'{value:{form}}'}"
        for label, value in zip(labels, values, strict=True)
    )
    return _svg(width, f"{what}: {said}", [*parts, axis, *lines, "" if limits else _range(scale, form, width)])


def curve(xs: Sequence[str], ys: Sequence[float | None], *, what: str, form: str) -> str:
    """Return a line with a point at each x, evenly apart; what is unknown is left out."""
    known = [y for y in ys if y is not None]
    scale = _Scale(known or [0.0])
    step = max(_STEP_MIN, (_WIDTH_MIN - _LEFT) // max(len(xs), 1))
    width, zero = _LEFT + step * len(xs), scale.y(0.0)
    points = [
        (_LEFT + (i + 0.5) * step, scale.y(y), x, y)
        for i, (x, y) in enumerate(zip(xs, ys, strict=True))
        if y is not None
    ]
    path = " ".join(f"{x:.1f},{y}" for x, y, _, _ in points)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y}" r="3" fill="var(--bar)"><title>{text(label)}: {value:{form}}</title></circle>'
        for x, y, label, value in points
    ]
    names = [
        f'<text x="{_LEFT + (i + 0.5) * step}" y="{_HEIGHT - 8}" text-anchor="middle">{text(x)}</text>'
        for i, x in enumerate(xs)
    ]
    line = f'<polyline points="{path}" fill="none" stroke="var(--bar)" stroke-width="2"/>'
    axis = f'<line class="axis" x1="{_LEFT}" x2="{width}" y1="{zero}" y2="{zero}"/>'
    said = "; ".join(f"{label} {value:{form}}" for _, _, label, value in points)
    return _svg(width, f"{what}: {said}", [axis, line, *dots, *names, _range(scale, form, width)])


def _range(scale: _Scale, form: str, width: int) -> str:
    """Return the ends of the scale and its zero, right of the chart."""
    return "".join(
        f'<text class="soft" x="{width + 4}" y="{scale.y(value) + 4}">{value:{form}}</text>'
        for value in sorted({scale.low, scale.high} - {0.0})
    )


def _svg(width: int, label: str, parts: Sequence[str]) -> str:
    whole = width + _RIGHT
    return (
        f'<div class="scroll"><svg width="{whole}" height="{_HEIGHT}" viewBox="0 0 {whole} {_HEIGHT}" role="img" '
        f'aria-label="{text(label)}">{"".join(parts)}</svg></div>'
    )
