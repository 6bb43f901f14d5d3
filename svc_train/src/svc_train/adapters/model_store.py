"""Where the files of a model go. Artefacts never change, so a second run of the same model keeps the first files."""

from __future__ import annotations

from collections.abc import Mapping

from qraft_registry.artefacts import MANIFEST_FILE, artefact_key
from qraft_store.artefacts.port import ArtefactStore


async def save_model(store: ArtefactStore, model_id: str, files: Mapping[str, bytes], *, run_id: str) -> list[str]:
    """
    Store a model's files under models/<model_id>/ and return the paths that were there already with other bytes.

    The manifest is stored last: a model without one is unfinished and is completed by the next run. When the same
    model comes out of another run (another code revision, say), its first manifest stands, and what differs is kept
    under models/<model_id>/runs/<run_id>/.

    Raises:
        Transient: if the store is away.
        ValueError: if an unfinished model holds other bytes; the message names the key.
    """
    is_complete = artefact_key(model_id, MANIFEST_FILE) in await store.keys(artefact_key(model_id, ""))
    if not is_complete:
        for path in sorted(files, key=lambda path: path == MANIFEST_FILE):
            await store.put(artefact_key(model_id, path), files[path])
        return []
    differing = [path for path in files if await _held(store, artefact_key(model_id, path)) != files[path]]
    for path in differing:
        await store.put(artefact_key(model_id, f"runs/{run_id}/{path}"), files[path])
    return differing


async def save_run_log(store: ArtefactStore, model_id: str, data: bytes, *, started_at: str) -> None:
    """Store what a clock saw of a run, one file a run. started_at: compact, such as 20250601T000500Z."""
    await store.put(artefact_key(model_id, f"runs/{started_at}/run_log.json"), data)


async def _held(store: ArtefactStore, key: str) -> bytes | None:
    try:
        return await store.get(key)
    except KeyError:
        return None
