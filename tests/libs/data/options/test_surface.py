"""The derived option tables. Quotes are made up from known volatilities."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from tests.libs.data.data_kit import T0, at, memory_library, put_rows, us

from qraft_contracts.outcomes import Refused
from qraft_data.library import DataLibrary
from qraft_data.options.pricing import price
from qraft_data.options.quotes import OptionModel, OptionRange, option_greeks, option_surface
from qraft_data.options.surface import Smile, interpolated_vol, n_calendar_breaks, signature_of, smiles_of

_MODEL = OptionModel(rate=0.03)
_SPOT = 100.0


def _quote(
    vol: float, *, days: float, strike: float, is_call: bool, event: float = 1, known: float | None = None,
    revision: int = 0,
) -> dict[str, object]:  # fmt: skip
    expires = at(event) + timedelta(days=days)
    premium = price(
        np.array([_SPOT]), np.array([strike]), np.array([days / 365]), np.array([vol]),
        is_call=np.array([is_call]), rate=0.03, dividend_yield=0.0,
    )[0]  # fmt: skip
    return {
        "symbol": "BTC", "row_id": f"{days}-{strike}-{is_call}", "event_at": at(event),
        "known_at": at(event if known is None else known), "revision": revision, "expires_at_us": us(expires),
        "strike": strike, "is_call": is_call, "bid": premium * 0.999, "ask": premium * 1.001, "underlying_price": _SPOT,
    }  # fmt: skip


def _asked(end: float = 10, *, as_of: datetime | None = None) -> OptionRange:
    return OptionRange(market="made.up.options", underlying="BTC", start=T0, end=at(end), as_of=as_of or at(end))


def _library(rows: list[dict[str, object]]) -> DataLibrary:
    library = memory_library()
    put_rows(library, "option_quotes", rows, market="made.up.options")
    return library


def test_every_quote_has_its_volatility_and_greeks_or_the_reason_why_not() -> None:
    good = _quote(0.5, days=30, strike=110.0, is_call=True)
    crossed = _quote(0.5, days=30, strike=120.0, is_call=True) | {"bid": 3.0, "ask": 2.0}
    empty = _quote(0.5, days=30, strike=130.0, is_call=True) | {"bid": None}

    found = option_greeks(_library([good, crossed, empty]).tables, _asked(), model=_MODEL)

    rows = found.table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "no_price", "no_price"]
    assert rows[0]["implied_vol"] == pytest.approx(0.5, abs=1e-6)
    assert 0.0 < rows[0]["delta"] < 0.5
    assert [rows[1][name] for name in ("mid", "implied_vol", "delta")] == [None, None, None]
    assert "surface/1 model=black-76" in found.signature


def test_quote_shows_the_revision_known_by_as_of() -> None:
    library = _library([_quote(0.5, days=30, strike=110.0, is_call=True)])
    put_rows(
        library, "option_quotes", [_quote(0.8, days=30, strike=110.0, is_call=True, known=12, revision=1)],
        market="made.up.options",
    )  # fmt: skip

    early, late = (
        option_greeks(library.tables, _asked(as_of=at(step)), model=_MODEL).table["implied_vol"][0].as_py()
        for step in (11, 12)
    )

    assert (early, late) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.8, abs=1e-6))


def test_surface_gives_back_a_flat_volatility_between_quotes_and_nothing_beyond_them() -> None:
    quotes = [
        _quote(0.4, days=days, strike=strike, is_call=strike > _SPOT)
        for days in (10, 40)
        for strike in (80.0, 90.0, 110.0, 120.0)
    ]

    found = option_surface(
        _library(quotes).tables, _asked(), model=_MODEL, at_us=np.array([us(at(2))]),
        tenor_days=(5.0, 20.0, 60.0), log_moneyness=(-0.4, 0.0, 0.1),
    )  # fmt: skip

    vols = np.array(found.table["implied_vol"].to_numpy(zero_copy_only=False), dtype=float).reshape(3, 3)
    np.testing.assert_allclose(vols[1, 1:], 0.4, atol=1e-4)
    assert np.isnan(vols[[0, 2]]).all()
    assert np.isnan(vols[:, 0]).all()
    assert set(found.table["n_quotes"].to_pylist()) == {8}


def test_quote_in_the_money_has_no_part_in_the_surface() -> None:
    quotes = [_quote(0.4, days=20, strike=strike, is_call=strike > _SPOT) for strike in (90.0, 110.0)]
    quotes.append(_quote(0.9, days=20, strike=90.0, is_call=True))

    found = option_surface(
        _library(quotes).tables, _asked(), model=OptionModel(rate=0.03, extrapolation="flat"),
        at_us=np.array([us(at(2))]), tenor_days=(20.0,), log_moneyness=(0.0,),
    )  # fmt: skip

    assert found.table["n_quotes"].to_pylist() == [2]
    assert found.table["implied_vol"][0].as_py() == pytest.approx(0.4, abs=1e-3)


def test_flat_extrapolation_is_used_only_when_asked_and_changes_the_signature() -> None:
    quotes = [_quote(0.4, days=10, strike=strike, is_call=strike > _SPOT) for strike in (90.0, 110.0)]
    asked = {"at_us": np.array([us(at(2))]), "tenor_days": (60.0,), "log_moneyness": (0.5,)}
    flat = OptionModel(rate=0.03, extrapolation="flat")

    none, wide = (
        option_surface(_library(quotes).tables, _asked(), model=model, **asked)
        for model in (_MODEL, flat)  # type: ignore[arg-type]
    )

    assert none.table["implied_vol"].to_pylist() == [None]
    assert wide.table["implied_vol"][0].as_py() == pytest.approx(0.4, abs=1e-3)
    assert none.signature != wide.signature


def test_surface_at_a_time_knows_only_the_quotes_of_that_time_and_forgets_old_ones() -> None:
    first = [_quote(0.4, days=20, strike=strike, is_call=strike > _SPOT, event=1) for strike in (90.0, 110.0)]
    second = [_quote(0.6, days=20, strike=strike, is_call=strike > _SPOT, event=3, known=5) for strike in (90.0, 110.0)]
    library = _library(first + second)

    found = option_surface(
        library.tables, _asked(40), model=_MODEL, at_us=np.array([us(at(step)) for step in (1, 4, 5, 16)]),
        tenor_days=(20.0,), log_moneyness=(0.0,),
    )  # fmt: skip

    # Contracts are named by strike and days, so the second quote replaces the first; after an hour nothing stands.
    # The tenor of 20 days is reached at the quote's own time only, a moment later it lies beyond the last expiry.
    quotes = found.table["n_quotes"].to_pylist()
    assert quotes == [2, 2, 2, 0]


def test_surface_shows_each_time_the_revision_that_was_known_then() -> None:
    strikes = (90.0, 110.0)
    library = _library([_quote(0.4, days=20, strike=k, is_call=k > _SPOT, event=1) for k in strikes])
    corrected = [_quote(0.6, days=20, strike=k, is_call=k > _SPOT, event=1, known=5, revision=1) for k in strikes]
    put_rows(library, "option_quotes", corrected, market="made.up.options")

    found = option_surface(
        library.tables, _asked(), model=OptionModel(rate=0.03, extrapolation="flat"),
        at_us=np.array([us(at(step)) for step in (4, 5)]), tenor_days=(20.0,), log_moneyness=(0.0,),
    )  # fmt: skip

    assert found.table["implied_vol"].to_pylist() == [pytest.approx(0.4, abs=1e-3), pytest.approx(0.6, abs=1e-3)]


def test_total_variance_is_linear_in_strike_and_in_time() -> None:
    near = Smile(0.25, np.array([-0.2, 0.2]), np.array([0.04, 0.06]))
    far = Smile(0.75, np.array([-0.2, 0.2]), np.array([0.10, 0.14]))

    vol = interpolated_vol(
        (near, far), years=np.array([0.25, 0.5, 0.75]), log_moneyness=np.array([0.0, 0.1, 0.2]), extrapolation="none"
    )

    variance = [0.05, (0.055 + 0.13) / 2, 0.14]
    np.testing.assert_allclose(np.square(vol) * [0.25, 0.5, 0.75], variance, rtol=1e-12)


def test_two_quotes_of_one_strike_count_as_their_mean_and_expired_ones_not_at_all() -> None:
    expires = np.array([10, 10, 10, 5])
    years = np.array([0.25, 0.25, 0.25, -0.1])

    (smile,) = smiles_of(expires, years, np.array([0.0, 0.0, 0.1, 0.0]), np.array([0.4, 0.6, 0.5, 0.5]))

    assert smile.log_moneyness.tolist() == [0.0, 0.1]
    np.testing.assert_allclose(smile.total_variance, [0.25 * (0.16 + 0.36) / 2, 0.25 * 0.25])


def test_variance_that_falls_with_time_is_counted() -> None:
    near = Smile(0.25, np.array([-0.2, 0.0, 0.2]), np.array([0.04, 0.05, 0.06]))
    far = Smile(0.75, np.array([-0.2, 0.2]), np.array([0.03, 0.14]))

    assert n_calendar_breaks((near, far)) == 1


def test_signatures_of_two_methods_differ() -> None:
    assert signature_of("none") != signature_of("flat")
    assert OptionModel(rate=0.03).signature != OptionModel(rate=0.04).signature


def test_underlying_without_quotes_is_refused() -> None:
    with pytest.raises(Refused, match="no_data"):
        option_greeks(memory_library().tables, _asked(), model=_MODEL)
