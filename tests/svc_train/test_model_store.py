import pytest

from qraft_store.artefacts.memory import MemoryArtefactStore
from svc_train.adapters.model_store import save_model, save_run_log

MODEL_ID = "m0123456789abcdef"
FILES = {"manifest.json": b"{}", "model.onnx": b"graph", "evidence/parity.json": b"p"}


@pytest.fixture
def store():
    return MemoryArtefactStore()


async def test_files_are_stored_under_the_model(store):
    assert await save_model(store, MODEL_ID, FILES, run_id="t1") == []

    assert await store.keys("models/") == [f"models/{MODEL_ID}/{path}" for path in sorted(FILES)]
    assert await store.get(f"models/{MODEL_ID}/model.onnx") == b"graph"


async def test_second_run_of_the_same_model_adds_nothing(store):
    await save_model(store, MODEL_ID, FILES, run_id="t1")

    assert await save_model(store, MODEL_ID, FILES, run_id="t1") == []
    assert len(await store.keys("")) == len(FILES)


async def test_first_manifest_of_a_model_stands_and_the_other_is_kept_aside(store):
    await save_model(store, MODEL_ID, FILES, run_id="t1")

    differing = await save_model(store, MODEL_ID, {**FILES, "manifest.json": b"other"}, run_id="t2")

    assert differing == ["manifest.json"]
    assert await store.get(f"models/{MODEL_ID}/manifest.json") == b"{}"
    assert await store.get(f"models/{MODEL_ID}/runs/t2/manifest.json") == b"other"


async def test_unfinished_model_is_completed(store):
    await store.put(f"models/{MODEL_ID}/model.onnx", b"graph")

    await save_model(store, MODEL_ID, FILES, run_id="t1")

    assert await store.get(f"models/{MODEL_ID}/manifest.json") == b"{}"


async def test_unfinished_model_with_other_bytes_is_refused(store):
    await store.put(f"models/{MODEL_ID}/model.onnx", b"something else")

    with pytest.raises(ValueError, match=r"model\.onnx"):
        await save_model(store, MODEL_ID, FILES, run_id="t1")
    assert f"models/{MODEL_ID}/manifest.json" not in await store.keys("")


async def test_every_run_leaves_its_own_log(store):
    for started_at in ("20250601T000500000000Z", "20250601T000501000000Z"):
        await save_run_log(store, MODEL_ID, started_at.encode(), started_at=started_at)

    assert len(await store.keys(f"models/{MODEL_ID}/runs/")) == 2
