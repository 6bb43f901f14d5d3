"""Every kind of fault: the right outcome, in time, after exactly one call, without a word of the key."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.svc_imagegen.providers.certificates import client_tls, server_tls
from tests.svc_imagegen.providers.fault_provider import (
    KINDS,
    NOT_DELIVERED,
    PNG,
    REFUSED_PICTURE,
    REJECTED,
    REQUEST_ID,
    SUCCESS,
    THROTTLED,
    UNCERTAIN,
    FaultProvider,
    picture_body,
)
from tests.svc_imagegen.providers.fault_server import FaultServer, Reply, Request
from tests.svc_imagegen.providers.kit import KEY, TIMEOUT_S, StubResolve, generation, make_provider
from yarl import URL

from svc_imagegen.adapters.pictures import ProcessPictures
from svc_imagegen.domain.outcome import (
    BadPicture,
    NotDelivered,
    ProviderAnswer,
    ProviderOutcome,
    Rejected,
    Throttled,
    Uncertain,
)

_CLASSES: dict[type[ProviderOutcome], str] = {
    NotDelivered: NOT_DELIVERED,
    Throttled: THROTTLED,
    Rejected: REJECTED,
    Uncertain: UNCERTAIN,
    BadPicture: "bad_picture",
}
# Beyond the limit itself: reading an error's text, three tries of a download, a busy machine.
_GRACE_S = 2.0


@pytest_asyncio.fixture
async def faults() -> AsyncIterator[FaultProvider]:
    async with FaultProvider() as provider:
        yield provider


def _outcome_of(result: ProviderAnswer | ProviderOutcome) -> str:
    if isinstance(result, ProviderAnswer):
        return SUCCESS
    return next(name for kind, name in _CLASSES.items() if isinstance(result, kind))


async def _call(faults: FaultProvider, kind: str, *, attempt_id: str) -> ProviderAnswer | ProviderOutcome:
    provider = make_provider(faults.base_url(kind), tls=client_tls())
    try:
        return await provider.generate(generation(n=KINDS[kind].n), (), attempt_id=attempt_id)
    except ProviderOutcome as error:
        return error
    finally:
        await provider.close()


def test_there_are_thirty_kinds_of_fault_and_more() -> None:
    assert sum(it.outcome != SUCCESS for it in KINDS.values()) >= 60


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_fault_means_for_money_what_it_says_and_is_called_once(
    faults: FaultProvider, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    expected = KINDS[kind]
    began_s = time.monotonic()

    result = await _call(faults, kind, attempt_id=f"job-1/{kind}")

    assert time.monotonic() - began_s < TIMEOUT_S + _GRACE_S
    assert _outcome_of(result) == (SUCCESS if expected.outcome == REFUSED_PICTURE else expected.outcome)
    assert faults.calls == ({f"job-1/{kind}": 1} if expected.is_called else {}) | _picture_downloads(faults)
    assert faults.inside.n_connections == 0
    if isinstance(result, ProviderOutcome):
        assert result.cause == expected.cause
        told = [str(result), repr(result), result.detail, "".join(traceback.format_exception(result)), caplog.text]
        assert not any(KEY in it for it in told)


def _picture_downloads(faults: FaultProvider) -> dict[str, int]:
    """Fetching a picture by GET carries no attempt id; it costs nothing and may be repeated."""
    n = sum(it.method == "GET" for it in faults.server.requests)
    return {"": n} if n else {}


@pytest.mark.parametrize("kind", sorted(it for it, kind in KINDS.items() if kind.outcome == SUCCESS))
async def test_a_success_holds_the_bytes_that_the_provider_sent(faults: FaultProvider, kind: str) -> None:
    result = await _call(faults, kind, attempt_id="a")

    assert isinstance(result, ProviderAnswer)
    assert [it.data for it in result.pictures] == [PNG]


async def test_more_pictures_than_ordered_are_shown_in_the_usage_and_not_delivered(faults: FaultProvider) -> None:
    result = await _call(faults, "more_pictures", attempt_id="a")

    assert isinstance(result, ProviderAnswer)
    assert len(result.pictures) == 1
    assert result.usage["pictures_sent"] == 3


@pytest.mark.parametrize(
    ("kind", "retry_after_s"),
    [
        ("throttled_seconds", 7.0),
        ("throttled_date", 30.0),
        ("throttled_past_date", 1.0),
        ("throttled_milliseconds", 2.5),
        ("throttled_silently", 5.0),
        ("throttled_for_ever", 300.0),
        ("throttled_garbage", 5.0),
    ],
)
async def test_retry_after_is_read_in_every_form_and_bounded(
    faults: FaultProvider, kind: str, retry_after_s: float
) -> None:
    result = await _call(faults, kind, attempt_id="a")

    assert isinstance(result, Throttled)
    assert result.retry_after_s == retry_after_s


@pytest.mark.parametrize("kind", ["server_error", "mid_body_timeout", "close_after_headers", "close_mid_body"])
async def test_an_uncertain_outcome_keeps_the_request_id_that_came_before_the_cut(
    faults: FaultProvider, kind: str
) -> None:
    result = await _call(faults, kind, attempt_id="a")

    assert isinstance(result, Uncertain)
    assert result.provider_request_id == REQUEST_ID


@pytest.mark.parametrize(
    ("kind", "task_id"), [("relay_task", "t-1"), ("relay_task_plain", "t-2"), ("accepted_202", "t-3")]
)
async def test_a_relay_that_took_the_order_is_uncertain_with_its_task(
    faults: FaultProvider, kind: str, task_id: str
) -> None:
    result = await _call(faults, kind, attempt_id="a")

    assert isinstance(result, Uncertain)
    assert result.provider_request_id == f"task/{task_id}"


async def test_the_policy_refusal_names_the_prompt(faults: FaultProvider) -> None:
    result = await _call(faults, "content_policy", attempt_id="a")

    assert isinstance(result, Rejected)
    assert result.param == "prompt"
    assert "blocked" in result.detail


async def test_a_storm_of_errors_is_one_call_an_attempt_and_every_attempt_uncertain(faults: FaultProvider) -> None:
    provider = make_provider(faults.base_url("server_error"))

    results = await asyncio.gather(
        *(provider.generate(generation(), (), attempt_id=f"a/{it}") for it in range(40)), return_exceptions=True
    )

    await provider.close()
    assert all(isinstance(it, Uncertain) for it in results)
    assert faults.calls == {f"a/{it}": 1 for it in range(40)}


async def test_a_prompt_chooses_the_fault_for_a_test_of_the_whole_service(faults: FaultProvider) -> None:
    provider = make_provider(faults.base_url("by_prompt"))

    with pytest.raises(BadPicture):
        await provider.generate(generation("fox [fault:html_200]"), (), attempt_id="a")
    answer = await provider.generate(generation("fox"), (), attempt_id="b")

    await provider.close()
    assert len(answer.pictures) == 1


async def test_a_canceled_call_is_neither_repeated_nor_swallowed(faults: FaultProvider) -> None:
    provider = make_provider(faults.base_url("first_byte_timeout"))
    call = asyncio.create_task(provider.generate(generation(), (), attempt_id="a"))
    while not faults.calls:
        await asyncio.sleep(0.01)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await provider.close()
    assert faults.calls == {"a": 1}


async def test_a_kept_connection_is_never_used_twice(faults: FaultProvider) -> None:
    provider = make_provider(faults.base_url("ok"))

    for attempt in range(3):
        await provider.generate(generation(), (), attempt_id=f"a/{attempt}")

    await provider.close()
    assert faults.server.n_connections == 3


async def test_the_next_address_of_a_name_is_tried_where_the_first_takes_nobody(faults: FaultProvider) -> None:
    port = URL(faults.base_url("ok")).port
    resolve = StubResolve({"two.test": [["127.0.0.9", "127.0.0.1"]]})
    provider = make_provider(f"http://two.test:{port}/ok/v1", resolve=resolve)

    answer = await provider.generate(generation(), (), attempt_id="a")

    await provider.close()
    assert len(answer.pictures) == 1
    assert faults.calls == {"a": 1}


async def test_tls_of_a_known_authority_is_spoken() -> None:
    async def handler(_request: Request, reply: Reply) -> None:
        await reply.json(picture_body(PNG))

    async with FaultServer(handler, tls=server_tls("127.0.0.1").trusted) as server:
        provider = make_provider(f"{server.origin}/v1", tls=client_tls())
        answer = await provider.generate(generation(), (), attempt_id="a")
        await provider.close()

    assert answer.pictures[0].data == PNG


async def test_what_the_adapter_passes_on_is_told_apart_by_the_verifier(faults: FaultProvider) -> None:
    pictures = ProcessPictures(n_workers=1)
    await pictures.open()
    found: dict[str, str] = {}

    for kind in [it for it, kind in KINDS.items() if kind.outcome in (SUCCESS, REFUSED_PICTURE)]:
        answer = await _call(faults, kind, attempt_id=kind)
        assert isinstance(answer, ProviderAnswer)
        try:
            await pictures.verify(answer.pictures[0].data)
            found[kind] = SUCCESS
        except BadPicture:
            found[kind] = REFUSED_PICTURE

    await pictures.close()
    assert found == {it: KINDS[it].outcome for it in found}
    assert set(found.values()) == {SUCCESS, REFUSED_PICTURE}
