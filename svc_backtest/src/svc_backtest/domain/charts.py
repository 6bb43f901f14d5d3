"""Charts as inline SVG: no script, no font, no network. Pure text from numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Final

import numpy as np

from svc_backtest.domain.market import FloatArray, IntArray

_WIDTH: Final = 960
_HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 12, 12, 30
# Two points a pixel column; more cannot be seen and makes the page slow.
_N_COLUMNS: Final = 900


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart. css: its class, which gives the color. values: (n,)."""

    label: str
    css: str
    values: FloatArray


def line_chart(at_s: IntArray, series: Sequence[Series], *, unit: str, marks_s: Sequence[int] = ()) -> str:
    """Return lines over time; unit: `percent` or `money`; marks_s: instants with a vertical line (fold starts)."""
    low = min(float(one.values.min()) for one in series)
    high = max(float(one.values.max()) for one in series)
    scale = _Scale(float(at_s[0]), float(at_s[-1]), *_padded(low, high))
    parts = [_y_axis(scale, unit), _time_axis(scale)]
    parts += [
        f'<line class="mark" x1="{scale.x(m):.1f}" x2="{scale.x(m):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        for m in marks_s
    ]
    for one in series:
        points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in thinned(at_s, one.values))
        parts.append(f'<polyline class="{one.css}" points="{points}"><title>{escape(one.label)}</title></polyline>')
    return _svg(parts, ", ".join(one.label for one in series))


def histogram(edges: Sequence[float], counts: Sequence[int], *, threshold: float, label: str) -> str:
    """Return bars of counts, with the threshold as a vertical line (also where no score comes near it)."""
    right = max(edges[-1], threshold)
    left = min(edges[0], threshold)
    margin = 0.02 * ((right - left) or 1.0)
    scale = _Scale(left - margin, right + margin, 0.0, float(max(counts)) * 1.05 or 1.0)
    bottom = scale.y(0.0)
    parts = [_y_axis(scale, "count")]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        x, y = scale.x(low), scale.y(count)
        width = max(scale.x(high) - x - 1.0, 0.5)
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bottom - y:.1f}"/>')
    parts += [
        f'<text class="tick" x="{scale.x(value):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{value:g}</text>'
        for value in _ticks(scale.x_low, scale.x_high)
    ]
    x = scale.x(threshold)
    parts.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom:.1f}"/>')
    parts.append(f'<text class="tick" x="{x - 4:.1f}" y="{_TOP + 12}" text-anchor="end">≥ {threshold:g}</text>')
    return _svg(parts, label)


def thinned(at_s: IntArray, values: FloatArray) -> list[tuple[float, float]]:
    """Return at most two points a column, its lowest and its highest in time order, so that no peak is lost."""
    n = values.size
    if n <= 2 * _N_COLUMNS:
        return list(zip(at_s.tolist(), values.tolist(), strict=True))
    points: list[tuple[float, float]] = []
    bounds = [n * k // _N_COLUMNS for k in range(_N_COLUMNS + 1)]
    for start, end in pairwise(bounds):
        part = values[start:end]
        ends = sorted({int(part.argmin()), int(part.argmax())})
        points += [(float(at_s[start + i]), float(part[i])) for i in ends]
    return points


@dataclass(frozen=True, slots=True)
class _Scale:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / ((self.x_high - self.x_low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers within a range."""
    rough = (high - low) / 5.0
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1.0, 2.0, 5.0, 10.0) if m * magnitude >= rough)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _y_axis(scale: _Scale, unit: str) -> str:
    parts = []
    for value in _ticks(scale.y_low, scale.y_high):
        y = scale.y(value)
        text = f"{100 * value:g} %" if unit == "percent" else f"{value:,.0f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _time_axis(scale: _Scale) -> str:
    parts = []
    for at_s in np.linspace(scale.x_low, scale.x_high, 6).tolist():
        text = datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%d")
        x = min(max(scale.x(at_s), _LEFT + 30.0), _WIDTH - _RIGHT - 34.0)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{text}</text>')
    return "".join(parts)


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )
