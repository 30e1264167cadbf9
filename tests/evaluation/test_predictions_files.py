"""Folders and archives that hold more than plain files, or damaged ones."""

import os
import zipfile

import pytest

from evaluation.predictions import open_predictions
from evaluation.predictions.files import Folder
from tests.evaluation.predicted import answers, record, write_tree

SIZE = (32, 32)
RECORDS = [record(video, str(number)) for video in ("toy/a", "toy/b") for number in range(4)]
FRAMES = {f"{time:05d}.png" for time in range(6)}


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", answers())


def zipped(path, tree, name="{}", method=zipfile.ZIP_DEFLATED):
    """Write the pictures below a folder under other names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(tree.rglob("*.png")):
            archive.writestr(zipfile.ZipInfo(name.format(file.relative_to(tree))), file.read_bytes(), method)
    return path


# --- archives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 2, 5, 9], ids=["version", "length", "properties", "data"])
def test_a_damaged_lzma_entry_is_named(tmp_path, tree, at):
    path = zipped(tmp_path / "x.zip", tree, method=zipfile.ZIP_LZMA)
    name = "toy/a/0/00003.png"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start + at : start + at + 40] = bytes(byte ^ 0x5A for byte in content[start + at : start + at + 40])
    path.write_bytes(content)
    found = open_predictions(path, RECORDS).read(record(), range(6), SIZE)
    assert found.prediction.missing == (3,)
    assert found.problems[0].startswith(f"`{name}`: its entry in the archive is broken")


@pytest.mark.parametrize("name", ["./{}", "././{}", "Annotations//{}", "./masks/./{}"])
def test_names_that_are_not_plain_are_read(tmp_path, tree, name):
    path = zipped(tmp_path / "x.zip", tree, name)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("./", b"")
    predictions = open_predictions(path, RECORDS)
    assert predictions.read(record(), range(6), SIZE).problems == []
    assert predictions.surplus(RECORDS) == []


def test_a_name_that_is_there_in_two_spellings_is_refused(tmp_path, tree):
    path = zipped(tmp_path / "x.zip", tree)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("./toy/a//0/00002.png", b"")
    found = open_predictions(path, RECORDS).read(record(), range(6), SIZE)
    assert found.problems == ["`toy/a/0/00002.png`: there are several of that name"]


# --- folders -----------------------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_named_as_a_frame(tree):
    folder = tree / "toy/a/0"
    for time in range(4):
        (folder / f"{time:05d}.png").unlink()
    (folder / "00000.png").symlink_to("nowhere")
    (folder / "00001.png").symlink_to("00001.png")
    (folder / "00002.png").symlink_to(".")
    os.mkfifo(folder / "00003.png")
    predictions = open_predictions(tree, RECORDS)
    found = predictions.read(record(), range(6), SIZE)
    assert found.prediction.missing == (0, 1, 2, 3)
    assert [sentence[:21] for sentence in found.problems] == [f"`toy/a/0/{time:05d}.png`: " for time in range(4)]
    assert "expected a regular file" in found.problems[3]
    assert predictions.stamp() == predictions.stamp()
    assert predictions.surplus(RECORDS) == []


def test_what_is_no_regular_file_is_named_as_surplus(tmp_path, tree):
    (tree / "dangling").symlink_to("nowhere")
    (tree / "itself").symlink_to("itself")
    (tree / "toy/up").symlink_to("..")
    (tree / "toy/a/root").symlink_to("/")
    (tree / "toy/a/other").symlink_to("../b")
    (tree / "toy/b/other").symlink_to("../a")
    os.mkfifo(tree / "pipe")
    predictions = open_predictions(tree, RECORDS)
    sentences = " ".join(predictions.surplus(RECORDS))
    for name in ("`dangling`", "`itself`", "`up`", "`root`", "`other`", "`pipe`"):
        assert name in sentences
    before = predictions.stamp()
    (tree / "dangling").unlink()
    assert predictions.stamp() != before


def test_links_to_folders_elsewhere_are_followed(tmp_path, tree):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "toy").symlink_to(tree / "toy")
    predictions = open_predictions(tmp_path / "linked", RECORDS)
    assert predictions.read(record(), range(6), SIZE).problems == []
    assert Folder(tmp_path / "linked").files("toy/a/0") == FRAMES
    assert predictions.surplus(RECORDS) == []
