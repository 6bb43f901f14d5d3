"""What execution does with each event: trade a bar, decide on targets, hold, turn away. One transaction each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.targets import Targets
from qraft_frames.bars import BarBatch
from qraft_quant.execution import FillRates
from svc_execution.domain.closes import N_ROWS, CloseWindow, valid_closes
from svc_execution.domain.decide import OrderRules, decide_targets, hold
from svc_execution.domain.refusals import N_EXAMPLES, misaddressed
from svc_execution.domain.state import DecisionRecord, Refusal, State
from svc_execution.domain.trade import trade_bar
from svc_execution.ports import Headers, History, Journal, Told


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What the account trades, with how much and by which rules. start_cash: quote currency, for a new account."""

    market: str
    interval: str
    start_cash: float
    rates: FillRates
    rules: OrderRules


class PaperAccount:
    """
    One market's paper account: the fold over its events, kept in step with the journal.

    After any failed commit the state counts as unknown (the transaction may or may not have been stored) and is read
    from the journal again before the next event.
    """

    def __init__(self, terms: AccountTerms, *, journal: Journal, history: History, told: Told) -> None:
        self._terms = terms
        self._journal = journal
        self._history = history
        self._told = told
        self._window = CloseWindow()
        self._state: State | None = None

    async def recover(self) -> State:
        """
        Return the state, rebuilt from the journal unless it is known to be in step with it.

        Raises:
            JournalMismatch: if the journal contradicts itself.
        """
        if self._state is None:
            terms = self._terms
            state = await self._journal.load(market=terms.market, interval=terms.interval, start_cash=terms.start_cash)
            if state.last_bar_at is not None:
                await self._load_window(state.last_bar_at)
            self._state = state
        return self._state

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols with a bar in the last day, sorted."""
        return self._window.symbols()

    async def trade_bar(self, bar: BarBatch, *, sha256: str, cause: Headers) -> None:
        """Fill the open orders on the bar, mark the account at its close."""
        before = await self.recover()
        await self._extend_window(bar)
        after, record = trade_bar(before, bar, rates=self._terms.rates, sha256=sha256)
        self._state = None
        await self._journal.commit_bar(after, record, cause=cause)
        self._state = after
        self._told.bar_traded(after, record)

    async def decide(self, targets: Targets, *, sha256: str, cause: Headers) -> None:
        """Turn the targets of the last bar into orders for the next one, or into refusals."""
        before = await self.recover()
        kill_switch = await self._journal.kill_switch()
        after, record = decide_targets(
            before, self._window, targets, kill_switch=kill_switch, rules=self._terms.rules, sha256=sha256
        )
        await self._commit(after, record, cause)

    async def hold(self, *, reason: str) -> None:
        """Record that the targets of the last bar do not come: positions stay, nothing is traded."""
        after, record = hold(await self.recover(), reason=reason)
        await self._commit(after, record, {})

    async def turn_away_targets(self, targets: Targets, *, sha256: str, reason: str) -> None:
        """Record targets that decide nothing, by reason."""
        examples = tuple(target.symbol for target in targets.targets[:N_EXAMPLES])
        await self._refuse(Refusal(targets.as_of, reason, max(len(targets.targets), 1), examples, sha256))

    async def examine_known_targets(self, targets: Targets, *, sha256: str) -> None:
        """
        Record targets whose time is past, unless they are the very message that was decided on.

        The reason follows from the journal, not from which stream was faster.
        """
        decided = await self._journal.targets_sha256(self._terms.market, targets.as_of)
        if decided == sha256:
            return
        if await self._journal.bar_sha256(self._terms.market, targets.as_of) is None:
            reason = "no_bar"
        else:
            reason = "stale_targets" if decided is None else "conflicting_targets"
        await self.turn_away_targets(targets, sha256=sha256, reason=reason)

    async def examine_known_bar(self, closed_at: datetime, *, sha256: str) -> None:
        """Record a bar whose time is past, unless it is the very message that was handled."""
        handled = await self._journal.bar_sha256(self._terms.market, closed_at)
        if handled != sha256:
            await self._refuse(Refusal(closed_at, "late_bar" if handled is None else "conflicting_bar", 1, (), sha256))

    def is_ours(self, bar: BarBatch) -> bool:
        """Return whether a bar belongs to this account."""
        return bar.market == self._terms.market and bar.interval == self._terms.interval

    def misaddressed(self, targets: Targets) -> str | None:
        """Return why targets do not belong to this account, or None."""
        return misaddressed(targets, market=self._terms.market, interval=self._terms.interval)

    async def _commit(self, after: State, record: DecisionRecord, cause: Headers) -> None:
        self._state = None
        await self._journal.commit_decision(after, record, cause=cause)
        self._state = after
        self._told.targets_decided(after, record, cause=cause)
        for refusal in record.refusals:
            self._told.refused(refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        await self._journal.record_refusal(self._terms.market, refusal)
        self._told.refused(refusal)

    async def _extend_window(self, bar: BarBatch) -> None:
        index = self._grid_index(bar.closed_at)
        if self._window.last_index == index:
            return  # the commit of this very bar failed before
        if self._window.follows(index):
            self._window.push(index, bar.symbols, valid_closes(bar.open, bar.close, bar.volume))
        else:
            await self._load_window(bar.closed_at)

    async def _load_window(self, end: datetime) -> None:
        history = await self._history.closes(end=end, n_bars=N_ROWS)
        self._window.load(history.symbols, history.closes, last_index=self._grid_index(end))

    def _grid_index(self, closed_at: datetime) -> int:
        return int(closed_at.timestamp()) // INTERVAL_SECONDS[self._terms.interval]
