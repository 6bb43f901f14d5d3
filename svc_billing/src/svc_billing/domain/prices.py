"""The price list. A call that no rule prices is refused; nothing is ever taken for free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from qraft_contracts.billing import INVALID, PRICE_CHANGED, PRICE_UNKNOWN, Estimate, PricedItem, ReserveCredits
from qraft_contracts.outcomes import Refused

# The widest call any known provider takes is 10 pictures and 16 references; the rest is room.
N_PICTURES_MAX: Final = 100
N_REFERENCES_MAX: Final = 100
N_RULES_MAX: Final = 10_000
# 10**15 micro-credits are a billion credits; sums of them stay far inside 64 bits.
AMOUNT_MAX: Final = 10**15
PRICE_MAX: Final = AMOUNT_MAX // (N_PICTURES_MAX + N_REFERENCES_MAX)

PriceKey = tuple[str, str, str, str, str]


class PriceRule(msgspec.Struct, frozen=True):
    """
    The price of one picture of one kind of call, in micro-credits.

    size and quality are matched as they stand: `auto` is priced by a rule that says `auto`, and by no other.
    """

    provider: str
    model: str
    operation: str  # generation | edit | variation
    size: str
    quality: str
    per_image_microcredits: int
    per_reference_microcredits: int = 0

    @property
    def key(self) -> PriceKey:
        """Return what the rule is found by."""
        return (self.provider, self.model, self.operation, self.size, self.quality)


class FrozenPrice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An estimate as an event keeps it: the same fields, half the bytes."""

    price_version: int
    per_image: int
    references: int
    total: int
    n: int

    @classmethod
    def of(cls, estimate: Estimate) -> FrozenPrice:
        """Return an estimate to be kept."""
        return cls(
            estimate.price_version,
            estimate.per_image_microcredits,
            estimate.references_microcredits,
            estimate.total_microcredits,
            estimate.n,
        )

    def estimate(self) -> Estimate:
        """Return the estimate as others are told."""
        return Estimate(self.price_version, self.per_image, self.references, self.total, self.n)


@dataclass(frozen=True, slots=True)
class PriceList:
    """One published version. Version 0 is the empty list that was never published."""

    version: int
    rules: dict[PriceKey, PriceRule]

    @classmethod
    def of(cls, version: int, rules: Iterable[PriceRule]) -> PriceList:
        """Return a list of checked rules."""
        return cls(version, {rule.key: rule for rule in rules})

    def estimate(self, item: PricedItem) -> Estimate:
        """
        Return the upper bound of a call's price.

        Raises:
            Refused: invalid, or price_unknown if no rule says this call's price.
        """
        if not 1 <= item.n <= N_PICTURES_MAX or not 0 <= item.n_references <= N_REFERENCES_MAX:
            raise Refused(
                INVALID,
                f"expected 1 to {N_PICTURES_MAX} pictures and 0 to {N_REFERENCES_MAX} references,"
                f" received {item.n} and {item.n_references}",
            )
        rule = self.rules.get((item.provider, item.model, item.operation, item.size, item.quality))
        if rule is None:
            raise Refused(
                PRICE_UNKNOWN,
                f"price list {self.version} has no price for {item.provider}/{item.model} {item.operation}"
                f" {item.size} {item.quality}: publish one, or ask for a priced size and quality",
            )
        references = rule.per_reference_microcredits * item.n_references
        per_image = rule.per_image_microcredits
        return Estimate(self.version, per_image, references, per_image * item.n + references, item.n)


NO_PRICES: Final = PriceList(0, {})


def check_shown(estimate: Estimate, command: ReserveCredits) -> None:
    """
    Compare a price with what the person was shown.

    An equal amount is the same price, whatever version it comes from; without an amount the version decides.

    Raises:
        Refused: price_changed.
    """
    expected, version = command.expected_microcredits, command.price_version
    if expected is None:
        is_same = version is None or version == estimate.price_version
    else:
        is_same = expected == estimate.total_microcredits
    if not is_same:
        raise Refused(
            PRICE_CHANGED,
            f"expected {expected} micro-credits by price list {version}, now {estimate.total_microcredits} by"
            f" {estimate.price_version}: show the new price and ask again",
        )


def check_rules(rules: tuple[PriceRule, ...]) -> None:
    """
    Check a list before it is published.

    Raises:
        Refused: invalid, naming the first rule that is wrong.
    """
    if not 1 <= len(rules) <= N_RULES_MAX:
        raise Refused(INVALID, f"expected 1 to {N_RULES_MAX} rules, received {len(rules)}")
    seen: set[PriceKey] = set()
    for rule in rules:
        if rule.key in seen:
            raise Refused(INVALID, f"expected one rule a kind of call, received two for {'/'.join(rule.key)[:200]}")
        seen.add(rule.key)
        if not all(part and part.isprintable() and len(part) <= 200 for part in rule.key):
            raise Refused(INVALID, f"expected names of 1 to 200 printable characters, received {rule.key!r:.300}")
        for price in (rule.per_image_microcredits, rule.per_reference_microcredits):
            if not 0 <= price <= PRICE_MAX:
                raise Refused(INVALID, f"expected prices of 0 to {PRICE_MAX}, received {price} for {rule.key[1]}")
