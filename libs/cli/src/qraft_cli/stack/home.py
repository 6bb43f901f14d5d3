"""Where the local stack keeps everything: one folder, QRAFT_HOME."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folders below QRAFT_HOME. Deleting the folder forgets everything; nothing lives elsewhere."""

    root: Path

    @property
    def nats(self) -> Path:
        """Return the store of the embedded nats-server."""
        return self.root / "nats"

    @property
    def postgres(self) -> Path:
        """Return the usual data directory of the embedded PostgreSQL; see servers.postgres_data for the other."""
        return self.root / "pg"

    @property
    def logs(self) -> Path:
        """Return the folder of one log file a process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Return the folder of what describes the running stack."""
        return self.root / "run"

    @property
    def state_file(self) -> Path:
        """Return the file that says what runs, with pids and addresses."""
        return self.run / "stack.json"

    @property
    def secrets(self) -> Path:
        """Return the folder of tokens and keys; only its owner may enter it."""
        return self.root / "secrets"

    @property
    def admin_token(self) -> Path:
        """Return the file of the admin token of svc_billing."""
        return self.secrets / "billing-admin.token"

    @property
    def demo_key(self) -> Path:
        """Return the file of the API key of the demonstration account."""
        return self.secrets / "demo-api.key"

    @property
    def operator_key(self) -> Path:
        """Return the file of the API key by which `qraft images accept` and `probe` use the gateway of this home."""
        return self.secrets / "operator-api.key"

    @property
    def prices(self) -> Path:
        """Return the price file that the first start publishes; edited, `qraft ledger prices FILE` publishes it."""
        return self.root / "prices.toml"

    def create(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.root, self.nats, self.logs, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)


def find_home() -> Home:
    """Return the home that QRAFT_HOME names, or `.qraft` in the current folder."""
    return Home(Path(os.environ.get("QRAFT_HOME", ".qraft")).resolve())
