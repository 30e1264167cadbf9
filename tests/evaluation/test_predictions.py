"""Predictions as pictures: layouts, encodings, and everything that can be wrong with them."""

import os
import struct
import sys
import zipfile
import zlib

import pytest
import torch
from PIL import Image

from datamodules import VideoRecord
from datamodules.errors import BadSampleError
from evaluation.predictions import open_predictions
from tests.evaluation.predicted import ENCODINGS, answers, expected, png, record, write_tree, write_zip

SIZE = (32, 32)
RECORDS = [record(video, str(number)) for video in ("toy/a", "toy/b") for number in range(4)]


def read(path, which=None, times=range(6), records=RECORDS):
    return open_predictions(path, records).read(which or record(), times, SIZE)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_the_same_mask_and_is_stated(tmp_path, encoding):
    found = read(write_tree(tmp_path, answers(), encoding))
    assert torch.equal(found.prediction.mask.dense(), expected([0]))
    assert (found.problems, found.encodings) == ([], {encoding})
    assert found.prediction.missing == ()
    assert found.prediction.lost is None


def test_gray_values_are_stated_and_an_empty_picture_does_not_tell(tmp_path):
    write_tree(tmp_path, answers())
    folder = tmp_path / "toy/a/0"
    both = torch.zeros(32, 32, dtype=torch.bool)
    (folder / "00000.png").write_bytes(png(both))
    assert read(tmp_path, times=[0]).encodings == set()
    pixels = torch.zeros(32, 32, dtype=torch.uint8)
    pixels[3, 4], pixels[5, 6] = 10, 20
    Image.fromarray(pixels.numpy()).save(folder / "00001.png")
    found = read(tmp_path, times=[1])
    assert found.encodings == {"gray values"}
    assert found.prediction.mask.areas().tolist() == [2]


def test_setting_says_which_encodings_there_were(tmp_path):
    predictions = open_predictions(write_tree(tmp_path, answers()), RECORDS)
    assert predictions.setting({"0/255"})["encoding"] == "0/255"
    assert predictions.setting({"palette", "0/255"})["encoding"] == "mixed: 0/255, palette"
    assert predictions.setting()["encoding"] == "unknown: every mask is empty"
    assert predictions.setting()["predictions"] == str(tmp_path)


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("base", ["", "Annotations", "masks", "submission", "submission/Annotations", "out/masks"])
def test_pictures_are_found_where_tools_put_them(tmp_path, base, archive):
    write_tree(tmp_path / "tree" / base, answers(), "0/1")
    path = write_zip(tmp_path / "x.zip", tmp_path / "tree") if archive else tmp_path / "tree"
    predictions = open_predictions(path, RECORDS)
    found = predictions.read(record("toy/b", "1"), [5, 0], SIZE)
    assert torch.equal(found.prediction.mask.dense(), expected([1])[[5, 0]])
    assert predictions.surplus(RECORDS) == []


def test_a_single_video_is_not_taken_for_a_wrapping_folder(tmp_path):
    masks = {key: mask for key, mask in answers().items() if key[0] == "toy/a"}
    predictions = open_predictions(write_tree(tmp_path, masks), RECORDS)
    assert predictions.read(record(), range(6), SIZE).problems == []


def test_nothing_for_a_video_or_an_expression_is_named(tmp_path):
    masks = answers()
    del masks["toy/a", "0"]
    write_tree(tmp_path, {key: mask for key, mask in masks.items() if key[0] == "toy/a"})
    expression, video = read(tmp_path), read(tmp_path, record("toy/b"))
    assert (expression.prediction.lost, video.prediction.lost) == ("expression", "video")
    for found, name in ((expression, "toy/a/0"), (video, "toy/b/0")):
        assert found.prediction.missing == (0, 1, 2, 3, 4, 5)
        assert found.prediction.mask.shape == (6, 32, 32)
        assert found.prediction.mask.areas().sum() == 0
        assert found.problems == [f"expected PNGs in `{name}`, but there are none"]


def test_missing_frames_are_named_and_only_those_that_count(tmp_path):
    write_tree(tmp_path, answers())
    for time in (1, 4, 5):
        (tmp_path / f"toy/a/0/{time:05d}.png").unlink()
    found = read(tmp_path, times=[0, 1, 2, 4])
    assert found.prediction.missing == (1, 3)
    assert found.problems == ["`toy/a/0` has no `00001.png`, `00004.png`: 2 of 4 frames missing"]
    assert torch.equal(found.prediction.mask.dense()[[0, 2]], expected([0])[[0, 2]])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width, height):
    """A PNG that claims a size and holds one byte."""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return start + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


WHOLE = png(torch.ones(32, 32, dtype=torch.bool))
END = WHOLE.index(b"IEND") - 4
#: chunks that Pillow's parser trips over -> its error
TRIPS = {
    "IndexError": WHOLE[:END] + chunk(b"iCCP", b"a\0") + WHOLE[END:],
    "ValueError": WHOLE[:END] + chunk(b"pHYs", b"abc") + WHOLE[END:],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[:-30], "expected a readable PNG, but got: "),
        (WHOLE[:20], "expected a readable PNG, but got: "),
        (b"", "expected a readable PNG, but got something else"),
        (b"no picture at all", "expected a readable PNG, but got something else"),
        (b"\xff\xd8\xff\xe0" + WHOLE, "expected a readable PNG, but got something else"),
        (png(torch.ones(31, 32, dtype=torch.bool)), "expected 32 x 32 (height x width), but got 31 x 32"),
        (header(9_000, 9_000), "expected 32 x 32 (height x width), but got 9000 x 9000"),
        (header(60_000, 60_000), "expected a readable PNG, but got: "),
        (header(32, 32), "expected a readable PNG, but got: "),
        *((content, "expected a readable PNG, but got: ") for content in TRIPS.values()),
        (b"\0" * (1 << 26) + b"!", "expected at most 67,108,864 bytes, but got more"),
    ],
    ids=["cut", "cut header", "empty", "text", "jpeg", "size", "large", "bomb", "no pixels", *TRIPS, "huge file"],
)
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_an_unusable_picture_is_named_and_missing(tmp_path, content, message, archive):
    write_tree(tmp_path / "tree", answers())
    (tmp_path / "tree/toy/a/0/00003.png").write_bytes(content)
    path = write_zip(tmp_path / "x.zip", tmp_path / "tree") if archive else tmp_path / "tree"
    found = read(path)
    assert found.prediction.missing == (3,)
    assert found.prediction.mask.areas()[3] == 0
    assert len(found.problems) == 1
    if not (archive and len(content) > 1 << 26):  # whose entry already says what it claims
        assert found.problems[0].startswith(f"`toy/a/0/00003.png`: {message}")


def test_surplus_names_what_is_not_read(tmp_path):
    masks = answers()
    write_tree(tmp_path / "masks", masks)
    (tmp_path / "answers.jsonl").write_text("{}")
    (tmp_path / "masks/toy/a/0/00006.png").write_bytes(WHOLE)
    (tmp_path / "masks/toy/a/0/think.txt").write_text("x")
    write_tree(tmp_path / "masks", {("toy/a", "9"): expected([0]), ("toy/c", "0"): expected([0])})
    predictions = open_predictions(tmp_path, RECORDS)
    frames = "`00000.png`, `00001.png`, `00002.png`, `00003.png`, `00004.png` and 1 more"
    assert predictions.surplus(RECORDS) == [
        "`answers.jsonl`, beside `masks` with the masks, not read",
        f"`masks/toy/a/9`: {frames}, of no expression of the dataset, not read",
        f"`masks/toy/c/0`: {frames}, of no expression of the dataset, not read",
        "`masks/toy/a/0`: `00006.png`, `think.txt`, no frames of the video, not read",
    ]


def test_a_lot_of_surplus_is_counted(tmp_path):
    write_tree(tmp_path, {(f"other{number}", "0"): expected([0])[:1] for number in range(60)} | answers())
    sentences = open_predictions(tmp_path, RECORDS).surplus(RECORDS)
    assert len(sentences) == 51
    assert sentences[-1].startswith("10 more folders")


def test_a_name_in_the_dataset_cannot_leave_the_folder(tmp_path):
    write_tree(tmp_path / "tree", answers())
    evil = record("../../etc", "0")
    predictions = open_predictions(tmp_path / "tree", [evil, *RECORDS])
    assert predictions.surplus([evil, *RECORDS]) == []
    with pytest.raises(BadSampleError, match="relative name"):
        predictions.read(evil, range(6), SIZE)


def test_what_fits_no_layout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        open_predictions(tmp_path / "nowhere", RECORDS)
    write_tree(tmp_path, {("other", "0"): expected([0])})
    with pytest.raises(ValueError, match=r"such as 'toy/a', in .* but found none"):
        open_predictions(tmp_path, RECORDS)
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="Expected JSON"):
        open_predictions(tmp_path / "x.zip", RECORDS)


def test_stamp_changes_with_a_file(tmp_path):
    predictions = open_predictions(write_tree(tmp_path, answers()), RECORDS)
    before = predictions.stamp()
    assert predictions.stamp() == before
    (tmp_path / "toy/a/0/00000.png").write_bytes(WHOLE)
    assert predictions.stamp() != before


# --- archives ----------------------------------------------------------------------------------------------------


def archive_with(tmp_path, *entries):
    """Write a whole tree as ZIP, and further entries: a ZipInfo or a name, and its content."""
    path = write_zip(tmp_path / "x.zip", write_tree(tmp_path / "tree", answers()))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../evil.png", "toy/a/../../../evil.png", "/evil.png", "C:/evil.png", "a\\..\\b.png"])
def test_an_archive_s_unsafe_names_are_named_and_passed_over(tmp_path, name):
    predictions = open_predictions(archive_with(tmp_path, (name, WHOLE)), RECORDS)
    assert predictions.surplus(RECORDS) == [f"{name!r} in the archive is not read: its name could leave a folder"]
    assert predictions.read(record(), range(6), SIZE).problems == []
    assert not list(tmp_path.rglob("evil.png"))


def test_an_archive_s_deep_names_are_named_and_passed_over(tmp_path):
    kept, refused = "d/" * 31 + "x.png", "e/" * 32 + "x.png"
    path = archive_with(tmp_path, (kept, WHOLE), (refused, WHOLE), ("f/" * 20_000, b""))
    predictions = open_predictions(path, RECORDS)
    assert predictions.surplus(RECORDS) == [
        f"{refused!r} in the archive is not read: it has more than 32 parts",
        f"{'f/' * 100 + '…'!r} in the archive is not read: it has more than 32 parts",
        f"`{kept.removesuffix('/x.png')}`: `x.png`, of no expression of the dataset, not read",
    ]
    assert predictions.read(record(), range(6), SIZE).problems == []


def test_a_folder_may_be_deeper_than_calls_may(tmp_path):
    write_tree(tmp_path, answers())
    deep = [str(tmp_path / "/".join("d" * depth)) for depth in range(1, sys.getrecursionlimit() + 100)]
    for folder in deep:
        os.mkdir(folder)
    try:
        assert open_predictions(tmp_path, RECORDS).surplus(RECORDS) == []
    finally:  # pytest's way of removing it would be too deep
        for folder in reversed(deep):
            os.rmdir(folder)


def test_an_archive_s_links_and_bombs_are_refused(tmp_path):
    link = zipfile.ZipInfo("toy/a/0/00006.png")
    link.external_attr = 0o120777 << 16
    bomb = "toy/a/0/00007.png"
    path = archive_with(tmp_path, (link, "/etc/passwd"), (bomb, b"\0" * (1 << 23)), ("toy/a/0/00008.png", WHOLE))
    predictions = open_predictions(path, RECORDS)
    longer = record(t=9)
    found = predictions.read(longer, range(9), SIZE)
    assert found.prediction.missing == (6, 7)
    assert found.problems[0] == "`toy/a/0/00006.png`: it is a link"
    assert found.problems[1].startswith("`toy/a/0/00007.png`: expected at most 100 times its")
    assert [sentence[:37] for sentence in predictions.surplus([longer, *RECORDS[1:]])] == [
        "`toy/a/0/00006.png` in the archive is",
        "`toy/a/0/00007.png` in the archive is",
    ]


def test_an_archive_s_encrypted_and_broken_entries_are_named(tmp_path):
    path = archive_with(tmp_path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"toy/a/0/0000{time}.png") for time in (0, 1))
    central = content.index(b"PK\x01\x02")
    assert content[central + 46 :].startswith(b"toy/a/0/00000.png")
    content[central + 8] |= 1
    content[second.header_offset + 30 + len(second.filename) + 10] ^= 0xFF
    path.write_bytes(content)
    found = read(path)
    assert first.filename == "toy/a/0/00000.png"
    assert found.prediction.missing == (0, 1)
    assert found.problems[0] == "`toy/a/0/00000.png`: it is encrypted"
    assert found.problems[1].startswith("`toy/a/0/00001.png`: its entry in the archive is broken")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_s_second_entry_of_a_name_makes_it_unusable(tmp_path):
    path = archive_with(tmp_path, ("toy/a/0/00002.png", WHOLE))
    found = read(path)
    assert found.problems == ["`toy/a/0/00002.png`: there are several of that name"]
    assert found.prediction.missing == (2,)


def test_two_expressions_in_one_place_are_refused(tmp_path):
    """Video ``a`` with expression ``b/0``, and video ``a/b`` with expression ``0``, have their masks in one folder."""
    write_tree(tmp_path, answers())
    records = [VideoRecord("a", "b/0", "this", ("00000",)), VideoRecord("a/b", "0", "that", ("00000",))]
    with pytest.raises(ValueError, match=r"a name of its own for each expression .* twice `a/b/0`"):
        open_predictions(tmp_path, records)
