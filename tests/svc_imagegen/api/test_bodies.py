"""Bodies that are too large, broken or hostile: refused early, by name, without a trace of money."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.svc_imagegen.api.stage import Person, Stage, png

GENERATE = "/v1/images/generations"
EDIT = "/v1/images/edits"
FORM = b"multipart/form-data; boundary=B"


def post(stage: Stage, person: Person, path: str, **options) -> httpx.Response:
    with httpx.Client(base_url=stage.url, headers=person.headers, timeout=10) as client:
        return client.post(path, **options)


def raw(stage: Stage, request: bytes, *, then: bytes = b"") -> bytes:
    """Send bytes as they are and return what comes until the server closes or is silent."""
    host, port = stage.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.sendall(request)
        if then:
            connection.sendall(then)
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except TimeoutError:
            pass
    return received


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what the gateway does after its answer has gone out."""
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def error_of(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": NaN}', b'{"prompt":"\\ud800"}', b"[" * 100_000, b'"x"'],
)
def test_body_that_is_no_json_object_is_refused(stage, ann, body):
    answer = post(stage, ann, GENERATE, content=body, headers={"content-type": "application/json"})

    assert error_of(answer)[:2] == (400, "invalid_json")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_required_parameter", "prompt"),
        ({"prompt": ""}, "string_below_min_length", "prompt"),
        ({"prompt": "  \n"}, "invalid_value", "prompt"),
        ({"prompt": 7}, "invalid_type", "prompt"),
        ({"prompt": "a\x00b"}, "invalid_value", "prompt"),
        ({"prompt": "x" * 32_001}, "string_above_max_length", "prompt"),
        ({"prompt": "x", "n": 0}, "integer_below_min_value", "n"),
        ({"prompt": "x", "n": "2"}, "invalid_type", "n"),
        ({"prompt": "x", "n": 1.5}, "invalid_type", "n"),
        ({"prompt": "x", "n": 10**400}, "integer_above_max_value", "n"),
        ({"prompt": "x", "stream": "yes"}, "invalid_type", "stream"),
        ({"prompt": "x", "size": "0x0"}, "invalid_value", "size"),
        ({"prompt": "x", "size": "99999x99999"}, "invalid_value", "size"),
        ({"prompt": "x", "output_compression": 50}, "invalid_value", "output_compression"),
        ({"prompt": "x", "model": ""}, "string_below_min_length", "model"),
        ({"prompt": "x", "__class__": "y"}, "unknown_parameter", "__class__"),
        ({"prompt": "x", "seed": {"a": 1}}, "invalid_type", "seed"),
        ({"prompt": "x", **{f"e{i}": 1 for i in range(17)}}, "unknown_parameter", "e0"),
    ],
)
def test_wrong_field_is_named(stage, ann, fields, code, param):
    answer = post(stage, ann, GENERATE, content=json.dumps(fields))

    assert error_of(answer) == (400, code, param)
    assert answer.headers["x-should-retry"] == "false"
    assert stage.holds_of(ann) == []


def test_null_means_the_default_in_every_field(stage, ann):
    names = ("n", "size", "quality", "background", "output_format", "output_compression", "moderation", "stream")

    answer = post(stage, ann, GENERATE, json={"model": "pic-1", "prompt": "nulls", **dict.fromkeys(names)})

    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "é".encode().decode("latin-1")])
def test_idempotency_key_beyond_its_form_is_refused(stage, ann, key):
    answer = post(stage, ann, GENERATE, json={"prompt": "x"}, headers={"idempotency-key": key.encode("latin-1")})

    assert error_of(answer)[:2] == (400, "idempotency_key_invalid")


def test_told_length_above_the_limit_is_refused_before_the_body_is_read(stage, ann):
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\ncontent-length: 99999999\r\n\r\n"
    started = time.monotonic()

    answer = raw(stage, head % (EDIT.encode(), ann.key.encode()))

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
    assert time.monotonic() - started < 1.5


def test_chunked_body_without_a_length_is_cut_off_at_the_limit(stage, ann):
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 65_536

    answer = post(stage, ann, EDIT, content=endless(), headers={"content-type": "application/json"})

    assert error_of(answer)[:2] == (413, "request_too_large")


def test_bodies_are_counted_off_when_their_calls_are_over(stage, ann):
    for content in (b"x" * 300_000, json.dumps({"model": "pic-1", "prompt": "counted"}).encode()):
        post(stage, ann, GENERATE, content=content)

    until(lambda: stage.gateway._edge.budget._n_bytes == 0)


def test_file_above_its_limit_is_refused_by_name(stage, ann):
    answer = post(stage, ann, EDIT, data={"prompt": "x"}, files={"image": ("a.png", b"x" * (1 << 20) + b"y")})

    assert error_of(answer) == (400, "image_file_too_large", "image")


def test_more_pictures_than_allowed_are_refused(stage, ann):
    files = [("image[]", ("a.png", png())) for _ in range(5)]

    answer = post(stage, ann, EDIT, data={"prompt": "x", "model": "pic-1"}, files=files)

    assert error_of(answer) == (400, "too_many_images", "image")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_image_file"),
        (b"GIF89a", "image_parse_error"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_image_media_type"),
        (b"Example data", "unsupported_image_media_type"),
        (png()[:40], "image_parse_error"),
        (png()[:16] + (40_000).to_bytes(4, "big") * 2 + png()[24:], "invalid_image"),
    ],
)
def test_upload_that_is_no_picture_is_refused_in_openais_words(stage, ann, content, code):
    answer = post(stage, ann, EDIT, data={"prompt": "x", "model": "pic-1"}, files={"image": ("a.png", content)})

    assert error_of(answer) == (400, code, "image[0]")
    assert stage.holds_of(ann) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_multipart"),
        (b"garbage", "invalid_multipart"),
        (b"--B\r\n\r\nno name\r\n--B--\r\n", "invalid_multipart"),
        (b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx', "invalid_multipart"),
        (b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--B--\r\n', "invalid_value"),
        (
            b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n' * 2 + b"--B--\r\n",
            "duplicate_parameter",
        ),
        (b'--B\r\ncontent-disposition: form-data; name="p"\r\n\r\nx\r\n' * 97 + b"--B--\r\n", None),
        (b"--B\r\n" + b"x: y\r\n" * 20 + b"\r\nx\r\n--B--\r\n", "invalid_multipart"),
        (b"--B\r\ncontent-disposition: " + b"x" * 9_000 + b"\r\n\r\nx\r\n--B--\r\n", "invalid_multipart"),
        (b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n--B--\r\n', "missing_required_parameter"),
        (
            b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n' + b"x" * 300_000 + b"\r\n--B--\r\n",
            "string_above_max_length",
        ),
        (
            b'--B\r\ncontent-disposition: form-data; name="evil"; filename="x"\r\n\r\nx\r\n'
            b'--B\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n--B--\r\n',
            "unknown_parameter",
        ),
    ],
)
def test_broken_form_is_refused(stage, ann, body, code):
    answer = post(stage, ann, EDIT, content=body, headers={"content-type": FORM.decode()})

    status, found, _ = error_of(answer)
    assert status == 400
    assert code is None or found == code


def test_form_without_a_boundary_is_refused(stage, ann):
    answer = post(stage, ann, EDIT, content=b"x", headers={"content-type": "multipart/form-data"})

    assert error_of(answer)[:2] == (400, "invalid_multipart")


def test_picture_by_data_url_is_taken_and_a_file_id_is_refused(stage, ann):
    address = "data:image/png;base64," + base64.b64encode(png(20, 20)).decode()
    fields = {"model": "pic-1", "prompt": "by data url"}

    taken = post(stage, ann, EDIT, json=fields | {"images": [{"image_url": address}]})
    refused = post(stage, ann, EDIT, json=fields | {"images": [{"file_id": "file-1"}]})
    neither = post(stage, ann, EDIT, json=fields | {"images": [{}]})
    none = post(stage, ann, EDIT, json=fields | {"images": []})

    assert taken.status_code == 200, taken.text
    assert error_of(refused) == (400, "file_id_unsupported", "images[0].file_id")
    assert error_of(neither) == (400, "missing_required_parameter", "images[0].image_url")
    assert error_of(none)[0::2] == (400, "images")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/x.png", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "file:///etc/passwd",
        "ftp://example.com/x", "http://2130706433/", "data:image/png;base64,%%%", "data:,", "nonsense",
    ],
)  # fmt: skip
def test_address_that_leads_inside_or_nowhere_is_refused(stage, ann, address):
    body = {"model": "pic-1", "prompt": "x", "images": [{"image_url": address}]}

    status, code, param = error_of(post(stage, ann, EDIT, json=body))

    assert (status, param) == (400, "images[0].image_url")
    assert code in ("invalid_image_url", "empty_image_file")
    assert stage.holds_of(ann) == []


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "part"),
    [
        (None, 200, None, slice(None)),
        ("bytes=0-3", 206, "bytes 0-3/{n}", slice(0, 4)),
        ("bytes=4-", 206, "bytes 4-{last}/{n}", slice(4, None)),
        ("bytes=-5", 206, "bytes {tail}-{last}/{n}", slice(-5, None)),
        ("bytes=0-999999999999", 206, "bytes 0-{last}/{n}", slice(None)),
        ("bytes=999999-", 416, "bytes */{n}", None),
        ("bytes=-0", 416, "bytes */{n}", None),
        ("bytes=5-2", 200, None, slice(None)),
        ("bytes=0-1,3-4", 200, None, slice(None)),
        ("chapters=1-2", 200, None, slice(None)),
    ],
)
def test_picture_is_given_by_ranges(stage, ann, asked, status, content_range, part):
    content, n = _picture(stage, ann)
    whole = content()

    answer = content(headers={"range": asked} if asked else {})

    filled = content_range and content_range.format(n=n, last=n - 1, tail=n - 5)
    assert (answer.status_code, answer.headers.get("content-range")) == (status, filled)
    if part is not None:
        assert answer.content == whole.content[part]


def test_picture_is_safe_to_open_and_its_downloads_are_counted(stage, ann):
    content, n = _picture(stage, ann)

    answer = content()
    content(headers={"range": "bytes=0-1"})
    same = content(headers={"if-none-match": answer.headers["etag"]})
    other = content(headers={"range": "bytes=0-1", "if-range": '"another"'})

    headers = answer.headers
    assert headers["content-type"] == "image/png"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-disposition"].startswith('attachment; filename="qraft-')
    assert int(headers["content-length"]) == n
    assert (same.status_code, other.status_code) == (304, 200)
    asset_id = str(answer.url).split("/")[-2]
    until(lambda: len([it for it in stage.assets.downloads if it[0] == asset_id]) == 3)
    assert [it[1:3] for it in stage.assets.downloads if it[0] == asset_id] == [(n, True), (2, False), (n, True)]
    assert stage.assets.rows[asset_id].n_downloads == 2


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%00", "a%20b", "x" * 100, "%2e%2e", "a\\b"])
def test_names_that_are_no_ids_are_not_found(stage, ann, name):
    for path in (f"/api/assets/{name}", f"/api/assets/{name}/content", f"/api/jobs/{name}", f"/v1/models/{name}"):
        with httpx.Client(base_url=stage.url, headers=ann.headers) as client:
            assert client.get(path).status_code == 404


def test_unknown_path_and_method_answer_in_the_envelope(stage, ann):
    with httpx.Client(base_url=stage.url, headers=ann.headers) as client:
        nowhere, method = client.get("/v1/chat/completions"), client.put("/api/jobs")

    assert error_of(nowhere)[:2] == (404, "not_found")
    assert error_of(method)[:2] == (405, "method_not_allowed")
    assert method.headers["allow"] == "GET, HEAD, POST"


def _picture(stage: Stage, person: Person):
    with httpx.Client(base_url=stage.url, headers=person.headers) as client:
        made = client.post("/v1/images/generations", json={"model": "pic-1", "prompt": "to download"}).json()
        (asset_id,) = made["qraft"]["asset_ids"]
        n = client.get(f"/api/assets/{asset_id}").json()["n_bytes"]

    def content(**options) -> httpx.Response:
        return httpx.get(f"{stage.url}/api/assets/{asset_id}/content", **_with(options, person.headers))

    return content, n


def _with(options: dict, headers: dict[str, str]) -> dict:
    return options | {"headers": headers | options.get("headers", {})}
