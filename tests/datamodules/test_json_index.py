"""The index of a JSON object: the values of `json.loads`, built once, and what happens to it on disk."""

import json
import logging
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from datamodules import json_index
from datamodules.json_index import JSONIndex, open_index

CONTENT = {
    **{str(number): [{"size": [4, 4], "counts": f'{number}]}}"{{\\'}, None] * (number % 3) for number in range(200)},
    "OVIS/train/00e92ab4": {"masks_rle": [None], "foreground_ratio": [0.5]},
    "é 日本 😀": "ß",
    "\ud800": "\udfff",
    "": {"": 0},
    'a"b\\': None,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.delenv("THINKSEG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mask_dict.json"
    path.write_text(json.dumps(CONTENT))
    return path


@pytest.fixture
def scans(monkeypatch):
    """The files that were parsed."""
    parsed = []
    scan = json_index.scan
    monkeypatch.setattr(json_index, "scan", lambda file: parsed.append(file.name) or scan(file))
    return parsed


def index_of(path):
    return path.with_name(f"{path.name}.index")


# --- what it holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ascii_only", [True, False])
def test_equals_the_parsed_file(path, ascii_only):
    path.write_bytes(json.dumps(CONTENT, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    index = JSONIndex(path)
    expected = json.loads(path.read_bytes())
    assert len(index) == len(expected)
    assert list(index) == list(expected)
    for name in expected:
        assert index[name] == expected[name]
    assert index == expected
    for name in ("unknown", "1 ", "00"):
        assert name not in index
        assert index.get(name) is None


def test_names_of_one_hash(path, monkeypatch):
    monkeypatch.setattr(json_index, "_hash", lambda name: len(name))
    assert JSONIndex(path) == CONTENT
    assert "xyz" not in JSONIndex(path)


def test_empty_object(path):
    path.write_text("{}")
    assert JSONIndex(path) == {}
    assert "a" not in JSONIndex(path)


def test_nothing_but_the_entry_is_decoded(path, monkeypatch):
    index = JSONIndex(path)
    decoded = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **options: decoded.append(text) or loads(text, **options))
    assert index["100"] == CONTENT["100"]
    assert [loads(text) for text in decoded] == [{"100": CONTENT["100"]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"a": [1, 2], "b": [', "Expecting value: byte 20", id="truncated"),
        pytest.param('["a", "b"]', "Expecting an object: byte 0", id="a list"),
        pytest.param('{"a": 1, "b": 2, "\\u0061": 3}', "the name 'a' a second time: byte 17", id="a name twice"),
        pytest.param("no JSON", "Expecting an object: byte 0", id="no JSON"),
        pytest.param('{"a": ' + "[" * 100_000, "values that are nested too deeply", id="deep"),
    ],
)
def test_malformed(path, text, message):
    path.write_text(text)
    for _ in range(2):  # nothing is left behind that would make it good
        with pytest.raises(ValueError, match=f"Expected JSON in `.*mask_dict.json`.* but got: .*{message}"):
            open_index(path)
    assert not index_of(path).exists()


def test_names_do_not_need_the_values(path, monkeypatch):
    index = JSONIndex(path)
    monkeypatch.setattr(json, "loads", None)
    assert list(index) == list(CONTENT)


def test_an_index_whose_header_is_nested_too_deeply_is_built_anew(path, scans):
    index_of(path).write_text("[" * 100_000)
    assert JSONIndex(path) == CONTENT
    assert scans == [str(path)]


def test_missing_file(path):
    path.unlink()
    with pytest.raises(FileNotFoundError):
        open_index(path)


# --- when it is built --------------------------------------------------------------------------------------------


def test_parsed_once(path, scans):
    assert open_index(path) is open_index(path)
    assert JSONIndex(path) == CONTENT
    assert scans == [str(path)]
    assert sorted(path.parent.iterdir()) == [path, index_of(path)]


def test_changed(path, scans):
    before = open_index(path)
    changed = CONTENT | {"5": "changed"}
    path.write_text(json.dumps(changed))
    assert open_index(path) == changed
    assert JSONIndex(path) == changed
    assert len(scans) == 2
    with pytest.raises(ValueError, match=r"Expected `.*mask_dict.json` to stay as it was opened"):
        before["6"]


def test_changed_in_place_and_size(path, scans):
    """A file of the same size counts as another by its time of change."""
    assert open_index(path)["5"] == CONTENT["5"]
    text = path.read_text()
    path.write_text(text[:-5].replace('{"0": [', '{ "0":[') + text[-5:])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert path.stat().st_size == len(text)
    assert open_index(path) == CONTENT
    assert len(scans) == 2


def test_touched(path, scans):
    open_index(path)
    os.utime(path, ns=(1, 1))
    assert open_index(path) == CONTENT
    stamped = index_of(path).read_bytes()
    assert json.loads(stamped.splitlines()[0])["mtime_ns"] == 1
    assert JSONIndex(path) == CONTENT
    assert index_of(path).read_bytes() == stamped
    assert len(scans) == 1


def test_copied(path, scans, tmp_path):
    """A copy of the folder has another time of change, and needs no parsing."""
    open_index(path)
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    index_of(copy).write_bytes(index_of(path).read_bytes())
    assert open_index(copy) == CONTENT
    assert scans == [str(path)]


def flip(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-24],
    "truncated header": lambda data: data[:20],
    "a bit": flip,
    "other version": lambda data: data.replace(b'"version": 1', b'"version": 0'),
    "other header": lambda data: b"{}\n",
    "no header": lambda data: b"[]\n",
    "noise": lambda data: bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_index(path, scans, damage, caplog):
    whole = index_of(path)
    JSONIndex(path)
    expected = whole.read_bytes()
    whole.write_bytes(DAMAGES[damage](expected))
    with caplog.at_level(logging.WARNING):
        assert JSONIndex(path) == CONTENT
    assert "mask_dict.json.index` is no index of version 1 and is built anew" in caplog.text
    assert whole.read_bytes() == expected
    assert len(scans) == 2


# --- where it lies -----------------------------------------------------------------------------------------------


@pytest.fixture
def nobody():
    """Be a user who may write where everybody may: nothing is read-only to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def protected():
    """A file in a folder that cannot be written, and beside it a folder that can."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "data")
        folder.mkdir()
        Path(root, "cache").mkdir()
        path = folder / "mask_dict.json"
        path.write_text(json.dumps(CONTENT))
        for place, mode in ((Path(root), 0o755), (Path(root, "cache"), 0o777), (folder, 0o555), (path, 0o444)):
            place.chmod(mode)
        yield path
        folder.chmod(0o755)


@pytest.fixture
def writable(protected, monkeypatch):
    folder = protected.parents[1] / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def test_folder_that_cannot_be_written(protected, writable, nobody, scans):
    assert JSONIndex(protected) == JSONIndex(protected) == CONTENT
    assert [place.name for place in protected.parent.iterdir()] == ["mask_dict.json"]
    (index,) = (writable / "thinkseg").iterdir()
    assert index.name.endswith("-mask_dict.json.index")
    assert len(scans) == 1


def test_nowhere_to_write(protected, nobody, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(protected.parent))
    with pytest.raises(OSError, match=r"index of `.*mask_dict.json`.* set THINKSEG_CACHE"):
        JSONIndex(protected)


def test_chosen_folder(path, tmp_path, monkeypatch):
    chosen = tmp_path / "chosen"
    monkeypatch.setenv("THINKSEG_CACHE", str(chosen))
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    other.write_text("{}")
    assert JSONIndex(path) == CONTENT
    assert JSONIndex(other) == {}
    assert len(list(chosen.iterdir())) == 2
    assert not index_of(path).exists()


# --- several processes -------------------------------------------------------------------------------------------


def build(path, barrier):
    barrier.wait()
    index = JSONIndex(path)
    return len(index), index["OVIS/train/00e92ab4"]


def test_processes_at_once(path, caplog):
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        index_of(path).unlink(missing_ok=True)
        with context.Manager() as manager, ProcessPoolExecutor(4, mp_context=context) as pool:
            barrier = manager.Barrier(4)
            found = [future.result() for future in [pool.submit(build, path, barrier) for _ in range(4)]]
        assert found == [(len(CONTENT), CONTENT["OVIS/train/00e92ab4"])] * 4
        assert sorted(path.parent.iterdir()) == [path, index_of(path)]
        assert JSONIndex(path) == CONTENT
    assert caplog.text == ""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_goes_to_a_process(path, method):
    """It is opened there: what travels is the path."""
    index = open_index(path)
    assert len(ForkingPickler.dumps(index)) < 400
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(dict, index).result() == CONTENT
    assert copy(index) is index
