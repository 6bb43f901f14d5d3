"""The providers file: what it may say, and how it is told that it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.svc_imagegen.providers.kit import KEY, NOW, StubResolve

from qraft_runtime.clock import FixedClock
from svc_imagegen.adapters.providers.build import DIALECTS, build_providers
from svc_imagegen.adapters.providers.config import ConfigError, load_config
from svc_imagegen.domain.capability import Support

GOOD = """\
simulated = false

[[provider]]
id = "main"
kind = "openai"
base_url = "https://api.openai.com/v1"
api_key_env = "MAIN_KEY"
timeout_s = 300
n_concurrent = 8
quality_map = {high = "hd"}
models = [
  {name = "gpt-image-2", supports = ["edit", "size:auto"], unsupports = ["variation"]},
]

[[provider]]
id = "node"
kind = "localai"
base_url = "http://127.0.0.1:8080/v1"
allow_private = true

[[provider.models]]
name = "flux"
upstream = "flux.1-dev"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "providers.toml"
    path.write_text(text)
    return path


def _build(path: Path | None, environ: dict[str, str] | None = None) -> dict[str, object]:
    return dict(build_providers(path, environ=environ or {}, resolve=StubResolve(), clock=FixedClock(NOW)))


def test_a_good_file_is_read_whole(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, GOOD))

    main, node = config.provider
    assert not config.simulated
    assert (main.id, main.kind, main.timeout_s, main.n_concurrent) == ("main", "openai", 300.0, 8)
    assert main.quality_map == {"high": "hd"}
    assert main.models[0].supports == ("edit", "size:auto")
    assert (node.models[0].name, node.models[0].upstream_name) == ("flux", "flux.1-dev")


def test_providers_are_built_in_the_order_of_the_file(tmp_path: Path) -> None:
    providers = build_providers(
        _write(tmp_path, GOOD), environ={"MAIN_KEY": KEY}, resolve=StubResolve(), clock=FixedClock(NOW)
    )

    assert list(providers) == ["main", "node"]
    assert providers["main"].models() == ("gpt-image-2",)
    assert providers["main"].declared("gpt-image-2", "edit") is Support.SUPPORTED
    assert providers["main"].declared("gpt-image-2", "variation") is Support.UNSUPPORTED
    assert not providers["main"].is_simulated


def test_without_a_file_there_is_the_simulated_provider_only() -> None:
    providers = build_providers(None, environ={}, resolve=StubResolve(), clock=FixedClock(NOW))

    assert list(providers) == ["simulated"]
    assert providers["simulated"].is_simulated


def test_the_simulated_provider_comes_last_unless_it_is_switched_off(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD.replace("simulated = false", ""))

    assert list(_build(path, {"MAIN_KEY": KEY})) == ["main", "node", "simulated"]


@pytest.mark.parametrize("kind", sorted(DIALECTS))
def test_every_kind_can_be_configured(tmp_path: Path, kind: str) -> None:
    text = f"""
[[provider]]
id = "p"
kind = "{kind}"
base_url = "https://example.com/v1"
api_version = "v1"
models = [{{name = "m"}}]
"""

    assert "p" in _build(_write(tmp_path, text))


_HEAD = '[[provider]]\nid = "p"\nkind = "openai"\n'
_BASE = 'base_url = "https://example.com/v1"\n'
_MODELS = 'models = [{name = "m"}]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[provider]\n", ["expected TOML", "line 1"]),
        ("nothing = 1\n", ["unknown field", "nothing"]),
        ("simulated = 3\n", ["simulated", "expected bool", "received int"]),
        ('[[provider]]\nkind = "openai"\n', [":1:", "number 1", "missing required field id"]),
        ('[[provider]]\nid = "Upper"\nkind = "openai"\n', [":2:", "id", "received 'Upper'"]),
        ('[[provider]]\nid = "p"\nkind = "midjourney"\n', [":3:", "kind", "'midjourney'"]),
        (_HEAD + _BASE + 'timeout_s = "long"\n' + _MODELS, [":5:", "timeout_s", "expected float", "'long'"]),
        (_HEAD + _BASE + "timeout_s = 0\n" + _MODELS, [":5:", "timeout_s", "> 0", "received 0"]),
        (_HEAD + _BASE + "n_concurrent = 0\n" + _MODELS, [":5:", "n_concurrent", ">= 1"]),
        (_HEAD + _BASE + "speed = 9\n" + _MODELS, [":5:", "unknown field speed"]),
        (_HEAD + _BASE + 'models = [{name = "m", supports = ["A B"]}]\n', [":5:", "supports"]),
        (_HEAD + _BASE + 'models = [{named = "m"}]\n', ["models[0]", "named"]),
        (_HEAD + _BASE, ["'p', models", "at least one"]),
        (_HEAD + _BASE + 'models = [{name = "m"}, {name = "m"}]\n', [":5:", "'m' twice"]),
        (_HEAD + _BASE + 'models = [{name = "m", supports = ["edit"], unsupports = ["edit"]}]\n', ["'edit'", "both"]),
        (_HEAD + _BASE + _MODELS + _HEAD + _BASE + _MODELS, [":7:", "'p', id", "no other"]),
        (_HEAD + 'base_url = "ftp://example.com"\n' + _MODELS, [":4:", "base_url", "http"]),
        (_HEAD + 'base_url = ""\n' + _MODELS, [":4:", "base_url"]),
        (_HEAD + 'base_url = "https://example.com/v1?x=1"\n' + _MODELS, [":4:", "without query"]),
        (_HEAD + 'base_url = "http://127.0.0.1:8080/v1"\n' + _MODELS, [":4:", "private", "allow_private = true"]),
        (_HEAD + 'base_url = "http://169.254.169.254/"\nallow_private = true\n' + _MODELS, [":4:", "base_url"]),
        (_HEAD + _BASE + 'task_path = "tasks"\n' + _MODELS, [":5:", "task_path", "{id}"]),
        (_HEAD + _BASE + 'headers = {Authorization = "Bearer x"}\n' + _MODELS, [":5:", "headers", "api_key_env"]),
        (_HEAD + _BASE + 'headers = {X = "a\\nb"}\n' + _MODELS, [":5:", "headers"]),
        (_HEAD + _BASE + 'picture_networks = ["inside"]\n' + _MODELS, [":5:", "picture_networks", "'inside'"]),
        ('[[provider]]\nid = "p"\nkind = "azure"\n' + _BASE + _MODELS, ["api_version"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_file_line_table_and_what_was_expected(tmp_path: Path, text: str, said: list[str]) -> None:
    path = _write(tmp_path, text)

    with pytest.raises(ConfigError) as error:
        load_config(path)

    assert str(error.value).startswith(str(path))
    for part in said:
        assert part.lower() in str(error.value).lower()


def test_the_second_table_is_found_by_its_own_line(tmp_path: Path) -> None:
    text = _HEAD + _BASE + _MODELS + '\n[[provider]]\nid = "q"\nkind = "openai"\n' + _BASE + "retries = 3\n" + _MODELS

    with pytest.raises(ConfigError, match=r":11: \[\[provider\]\] number 2, retries"):
        load_config(_write(tmp_path, text))


def test_a_password_in_a_base_url_is_not_repeated(tmp_path: Path) -> None:
    text = _HEAD + 'base_url = "https://user:hunter2@example.com/v1"\n' + _MODELS

    with pytest.raises(ConfigError) as error:
        load_config(_write(tmp_path, text))

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [({}, "received nothing"), ({"MAIN_KEY": " "}, "received nothing"), ({"MAIN_KEY": "a b\nc"}, "printable")],
)
def test_a_key_that_is_not_there_is_told_by_its_variable_and_never_shown(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        _build(_write(tmp_path, GOOD), environ)

    assert "$MAIN_KEY" in str(error.value)
    assert said in str(error.value)
    assert "a b" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "UTF-8"), (b"#" * 1_048_577, "at most"), (None, "readable")]
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "providers.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        load_config(path)


def test_the_simulated_kind_takes_models_and_no_address(tmp_path: Path) -> None:
    providers = _build(
        _write(tmp_path, '[[provider]]\nid = "demo"\nkind = "simulated"\nmodels = [{name = "demo-1"}]\n')
    )

    assert list(providers) == ["demo", "simulated"]
    with pytest.raises(ConfigError, match="base_url"):
        load_config(_write(tmp_path, '[[provider]]\nid = "d"\nkind = "simulated"\n' + _BASE))
