"""Figures as a person reads them."""

from __future__ import annotations

from typing import Final

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_UNITS: Final = (
    (_DAY_MS, "d", _HOUR_MS, "h"),
    (_HOUR_MS, "h", _MINUTE_MS, "min"),
    (_MINUTE_MS, "min", _SECOND_MS, "s"),
)
_KIB: Final = 1_024


def duration_text(ms: int) -> str:
    """Return a duration by its two largest units, such as `3 h 12 min`, `5 min` or `4.2 s`."""
    for unit_ms, unit, part_ms, part in _UNITS:
        if ms >= unit_ms:
            rest = ms % unit_ms // part_ms
            return f"{ms // unit_ms} {unit} {rest} {part}" if rest else f"{ms // unit_ms} {unit}"
    if ms >= _SECOND_MS:
        return f"{ms / _SECOND_MS:.1f} s"
    return f"{ms} ms" if ms else "0"


def bytes_text(n_bytes: int) -> str:
    """Return a size in binary units, such as `1.4 GiB`."""
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= _KIB and len(units) > 1:
        size /= _KIB
        units.pop(0)
    return f"{n_bytes} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def usd_text(microusd: int) -> str:
    """Return dollars: cents from one dollar on, up to six places below."""
    dollars, rest = divmod(microusd, 1_000_000)
    if dollars or not rest:
        cents = (microusd + 5_000) // 10_000
        return f"${cents // 100:,}.{cents % 100:02d}"
    return f"$0.{rest:06d}".rstrip("0")


def percent_text(fraction: float | None) -> str:
    """Return a fraction as a percentage, or a dash where there is none."""
    if fraction is None:
        return "–"
    percent = fraction * 100
    return f"{percent:.2f} %" if 0 < percent < 1 else f"{percent:.1f} %"
