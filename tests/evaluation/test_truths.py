"""Annotations as masks that are measured against."""

import json

import pytest
import torch

from datamodules import MeViS, ReVOS
from datamodules.errors import BadSampleError
from datamodules.masks import MaskReader, Picture
from evaluation.truths import TruthReader, measured_times, read_objects
from tests.builders import rle_track, two_squares, write_json, write_mevis, write_revos
from tests.evaluation.predicted import png, record


@pytest.fixture
def dataset(tmp_path):
    return ReVOS(write_revos(tmp_path), "valid")


def test_truth_has_objects_and_foreground(dataset):
    reader = TruthReader(dataset)
    masks = two_squares()
    for expression, objects in zip(dataset.index, ([0], [1], [0, 1], []), strict=False):
        truth = reader.read((expression,))
        assert truth.shape == (6, 32, 32)
        assert len(truth.objects) == len(objects)
        assert all(torch.equal(bits.dense(), masks[each]) for bits, each in zip(truth.objects, objects, strict=True))
        assert torch.equal(truth.foreground.dense(), masks.any(dim=0))
        assert truth.void is None


def test_expressions_about_the_same_objects_share_masks(dataset):
    reader = TruthReader(dataset)
    first, second, again = (reader.read((dataset.index[number],)) for number in (0, 1, 0))
    assert first is again
    assert first is not second
    assert first.foreground is second.foreground


def test_what_is_kept_is_bounded(dataset, monkeypatch):
    monkeypatch.setattr("evaluation.truths.KEPT", 1)
    reader = TruthReader(dataset)
    first = reader.read((dataset.index[0],))
    assert reader.read((dataset.index[0],)) is first
    reader.read((dataset.index[1],))
    assert reader.read((dataset.index[0],)) is not first


def test_a_unit_has_the_objects_of_all_its_expressions(dataset):
    truth = TruthReader(dataset).read((dataset.index[1], dataset.index[0]))
    assert torch.equal(torch.stack([bits.dense() for bits in truth.objects]), two_squares().flip(0))


def test_scored_times():
    assert measured_times(record()) == [0, 1, 2, 3, 4, 5]
    assert measured_times(record(scored=(1, 4))) == [1, 4]
    with pytest.raises(BadSampleError, match="'toy/a/0': expected at least one frame"):
        measured_times(record(scored=()))


def test_hidden_masks_are_named(tmp_path):
    dataset = MeViS(write_mevis(tmp_path), "valid")
    with pytest.raises(BadSampleError, match="'a/0': expected masks to measure by, but the dataset has none"):
        TruthReader(dataset).read((dataset.index[0],))


def test_pictures_and_codes_are_the_same_masks(tmp_path):
    masks = two_squares()
    pictures = []
    for time, mask in enumerate(masks[1]):
        (tmp_path / f"{time}.png").write_bytes(png(mask, "palette"))
        pictures.append(Picture(tmp_path / f"{time}.png", 3))
    reader = MaskReader([rle_track(masks[0]), pictures], (32, 32), 6, "record")
    assert torch.equal(torch.stack([bits.dense() for bits in read_objects(reader)]), masks)
    assert read_objects(MaskReader([], (32, 32), 6, "record")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda track: track[:-1], "expected one mask or null for each of the 6 frames, but got 5"),
        (lambda track: [*track[:3], {"size": [32, 32], "counts": "~"}, *track[4:]], "toy/a/0, time 3: .*malformed"),
        (
            lambda track: [{"size": [16, 32], "counts": [512]}, *track[1:]],
            "object 0, time 0: expected a mask of the si",
        ),
    ],
    ids=["length", "malformed", "size"],
)
def test_a_broken_annotation_is_named(dataset, change, message):
    path = dataset.root / "mask_dict.json"
    tracks = json.loads(path.read_text())
    write_json(path, tracks | {"0": change(tracks["0"])})
    with pytest.raises(BadSampleError, match=message):
        TruthReader(dataset).read((dataset.index[0],))
