"""One behaviour suite for every ArtefactStore: the twin, a local folder, and S3 over real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.libs.store.s3_server import serve_s3

from qraft_contracts.outcomes import Transient
from qraft_store.artefacts.memory import MemoryArtefactStore
from qraft_store.artefacts.objects import ObjectArtefactStore
from qraft_store.artefacts.port import ArtefactStore

MODEL = b"\x08\x07onnx"


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtefactStore]:
    if request.param == "memory":
        yield MemoryArtefactStore()
    elif request.param == "folder":
        yield ObjectArtefactStore(tmp_path / "artefacts")
    else:
        with serve_s3() as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            monkeypatch.setenv("AWS_REGION", "us-east-1")
            yield ObjectArtefactStore("s3://qraft/artefacts")


async def test_bytes_come_back_with_their_sha256(store: ArtefactStore) -> None:
    fingerprint = await store.put("models/m01/model.onnx", MODEL)

    assert fingerprint == hashlib.sha256(MODEL).hexdigest()
    assert await store.get("models/m01/model.onnx", sha256=fingerprint) == MODEL


async def test_same_bytes_again_are_accepted_and_others_refused(store: ArtefactStore) -> None:
    await store.put("models/m01/model.onnx", MODEL)

    await store.put("models/m01/model.onnx", MODEL)
    with pytest.raises(ValueError, match="never change"):
        await store.put("models/m01/model.onnx", b"other")

    assert await store.get("models/m01/model.onnx") == MODEL


async def test_missing_key_is_a_key_error(store: ArtefactStore) -> None:
    with pytest.raises(KeyError):
        await store.get("models/m99/model.onnx")


async def test_wrong_sha256_is_refused(store: ArtefactStore) -> None:
    await store.put("models/m01/model.onnx", MODEL)

    with pytest.raises(ValueError, match="was changed"):
        await store.get("models/m01/model.onnx", sha256="0" * 64)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "models/../../x", "models//x", ".hidden", "a b", "a/"])
async def test_key_that_could_leave_the_store_is_refused(store: ArtefactStore, key: str) -> None:
    with pytest.raises(ValueError, match="expected a key"):
        await store.put(key, MODEL)
    with pytest.raises(ValueError, match="expected a key"):
        await store.get(key)


async def test_keys_are_sorted_and_prefixes_need_not_end_at_a_slash(store: ArtefactStore) -> None:
    for key in ("models/m02/a.json", "models/m01/b.json", "models/m01/a.json", "reports/r1.html"):
        await store.put(key, key.encode())

    assert await store.keys("models/m01/") == ["models/m01/a.json", "models/m01/b.json"]
    assert await store.keys("models/m") == ["models/m01/a.json", "models/m01/b.json", "models/m02/a.json"]
    assert len(await store.keys("")) == 4
    assert await store.keys("nothing/") == []


async def test_empty_object_is_an_object(store: ArtefactStore) -> None:
    await store.put("empty", b"")

    assert await store.get("empty") == b""


async def test_writers_at_once_leave_one_whole_object(store: ArtefactStore) -> None:
    contents = [bytes([i]) * 100_000 for i in range(8)]

    results = await asyncio.gather(*(store.put("race", data) for data in contents), return_exceptions=True)

    winners = [data for data, result in zip(contents, results, strict=True) if isinstance(result, str)]
    assert [await store.get("race")] == winners


async def test_folder_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    folder = tmp_path / "artefacts"
    store = ObjectArtefactStore(folder)
    (folder / "models").write_text("a file where a folder is needed")

    with pytest.raises(Transient, match="artefacts_away"):
        await store.put("models/m01/model.onnx", MODEL)
