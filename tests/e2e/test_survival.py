"""
Real processes are killed while a real day is replayed; what was decided must be the same bytes.

Every test prints its seed. `make soak` runs the random one for as long as one likes.
"""

import asyncio
import os
import random
import signal
import time
from contextlib import suppress

import nats
import psutil
import pytest
from tests.e2e.same_day import SPEED, same

from qraft_cli.stack.services import SERVICES

pytestmark = [pytest.mark.stack, pytest.mark.data]

POSTGRES_AWAY_S = 60.0


def _pid(stack, name):
    return next(info.pid for info in stack.supervisor.processes() if info.name == name)


def kills(names, *, n_each, seed, pause_s=(0.3, 1.5)):
    """Return a disturbance that kills each named process n times, in random order, at random moments."""

    async def disturb(stack):
        chance = random.Random(seed)
        plan = [name for name in names for _ in range(n_each)]
        chance.shuffle(plan)
        for name in plan:
            await asyncio.sleep(chance.uniform(*pause_s))
            pid = _pid(stack, name)
            # A service whose connection was closed has ended by itself and is about to be started again.
            with suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    print(f"killed {name} ({pid})")

    return disturb


def test_the_same_day_again_gives_the_same_bytes(play_day, undisturbed):
    assert undisturbed.n_orders >= 20

    same(play_day(), undisturbed)


def test_killing_every_service_changes_nothing(play_day, undisturbed):
    same(play_day(speed=SPEED, disturb=kills(SERVICES, n_each=2, seed=11)), undisturbed)


def test_killing_the_bus_changes_nothing(play_day, undisturbed):
    same(play_day(speed=SPEED, disturb=kills(("nats-server",), n_each=3, seed=12, pause_s=(1, 3))), undisturbed)


def test_killing_postgres_changes_nothing(play_day, undisturbed):
    same(play_day(speed=SPEED, disturb=kills(("postgres",), n_each=2, seed=14, pause_s=(1, 4))), undisturbed)


def test_postgres_away_for_a_minute_changes_nothing(play_day, undisturbed):
    """Frozen with all its backends: connections stay open and nothing answers, the hardest way to be away."""

    async def disturb(stack):
        await asyncio.sleep(2)
        server = psutil.Process(_pid(stack, "postgres"))
        frozen = [server, *server.children(recursive=True)]
        for process in frozen:
            process.suspend()
        await asyncio.sleep(POSTGRES_AWAY_S)
        for process in frozen:
            process.resume()

    same(play_day(speed=SPEED, disturb=disturb), undisturbed)


BAD = [
    ("bars.5m", b"\x00 no arrow at all", {"Qraft-Schema": "bars/1"}),
    ("bars.5m", b"", {"Qraft-Schema": "bars/1"}),
    ("bars.5m", b"{}", {"Qraft-Schema": "bars/9"}),
    ("features.ready", b"ARROW1\x00\x00", {"Qraft-Schema": "features/1"}),
    ("signals.1h", b'{"horizon": 3}', {"Qraft-Schema": "signals/1"}),
    ("signals.4h", b"[1,2", {"Qraft-Schema": "signals/1"}),
    ("targets.paper", b'{"market":"crypto"}', {"Qraft-Schema": "targets/1"}),
    ("targets.paper", b"\xff\xfe", {}),
]
# Bars are read by two services, targets by one: 3 × 2 bars, 1 + 2 + 2 others.
N_REFUSALS = 11


def test_bad_messages_are_dead_letters_and_nothing_after_them_is_lost(play_day, undisturbed):
    seen = {}

    async def disturb(stack):
        connection = await nats.connect(stack.nats_url)
        jetstream = connection.jetstream()
        for i, (subject, data, headers) in enumerate(BAD):
            await asyncio.sleep(0.4)
            full = {
                "Nats-Msg-Id": f"bad/{i}", "Qraft-As-Of": "2025-09-02T00:00:00Z", "Qraft-Origin": "replay",
                "Qraft-Lineage": "test", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
            }  # fmt: skip
            await jetstream.publish(subject, data, headers=full | headers)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and seen.get("n", 0) < N_REFUSALS:
            info = await jetstream.stream_info("DEADLETTER")
            seen["n"] = info.state.messages
            await asyncio.sleep(0.2)
        await connection.close()

    played = play_day(speed=SPEED, disturb=disturb)

    assert seen["n"] == N_REFUSALS
    same(played, undisturbed)


def test_duplicated_and_reordered_messages_change_nothing(play_day, undisturbed):
    async def disturb(stack):
        chance = random.Random(13)
        connection = await nats.connect(stack.nats_url)
        jetstream = connection.jetstream()
        for round_ in range(4):
            await asyncio.sleep(1.5)
            for subject in ("bars.5m", "features.ready", "signals.1d", "targets.paper"):
                stream = await jetstream.find_stream_name_by_subject(subject)
                last = (await jetstream.stream_info(stream)).state.last_seq
                for sequence in chance.sample(range(max(1, last - 30), last + 1), k=min(3, last)):
                    try:
                        old = await jetstream.get_msg(stream, sequence)
                    except nats.js.errors.NotFoundError:
                        continue
                    if old.subject.split(".")[0] != subject.split(".")[0]:
                        continue
                    headers = dict(old.headers or {}) | {"Nats-Msg-Id": f"again/{round_}/{sequence}"}
                    await jetstream.publish(old.subject, old.data, headers=headers)
        await connection.close()

    same(play_day(speed=SPEED, disturb=disturb), undisturbed)


@pytest.mark.soak
def test_soak(play_day, undisturbed, soak_minutes):
    deadline = time.monotonic() + 60 * soak_minutes
    seed, n_kills = int(time.time()), 0
    while time.monotonic() < deadline:
        print(f"seed {seed}")
        disturb = kills((*SERVICES, "nats-server"), n_each=2, seed=seed)
        same(play_day(speed=SPEED, disturb=disturb), undisturbed)
        n_kills += 2 * (len(SERVICES) + 1)
        seed += 1
    print(f"{n_kills} kills, no difference")
