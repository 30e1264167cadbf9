import os
from pathlib import Path

import pytest

from datamodules.files import to_json, write_atomically


def test_a_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_atomically(path, b"old")

    def crash(source, target):
        assert Path(source).read_bytes() == b"new"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [*tmp_path.rglob("*")] == [path.parent, path]


def test_json_is_strict():
    value = {"a": [float("nan"), float("inf"), 1.5], "b": ("é", None, True), "c": 3}
    assert to_json(value) == '{"a": [null, null, 1.5], "b": ["é", null, true], "c": 3}'
