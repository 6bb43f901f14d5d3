"""Every derived kind as a subject of the proof, on the tables of `tables_of`: posts play the messages of a venue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from qraft_quant.derived import (
    BestQuotes,
    event_density,
    liquidation_flow,
    mark_premium,
    quote_states,
    series_state,
    trade_flow,
)
from qraft_quant.proof.perturb import Output, Tables
from qraft_quant.proof.subjects import BARS, POSTS, Subject, output_of

# Posts are some minutes apart; quotes that far apart would count as silence.
_SILENCE_BARS: Final = 5
_MARK_BARS: Final = 12


@dataclass(frozen=True, slots=True)
class DerivedSubjects:
    """The derived kinds on bars of one interval, which is the step of the flows too."""

    interval_us: int
    n_symbols: int

    def all(self) -> list[Subject]:
        """Return one subject a kind."""
        return [Subject("derived", it) for it in (
            self.quotes, self.trades, self.liquidations, self.series, self.density, self.premium)]  # fmt: skip

    def quotes(self, tables: Tables) -> Output:
        """Return the state of best quotes and their order flow, at each bar's end."""
        ends, posts = tables[BARS].known_at, tables[POSTS]
        bid = np.exp(posts["score"])
        quotes = BestQuotes(posts.known_at, bid, posts["length"], bid * 1.001, posts["length"] + bid)
        found = quote_states(quotes, ends=ends, step_us=self.interval_us, silence_us=_SILENCE_BARS * self.interval_us)
        names = ("spread_frac", "microprice_frac", "queue_imbalance", "order_flow_imbalance")
        return output_of(ends, {f"book_state {name}": getattr(found, name)[:, None] for name in names})

    def trades(self, tables: Tables) -> Output:
        """Return flows of trades; one trade after all others says that their intervals are over, as a clock would."""
        posts = tables[POSTS]
        ended = np.array([int(max(tables[BARS].known_at.max(), posts.known_at.max())) + 2 * self.interval_us])
        known = np.concatenate([posts.known_at, ended])
        price, qty = np.append(np.exp(posts["score"]), 1.0), np.append(posts["length"], 1.0)
        found = trade_flow(known, price, qty, price > 1.0, np.arange(known.size), step_us=self.interval_us)
        names = ("n_trades", "n_taker_buys", "notional", "taker_buy_notional")
        return output_of(found.ends, {f"trade_flow {name}": getattr(found, name)[:, None] for name in names})

    def liquidations(self, tables: Tables) -> Output:
        """Return flows of liquidations by symbol."""
        posts = tables[POSTS]
        found = liquidation_flow(
            posts.known_at, posts["length"], posts["symbol"], n_symbols=self.n_symbols, step_us=self.interval_us
        )
        columns = {"n_liquidations": found.n_liquidations, "liquidation_usd": found.liquidation_usd}
        return output_of(found.ends, {f"liquidation_flow {name}": values for name, values in columns.items()})

    def series(self, tables: Tables) -> Output:
        """Return where the first symbol's closes stand among their last sixty."""
        bars = tables[BARS]
        scores, known = series_state(np.ascontiguousarray(bars["close"][:, 0]), bars.known_at)
        return output_of(np.where(known > 0, known, bars.known_at), {"series_state zscore_60": scores[:, None]})

    def density(self, tables: Tables) -> Output:
        """Return how many posts a day became known, hour by hour, the source being heard as long as there are bars."""
        posts = tables[POSTS].known_at
        heard = int(max(tables[BARS].known_at.max(), posts.max())) + 1
        ends, counts = event_density(posts, until_us=heard)
        return output_of(ends, {"event_density n_events_24h": counts[:, None]})

    def premium(self, tables: Tables) -> Output:
        """Return the premium of a mark that is the open of every twelfth bar."""
        bars = tables[BARS]
        at = bars.known_at[bars.known_at // self.interval_us % _MARK_BARS == 0]
        is_marked = np.isin(bars.known_at, at)
        close, mark = (np.ascontiguousarray(bars[name][:, 0]) for name in ("close", "open"))
        premium = mark_premium(at, mark[is_marked], at, bars.known_at, close)
        return output_of(at, {"mark_premium premium_frac": premium[:, None]})
