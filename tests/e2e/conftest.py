"""One trained model and one undisturbed day for all end-to-end tests; every part is a real process."""

import asyncio
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qraft_cli import line, story
from qraft_cli.stack.home import Home
from qraft_cli.stack.local import LocalStack
from qraft_contracts.times import format_instant

START = datetime(2025, 9, 2, tzinfo=UTC)
DAY = timedelta(days=1)
# A quick model: the survival tests ask whether decisions are the same, not whether they are good.
TRAIN_DAYS = 75
QUICK_TRAINING = {"QRAFT_TRAIN_N_TREES": "16", "QRAFT_TRAIN_ROW_STRIDE": "6"}
# Thresholds low enough that the quick model trades on most bars; the profile's name says what it is.
LIMITS = {"QRAFT_ALLOCATOR_PROFILE": "demo"}


@pytest.fixture(scope="session")
def short_folder():
    """Return a folder with a short path: a unix socket's path may have 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="qe2e-"))
    folder.chmod(0o755)  # PostgreSQL runs as another account when we are root
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Trained:
    """A model that passed through the trainer, and where its artefacts are."""

    model_id: str
    artefacts: str
    dataset: Path
    home: Home


@pytest.fixture(scope="session")
def trained(qraft_data, short_folder):
    """Load real bars, train a model on them, stop everything."""
    dataset = qraft_data / "bars" / "perp_5m_2025"
    home = Home(short_folder / "train")
    environment = {
        "QRAFT_INGEST_SOURCE": "files",
        "QRAFT_INGEST_DATASET": str(dataset),
        "QRAFT_INGEST_HISTORY_FROM": format_instant(START - timedelta(days=TRAIN_DAYS)),
        "QRAFT_INGEST_REPLAY_FROM": format_instant(START),
        "QRAFT_TRAIN_UNTIL": format_instant(START),
        **QUICK_TRAINING,
    }

    async def train():
        stack = LocalStack(home, environment=environment, origin="replay")
        try:
            await stack.start_servers()
            await story.run_job(stack, "svc_ingest", ("load",), story.silent)
            return await story.run_job(stack, "svc_train", (), story.silent)
        finally:
            await stack.stop()

    result = asyncio.run(train())
    return Trained(result["model_id"], str(home.root / "artefacts"), dataset, home)


@pytest.fixture(scope="session")
def play_day(trained, short_folder):
    """Return a function that plays the day in a fresh line, perhaps disturbed."""
    names = iter(range(1_000))

    def play(*, disturb=None, speed=0.0, days=1, timeout_s=240, environment=None, setting=nullcontext):
        home = Home(short_folder / f"line{next(names)}")
        stretch = line.Stretch(
            trained.dataset, START, START + days * DAY, trained.model_id, trained.artefacts, speed=speed
        )
        try:
            with setting(home):
                return asyncio.run(
                    line.play(
                        home, stretch, timeout_s=timeout_s, progress=story.silent, disturb=disturb,
                        environment=LIMITS | (environment or {}),
                    )
                )  # fmt: skip
        except TimeoutError:
            print_logs(home)
            raise
        finally:
            shutil.rmtree(home.root, ignore_errors=True)

    return play


def print_logs(home, n_lines=15):
    """Print the end of every log, for the report of a test that failed: its home is gone afterwards."""
    for path in sorted(home.logs.glob("*.log")):
        print(f"--- {path.name}")
        print("\n".join(path.read_text(errors="replace").splitlines()[-n_lines:]))


@pytest.fixture(scope="session")
def undisturbed(play_day):
    """Return what the day decides when nothing goes wrong."""
    return play_day()
