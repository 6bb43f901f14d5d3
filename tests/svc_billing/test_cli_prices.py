"""Amounts and price files as an operator writes them: exact, or refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svc_billing.domain.prices import AMOUNT_MAX, PriceList, PriceRule
from svc_billing.usecases.credits import format_credits, parse_credits
from svc_billing.usecases.prices import is_current, prices_operation_id, read_price_file, write_price_file

TABLE = """
[[price]]
provider = "simulated"
model = "simulated-1"
operation = ["generation", "edit"]
size = ["1024x1024", "auto"]
quality = "high"
per_image = {per_image}
"""


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("1", 10**6), ("12.5", 12_500_000), ("0.000001", 1), ("0.1", 100_000), ("1000000000", 10**15)],
)
def test_credits_are_read_exactly(text, amount):
    assert parse_credits(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1e3", "1,5", ".5", "5.", "0.0000001", "1_000", "NaN", "inf", " 1", "1 ", "٣", "1000000000.000001",
     "9" * 400],
)  # fmt: skip
def test_what_is_no_plain_decimal_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        parse_credits(text)


@given(st.integers(0, AMOUNT_MAX))
def test_credits_survive_the_round_trip(amount):
    assert parse_credits(format_credits(amount)) == amount


def test_debts_are_written_with_their_sign():
    assert format_credits(-12_500_000) == "-12.5"


@pytest.mark.parametrize(
    ("written", "amount"), [('"4"', 4_000_000), ("4", 4_000_000), ("0.1", 100_000), ("4.0", 4_000_000)]
)
def test_price_is_read_as_written_and_holds_for_every_combination(written, amount):
    rules = read_price_file(TABLE.format(per_image=written))

    assert {(rule.operation, rule.size) for rule in rules} == {
        (operation, size) for operation in ("generation", "edit") for size in ("1024x1024", "auto")
    }
    assert {rule.per_image_microcredits for rule in rules} == {amount}
    assert {rule.per_reference_microcredits for rule in rules} == {0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "received none"),
        ("[[price]", "TOML"),
        ("x = 1\n" + TABLE.format(per_image=1), "received ['x']"),
        ("price = 3", "received none"),
        (TABLE.format(per_image=1) + "colour = 1", "unknown colour"),
        (TABLE.replace("model =", "modell =").format(per_image=1), "missing model, unknown modell"),
        (TABLE.format(per_image="-1"), "per_image"),
        (TABLE.format(per_image="true"), "per_image"),
        (TABLE.format(per_image="nan"), "per_image"),
        (TABLE.format(per_image="0.0000001"), "per_image"),
        (TABLE.format(per_image="1").replace('"high"', "[]"), "quality"),
        (TABLE.format(per_image="1").replace('"high"', "3"), "quality"),
    ],
)
def test_wrong_price_file_is_refused_by_name(text, says):
    with pytest.raises(ValueError) as caught:  # the text is what is tested
        read_price_file(text)

    assert says in str(caught.value)


NAMES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("C",)), min_size=1)


@given(
    st.lists(st.builds(PriceRule, NAMES, NAMES, NAMES, NAMES, NAMES, st.integers(0, 10**12)), min_size=1, max_size=5)
)
def test_price_file_reads_back_as_it_was_written(rules):
    assert read_price_file(write_price_file(rules)) == tuple(rules)


def test_same_list_in_another_order_is_current():
    rules = read_price_file(TABLE.format(per_image=1))

    assert is_current(rules[::-1], PriceList.of(1, rules))
    assert not is_current(rules[1:], PriceList.of(1, rules))


def test_id_of_a_list_depends_on_what_it_follows():
    rules = read_price_file(TABLE.format(per_image=1))

    assert prices_operation_id(rules, after_version=1) == prices_operation_id(rules[::-1], after_version=1)
    assert prices_operation_id(rules, after_version=1) != prices_operation_id(rules, after_version=3)
