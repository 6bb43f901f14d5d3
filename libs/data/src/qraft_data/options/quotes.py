"""Option quotes with implied volatility and greeks, and the surface they make: tables derived from `option_quotes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from qraft_contracts.origin import Origin, worst_origin
from qraft_contracts.outcomes import Refused
from qraft_data.options.implied import STATUS, implied_vol
from qraft_data.options.pricing import forward_of, greeks
from qraft_data.options.surface import Extrapolation, interpolated_vol, n_calendar_breaks, signature_of, smiles_of
from qraft_data.reading import day_before
from qraft_data.times import DAY_US, SECOND_US, UTC_MICROS, FloatArray, Int64Array, float_column, micros_column
from qraft_quant.align import as_of_index
from qraft_store.tables.port import TableStore

_KIND: Final = "option_quotes"
_YEAR_US: Final = 365 * DAY_US  # ACT/365F
_Ordering = list[tuple[str, Literal["ascending", "descending"]]]
_BY_CONTRACT: Final[_Ordering] = [("event_at", "ascending"), ("contract", "ascending")]
_ORDER: Final[_Ordering] = [(name, "ascending") for name in ("known_at", "event_at", "row_id", "revision")]
# Cells (times × contracts) that are looked up at once: 200 MB of row numbers.
_N_CELLS_MAX: Final = 25_000_000


class OptionModel(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a price is turned into a volatility with. rate, dividend_yield: continuous, a year; for options on a future
    the yield is the rate. max_age_s: how old a quote may be and still stand in the surface.
    """

    rate: float
    dividend_yield: float = 0.0
    max_age_s: int = 3_600
    extrapolation: Extrapolation = "none"

    @property
    def signature(self) -> str:
        """Return the method and its numbers; part of every result and of a snapshot's id."""
        return (
            f"{signature_of(self.extrapolation)} rate={self.rate!r} yield={self.dividend_yield!r} age={self.max_age_s}s"
        )


class OptionRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which quotes: of one underlying, start < event_at <= end, known by as_of."""

    market: str
    underlying: str
    start: datetime
    end: datetime
    as_of: datetime


@dataclass(frozen=True, slots=True)
class OptionTable:
    """
    A derived table. query: the range, the model and its signature, and for a surface its points. origin: the worst of
    the quotes. sources: what was read, with its version ("" where versions were not wanted).
    """

    table: pa.Table
    query: dict[str, Any]
    origin: Origin
    sources: Mapping[str, str]

    @property
    def signature(self) -> str:
        """Return the method, with its interpolation and numbers."""
        return str(self.query["signature"])


def option_greeks(
    tables: TableStore, asked: OptionRange, *, model: OptionModel, has_versions: bool = False
) -> OptionTable:
    """
    Return each quote with its mid, implied volatility and greeks, by (event_at, contract).

    The newest revision known by as_of counts. Quotes without a volatility keep their row, with `status` saying why: an
    empty or crossed price is `no_price`.

    Raises:
        Refused: if there is no quote at all.
    """
    sources = _sources(tables, asked, has_versions=has_versions)
    rows = _read(tables, asked, start=asked.start, revisions="latest")
    columns: dict[str, Any] = {name: rows[name] for name in ("event_at", "known_at")}
    columns["contract"] = rows["row_id"]
    columns |= {name: rows[name] for name in _QUOTED}
    found = _valued(rows, model)
    for name, values in found.items():
        if name == "status":
            columns[name] = pa.array(STATUS, pa.string()).take(pa.array(values))
        else:
            columns[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
    ordered = pa.table(columns).sort_by(_BY_CONTRACT)
    return OptionTable(ordered, _query("option_greeks", asked, model), _origin(rows), sources)


def option_surface(
    tables: TableStore,
    asked: OptionRange,
    *,
    model: OptionModel,
    at_us: Int64Array,
    tenor_days: tuple[float, ...],
    log_moneyness: tuple[float, ...],
    has_versions: bool = False,
) -> OptionTable:
    """
    Return the volatility at each time × tenor × log-moneyness, from what was known at that time.

    Columns: at, tenor_days, log_moneyness, implied_vol (null = the quotes do not reach), n_quotes used and
    n_calendar_breaks of that time.

    Args:
        at_us: (n_times,) increasing, within (start, end].

    Raises:
        Refused: if there is no quote at all.
        ValueError: if times × contracts are too many at once.
    """
    sources = _sources(tables, asked, has_versions=has_versions)
    rows = _read(tables, asked, start=day_before(asked.start, 1 + model.max_age_s // 86_400), revisions="all")
    rows = rows.sort_by(_ORDER)
    newest = _newest(rows, at_us, max_age_s=model.max_age_s)
    quotes = _Quotes.of(rows, _valued(rows, model))
    tenor, moneyness = (np.ravel(part) for part in np.meshgrid(tenor_days, log_moneyness, indexing="ij"))
    vols, n_quotes, n_breaks = [], [], []
    for time_us, chosen in zip(at_us.tolist(), newest, strict=True):
        years, of_time = quotes.at(chosen[chosen >= 0], time_us)
        smiles = smiles_of(of_time.expires_us, years, of_time.log_moneyness, of_time.vol)
        vols.append(
            interpolated_vol(smiles, years=tenor / 365.0, log_moneyness=moneyness, extrapolation=model.extrapolation)
        )
        n_quotes.append(sum(smile.log_moneyness.size for smile in smiles))
        n_breaks.append(n_calendar_breaks(smiles))
    vol = np.concatenate(vols) if vols else np.empty(0)
    columns: dict[str, Any] = {
        "at": pa.array(np.repeat(at_us, tenor.size), pa.int64()).cast(UTC_MICROS),
        "tenor_days": np.tile(tenor, at_us.size),
        "log_moneyness": np.tile(moneyness, at_us.size),
        "implied_vol": pa.array(vol, pa.float64(), mask=np.isnan(vol)),
        "n_quotes": np.repeat(np.array(n_quotes, np.int64), tenor.size),
        "n_calendar_breaks": np.repeat(np.array(n_breaks, np.int64), tenor.size),
    }
    query = _query("option_surface", asked, model)
    query |= {"at_us": at_us.tolist(), "tenor_days": list(tenor_days), "log_moneyness": list(log_moneyness)}
    return OptionTable(pa.table(columns), query, _origin(rows), sources)


_QUOTED: Final = ("expires_at_us", "strike", "is_call", "bid", "ask", "underlying_price")


@dataclass(frozen=True, slots=True)
class _Quotes:
    """What a surface needs of quotes, (n,) each. Only out-of-the-money quotes have a volatility here."""

    expires_us: Int64Array
    log_moneyness: FloatArray
    vol: FloatArray

    @classmethod
    def of(cls, rows: pa.Table, valued: dict[str, Any]) -> _Quotes:
        expires = np.asarray(rows["expires_at_us"].to_numpy(), dtype=np.int64)
        is_call = float_column(rows, "is_call") > 0
        k = valued["log_moneyness"]
        is_otm = np.where(is_call, k >= 0, k <= 0)
        return cls(expires, k, np.where(is_otm, valued["implied_vol"], np.nan))

    def at(self, chosen: Int64Array, time_us: int) -> tuple[FloatArray, _Quotes]:
        """Return the years to expiry from a time, and the chosen quotes."""
        part = _Quotes(self.expires_us[chosen], self.log_moneyness[chosen], self.vol[chosen])
        return (part.expires_us - time_us) / _YEAR_US, part


def _sources(tables: TableStore, asked: OptionRange, *, has_versions: bool) -> dict[str, str]:
    """Return the one source with its version, taken before it is read."""
    return {f"tables/{_KIND}/{asked.market}": tables.version(_KIND, market=asked.market) if has_versions else ""}


def _query(what: str, asked: OptionRange, model: OptionModel) -> dict[str, Any]:
    return {"table": what, "range": msgspec.to_builtins(asked), "signature": model.signature}


def _read(tables: TableStore, asked: OptionRange, *, start: datetime, revisions: Any) -> pa.Table:
    rows = tables.read(
        _KIND,
        market=asked.market,
        symbols=(asked.underlying,),
        start=max(start, datetime(1970, 1, 1, tzinfo=UTC)),
        end=asked.end,
        as_of=asked.as_of,
        columns=("event_at", "known_at", "row_id", "revision", "origin", *_QUOTED),
        revisions=revisions,
    )
    if not rows.num_rows:
        raise Refused(
            "no_data", f"expected {_KIND} of {asked.underlying} in {asked.market} known by {asked.as_of}, found none"
        )
    return rows


def _valued(rows: pa.Table, model: OptionModel) -> dict[str, Any]:
    """Return mid, years, forward, log_moneyness, implied_vol, status and the greeks of each row."""
    bid, ask, spot, strike = (float_column(rows, name) for name in ("bid", "ask", "underlying_price", "strike"))
    is_call = float_column(rows, "is_call") > 0
    expires = np.asarray(rows["expires_at_us"].to_numpy(), dtype=np.int64)
    years = (expires - micros_column(rows, "event_at")) / _YEAR_US
    mid = np.where(bid <= ask, 0.5 * (bid + ask), np.nan)
    forward = forward_of(spot, years=years, rate=model.rate, dividend_yield=model.dividend_yield)
    solved = implied_vol(
        mid, forward=forward, strike=strike, years=years, discount=np.exp(-model.rate * years), is_call=is_call
    )
    moves = greeks(
        spot, strike, years, solved.vol, is_call=is_call, rate=model.rate, dividend_yield=model.dividend_yield
    )
    return {
        "mid": mid,
        "years": years,
        "forward": forward,
        "log_moneyness": np.log(strike / forward),
        "implied_vol": solved.vol,
        "status": solved.status,
        "delta": moves.delta,
        "gamma": moves.gamma,
        "vega": moves.vega,
        "theta": moves.theta,
        "rho": moves.rho,
    }


def _newest(rows: pa.Table, at_us: Int64Array, *, max_age_s: int) -> Int64Array:
    """Return the row of the newest quote of each contract at each time, (n_times, n_contracts), -1 = none."""
    contract = rows["row_id"].combine_chunks().dictionary_encode()
    n_contracts = len(contract.dictionary)
    if at_us.size * n_contracts > _N_CELLS_MAX:
        raise ValueError(
            f"expected at most {_N_CELLS_MAX} times × contracts, asked for {at_us.size} × {n_contracts}: ask in parts"
        )
    return as_of_index(
        np.repeat(at_us, n_contracts),
        micros_column(rows, "known_at"),
        event_at=micros_column(rows, "event_at"),
        key=np.tile(np.arange(n_contracts), at_us.size),
        known_key=np.asarray(contract.indices, dtype=np.int64),
        tolerance_us=max_age_s * SECOND_US,
    ).reshape(at_us.size, n_contracts)


def _origin(rows: pa.Table) -> Origin:
    return worst_origin(Origin(str(name)) for name in rows["origin"].unique().to_pylist())
