"""A feature set by name or by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from qraft_data.feature_sets import named_feature_set
from qraft_quant.features import CORE


def test_a_name_is_a_registered_set_and_a_path_is_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\n[own]\ngap_60 = "log(close) - mean(log(close), 60)"\n')
    (tmp_path / "mine.json").write_text('{"name": "mine", "own": {"gap_60": "log(close) - mean(log(close), 60)"}}')

    assert named_feature_set("core") is CORE
    assert named_feature_set(str(mine)).names == ("gap_60",)
    assert named_feature_set(str(tmp_path / "mine.json")) == named_feature_set(str(mine))


def test_what_is_no_set_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "mine"\n[own]\ngap = "cloze"\n')
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ValueError, match=r"out of core, full, received 'best'.*or a file that ends in \.toml"):
        named_feature_set("best")
    with pytest.raises(ValueError, match=r"expected a file with features at .*none\.toml: .*No such file"):
        named_feature_set(str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match=r"bad\.toml: own\.gap: .*received cloze"):
        named_feature_set(str(tmp_path / "bad.toml"))
    with pytest.raises(ValueError, match=r"expected a file with features at .*binary\.toml"):
        named_feature_set(str(tmp_path / "binary.toml"))
