"""Archives for servers: the masks come back, the bytes depend on the masks only, and nothing incomplete is written."""

import json
import shutil
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import thinkseg
from datamodules import MeViS, RefDAVIS17, RefYouTubeVOS
from datamodules.masks import encode_rle
from evaluation.images import encode_gray_mask, encode_mask
from evaluation.predictions import open_predictions
from evaluation.submission import IncompleteSubmissionError, layout_of, write_submission
from evaluation.submission.archive import spans
from tests.builders import two_squares, write_json, write_mevis
from tests.layouts_video import write_ref_davis, write_ref_youtube_vos

TIMES = range(6)


def masks_of(record):
    """What is predicted about an expression: a square whose place says which; those of one video overlap."""
    masks = two_squares()[0].clone()
    masks[:, 20 + int(record.expression_id) % 8 :, : 3 + len(record.video_id)] = True
    return masks


def write_tree(root, dataset, encode=encode_gray_mask):
    for record in dataset.index:
        folder = root / record.video_id / record.expression_id
        folder.mkdir(parents=True)
        for name, mask in zip(record.frame_names, masks_of(record), strict=True):
            (folder / f"{name}.png").write_bytes(encode(mask))
    return root


def write_results(path, dataset):
    content = {}
    for record in dataset.index:
        rles = [encode_rle(mask) for mask in masks_of(record)]
        content.setdefault(record.video_id, {})[record.expression_id] = {"prediction_masks": rles}
    write_json(path, content)
    return path


def zipped(tree, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in tree.rglob("*.png"):
            archive.write(file, f"masks/{file.relative_to(tree)}")
    return path


@pytest.fixture
def mevis(tmp_path):
    return MeViS(write_mevis(tmp_path / "mevis"), "valid")


def read_masks(path, dataset, record):
    found = open_predictions(path, dataset.index).read(record, TIMES, (32, 32))
    assert found.problems == []
    return found.prediction.mask.dense()


def pictures(path):
    with zipfile.ZipFile(path) as archive:
        return {name: Image.open(BytesIO(archive.read(name))) for name in archive.namelist()}


def test_mevis_at_the_root_of_the_archive(tmp_path, mevis):
    out = tmp_path / "new" / "x.zip"
    submission = write_submission(mevis, write_tree(tmp_path / "tree", mevis), out)
    names = [f"{video}/{expression}/{time:05d}.png" for video in "ab" for expression in "012" for time in TIMES]
    found = pictures(out)
    assert list(found) == names
    assert {(image.format, image.mode, image.size) for image in found.values()} == {("PNG", "L", (32, 32))}
    assert {tuple(np.unique(image)) for image in found.values()} == {(0, 255)}
    assert submission.setting["holds"].startswith("2 videos, 6 expressions, 36 pictures, 0.0 MB")
    assert submission.surplus == []
    for record in mevis.index:
        assert torch.equal(read_masks(out, mevis, record), masks_of(record))
    assert [path.name for path in out.parent.iterdir()] == ["x.zip"]


def test_the_bytes_depend_on_the_masks_only(tmp_path, mevis):
    gray = write_tree(tmp_path / "gray", mevis)
    kinds = [gray, write_tree(tmp_path / "palette", mevis, encode_mask), zipped(gray, tmp_path / "tree.zip")]
    kinds += [write_results(tmp_path / "results.json", mevis)]
    archives = []
    for number, kind in enumerate(kinds):
        write_submission(mevis, kind, tmp_path / f"{number}.zip")
        archives.append((tmp_path / f"{number}.zip").read_bytes())
    assert archives == archives[:1] * 4
    write_submission(mevis, tmp_path / "0.zip", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archives[0]


def test_ref_youtube_vos_has_a_folder_around_it(tmp_path):
    dataset = RefYouTubeVOS(write_ref_youtube_vos(tmp_path / "data"), "valid")
    write_submission(dataset, write_tree(tmp_path / "tree", dataset), tmp_path / "x.zip")
    found = pictures(tmp_path / "x.zip")
    assert len(found) == 2 * 3 * 6
    assert next(iter(found)) == "Annotations/c/0/00000.png"
    assert list(found)[-1] == "Annotations/d/2/00005.png"
    assert found["Annotations/d/2/00005.png"].mode == "L"
    for record in dataset.index:
        assert torch.equal(read_masks(tmp_path / "x.zip", dataset, record), masks_of(record))


def test_ref_davis_has_a_folder_per_annotator(tmp_path):
    dataset = RefDAVIS17(write_ref_davis(tmp_path / "data"), "valid")
    write_submission(dataset, write_tree(tmp_path / "tree", dataset), tmp_path / "x.zip")
    found = pictures(tmp_path / "x.zip")
    folders = [f"anno_{annotator}/{video}" for annotator in range(4) for video in ("blackswan", "dogs-jump")]
    assert list(found) == [f"{folder}/{time:05d}.png" for folder in folders for time in TIMES]
    assert {image.mode for image in found.values()} == {"P"}
    assert found["anno_3/blackswan/00002.png"].getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    for video in ("blackswan", "dogs-jump"):
        by_id = {record.expression_id: record for record in dataset.index if record.video_id == video}
        for annotator in range(4):
            first, second = masks_of(by_id[str(annotator)]), masks_of(by_id[str(annotator + 4)])
            assert (first & second).any()
            labels = np.stack([np.array(found[f"anno_{annotator}/{video}/{time:05d}.png"]) for time in TIMES])
            assert np.array_equal(labels, torch.where(first, 1, torch.where(second, 2, 0)).numpy())
            assert torch.equal(read_masks(tmp_path / "x.zip", dataset, by_id[str(annotator)]), first)
            assert torch.equal(read_masks(tmp_path / "x.zip", dataset, by_id[str(annotator + 4)]), second & ~first)
    write_submission(dataset, tmp_path / "x.zip", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "x.zip").read_bytes()


def test_incomplete_predictions_are_refused_with_a_list(tmp_path, mevis):
    tree = write_tree(tmp_path / "tree", mevis)
    shutil.rmtree(tree / "b")
    shutil.rmtree(tree / "a" / "1")
    for time in (1, 2, 5):
        (tree / f"a/2/{time:05d}.png").unlink()
    (tree / "a/0/00003.png").write_bytes(encode_gray_mask(torch.zeros(16, 32, dtype=torch.bool)))
    out = tmp_path / "out" / "x.zip"
    with pytest.raises(IncompleteSubmissionError) as error:
        write_submission(mevis, tree, out)
    assert error.value.gaps == [
        "a/0: 1 of 6 frames, 00003: `a/0/00003.png`: expected 32 x 32 (height x width), but got 16 x 32",
        "a/1: expected PNGs in `a/1`, but there are none",
        "a/2: 3 of 6 frames, 00001–00002, 00005: `a/2` has no `00001.png`, `00002.png`, `00005.png`: 3 of 6 frames "
        "missing",
        "every expression of b: expected PNGs in `b/0`, but there are none",
    ]
    assert list(out.parent.iterdir()) == []


def test_an_archive_that_is_there_stays_if_the_new_one_is_refused(tmp_path, mevis):
    tree = write_tree(tmp_path / "tree", mevis)
    write_submission(mevis, tree, tmp_path / "x.zip")
    before = (tmp_path / "x.zip").read_bytes()
    (tree / "b/2/00005.png").unlink()
    with pytest.raises(IncompleteSubmissionError, match=r"b/2: 1 of 6 frames, 00005"):
        write_submission(mevis, tree, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == before


def test_a_video_of_unknown_size_is_a_gap(tmp_path, mevis):
    tree = write_tree(tmp_path / "tree", mevis)
    (mevis.images / "b/00000.jpg").unlink()
    with pytest.raises(IncompleteSubmissionError, match=r"b/0: 'b/0': expected a frame .*, but there is no such file"):
        write_submission(mevis, tree, tmp_path / "x.zip")


def test_a_folder_is_no_archive(tmp_path, mevis):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_submission(mevis, write_tree(tmp_path / "tree", mevis), tmp_path)


def test_surplus_is_left_out_and_named(tmp_path, mevis):
    tree = write_tree(tmp_path / "tree", mevis)
    shutil.copytree(tree / "a", tree / "c")
    shutil.copy(tree / "a/0/00000.png", tree / "a/0/99999.png")
    submission = write_submission(mevis, tree, tmp_path / "x.zip")
    assert len(pictures(tmp_path / "x.zip")) == 36
    assert any("99999.png" in sentence for sentence in submission.surplus)
    assert any("`c/0`" in sentence for sentence in submission.surplus)


def test_what_the_disk_did_not_keep_is_found(tmp_path, mevis, monkeypatch):
    tree = write_tree(tmp_path / "tree", mevis)
    writestr = zipfile.ZipFile.writestr

    def palette_once(archive, entry, data):
        wrong = entry.filename == "b/1/00002.png"
        writestr(archive, entry, encode_mask(torch.zeros(32, 32, dtype=torch.bool)) if wrong else data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", palette_once)
    with pytest.raises(OSError, match=r"\('b/1/00002.png', 'PNG', 'L', 32, 32\) .*, but got .*'P'"):
        write_submission(mevis, tree, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_picture_too_many_or_too_few_is_found(tmp_path, mevis, monkeypatch):
    tree = write_tree(tmp_path / "tree", mevis)
    writestr = zipfile.ZipFile.writestr
    for kept, pictures in (([], 35), (["b/1/00002.png", "b/1/00002x.png"], 37)):

        def change_one(archive, entry, data, kept=kept):
            for name in kept if entry.filename == "b/1/00002.png" else [entry.filename]:
                writestr(archive, name, data)

        monkeypatch.setattr(zipfile.ZipFile, "writestr", change_one)
        with pytest.raises(OSError, match=rf"Expected 36 pictures in .*, but got {pictures}"):
            write_submission(mevis, tree, tmp_path / "x.zip")
        assert not (tmp_path / "x.zip").exists()


def test_the_name_of_the_dataset_decides(mevis):
    def made(name, kind):
        return type(name, (kind,), {})(mevis.root, "valid")

    assert layout_of(made("Mine", MeViS)).words == "<video>/<expression>/<frame>.png, gray, 0 and 255"
    assert layout_of(made("Mine", RefYouTubeVOS)).words.startswith("Annotations/")
    with pytest.raises(ValueError, match="ViCaS takes a JSON per video"):
        layout_of(made("ViCaS", MeViS))


def test_spans():
    assert spans("abcdef", [0, 1, 2, 4]) == "a–c, e"
    assert spans("abcdef", [5]) == "f"


def test_evaluation_of_the_archive_is_that_of_the_tree(tmp_path):
    dataset = MeViS(write_mevis(tmp_path / "mevis"), "valid_u")
    tree = write_tree(tmp_path / "tree", dataset)
    write_submission(dataset, tree, tmp_path / "x.zip")
    tables = []
    for predictions, out in ((tree, tmp_path / "a"), (tmp_path / "x.zip", tmp_path / "b")):
        words = ["--dataset", "MeViS", "--dataset.root", str(dataset.root), "--split", "valid_u"]
        with pytest.raises(SystemExit) as done:
            thinkseg.main(["evaluate", *words, "--predictions", str(predictions), "--out", str(out)])
        assert done.value.code == 0
        tables.append(json.loads((out / "table.json").read_text())["table"])
        assert (out / "report.html").stat().st_size > 10_000
    assert tables[0] == tables[1]
    assert 0 < tables[0]["overall"]["J"] < 1
