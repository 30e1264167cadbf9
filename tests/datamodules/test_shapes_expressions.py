"""The sentences of the toy benchmark, measured in the masks and pictures that were written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datamodules.masks import decode_rle
from datamodules.shapes import write_shapes
from datamodules.shapes.expressions import REASONING
from datamodules.shapes.scenes import COLOURS, MIN_PIXELS

SIZE = (96, 128)
PRESETS = ("easy", "full")
KINDS = {text: kind for kind, (_, wordings) in REASONING.items() for text in wordings}
Track = dict[int, NDArray[np.float64]]


class Video(NamedTuple):
    """One video as it lies on disk.

    Args:
        frames: ``uint8 (T, H, W, 3)`` RGB.
        expressions: its records.
        masks: ``bool (T, H, W)`` of each object.
        tracks: centroid of each object at each time at which it touches neither the border nor another object.
    """

    name: str
    frames: NDArray[np.uint8]
    expressions: list[dict[str, Any]]
    masks: dict[int, NDArray[np.bool_]]
    tracks: dict[int, Track]


def read(root: Path) -> Iterator[Video]:
    tracks = json.loads((root / "mask_dict.json").read_text())
    for name, video in json.loads((root / "meta_expressions_train_.json").read_text())["videos"].items():
        said = list(video["expressions"].values())
        objects = sorted({pair for each in said for pair in zip(each["obj_id"], each["anno_id"], strict=True)})
        empty = torch.zeros(video["height"], video["width"], dtype=torch.bool)
        masks = {
            number: torch.stack([decode_rle(rle) if rle else empty for rle in tracks[str(annotation)]]).numpy()
            for number, annotation in objects
        }
        files = [str(root / "JPEGImages" / name / f"{frame}.jpg") for frame in video["frames"]]
        frames = np.stack([cv2.imread(file)[..., ::-1] for file in files])
        yield Video(name, frames, said, masks, {number: track(masks, number) for number in masks})


def track(masks: dict[int, NDArray[np.bool_]], number: int) -> Track:
    found = {}
    for time, mask in enumerate(masks[number]):
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        touches = any((near & other[time]).any() for key, other in masks.items() if key != number)
        if mask.any() and not touches and not mask[[0, -1]].any() and not mask[:, [0, -1]].any():
            found[time] = np.argwhere(mask).mean(axis=0)
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Video]]:
    roots = {preset: tmp_path_factory.mktemp(preset) for preset in PRESETS}
    write_shapes(roots["easy"], videos=60, valid_videos=1, seed=3, preset="easy")
    write_shapes(roots["full"], videos=150, valid_videos=1, seed=3, preset="full", size=SIZE)
    return {preset: list(read(root)) for preset, root in roots.items()}


def reasoning(videos: list[Video], kind: str) -> Iterator[tuple[Video, int]]:
    """Videos with a sentence of a kind, and its target."""
    for video in videos:
        for said in video.expressions:
            if said["type_id"] == 1 and KINDS[said["exp"]] == kind:
                (target,) = said["obj_id"]
                yield video, target


def steps(track: Track) -> list[float]:
    return [float(np.linalg.norm(track[time + 1] - track[time])) for time in track if time + 1 in track]


def bend(track: Track) -> float:
    """Largest distance in pixels from the best straight and even motion."""
    times, places = np.array(list(track)), np.array(list(track.values()))
    fit = np.stack([np.polyval(np.polyfit(times, places[:, axis], 1), times) for axis in (0, 1)], axis=1)
    return float(np.linalg.norm(places - fit, axis=1).max())


def form(video: Video, number: int) -> str | None:
    """What a mask looks like where nothing touches it, if there is such a frame."""
    if not video.tracks[number]:
        return None
    mask = video.masks[number][next(iter(video.tracks[number]))]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    quarters = crop[np.ix_(*([extent // 4, extent - 1 - extent // 4] for extent in crop.shape))].tolist()
    if quarters == [[True, True], [True, True]]:
        return "square" if crop[0, 0] else "circle"
    return {((False, False), (True, True)): "triangle", ((False, False), (False, False)): "cross"}[
        tuple(map(tuple, quarters))
    ]


def colour(video: Video, number: int) -> str:
    """Name of the colour of most pixels of an object, in the frame in which it is largest."""
    time = int(video.masks[number].sum(axis=(1, 2)).argmax())
    shade = np.median(video.frames[time][video.masks[number][time]], axis=0)
    distances = {name: float(np.abs(shade - rgb).max()) for name, rgb in COLOURS.items()}
    name = min(distances, key=distances.__getitem__)
    assert distances[name] < 20
    return name


@pytest.mark.parametrize("preset", PRESETS)
def test_the_fastest_is_fastest(videos: dict[str, list[Video]], preset: str) -> None:
    measured = 0
    for video, target in reasoning(videos[preset], "fastest"):
        speeds = {number: steps(track) for number, track in video.tracks.items()}
        if all(speeds.values()):
            measured += 1
            others = [max(speed) for number, speed in speeds.items() if number != target]
            assert np.median(speeds[target]) > 1.4 * max(others), video.name
    assert measured >= 5


@pytest.mark.parametrize("preset", PRESETS)
def test_only_one_changes_direction(videos: dict[str, list[Video]], preset: str) -> None:
    measured = 0
    for video, target in reasoning(videos[preset], "turn"):
        bends = {number: bend(track) for number, track in video.tracks.items() if len(track) >= 4}
        if len(video.tracks[target]) == 6:
            measured += 1
            assert all((size > 2) == (number == target) for number, size in bends.items()), (video.name, bends)
    assert measured >= 5


def test_only_one_never_moves(videos: dict[str, list[Video]]) -> None:
    measured = 0
    for video, target in reasoning(videos["full"], "still"):
        for number, track in video.tracks.items():
            for step in steps(track):
                measured += 1
                assert step < 0.5 if number == target else step > 2, video.name
    assert measured >= 20


@pytest.mark.parametrize(("kind", "out", "there"), [("leaves", -1, 0), ("enters", 0, -1)])
def test_only_one_leaves_or_enters(videos: dict[str, list[Video]], kind: str, out: int, there: int) -> None:
    found = list(reasoning(videos["full"], kind))
    assert len(found) >= 5
    for video, target in found:
        assert {number for number, masks in video.masks.items() if not masks[out].any()} == {target}
        assert all(masks[there].any() for masks in video.masks.values())


def test_the_odd_one_is_the_only_odd_one(videos: dict[str, list[Video]]) -> None:
    explained, found = 0, list(reasoning(videos["full"], "odd"))
    for video, target in found:
        looks = [{number: colour(video, number) for number in video.masks}]
        forms = {number: form(video, number) for number in video.masks}
        looks += [forms] if all(forms.values()) else []
        odd = {
            number
            for look in looks
            for number, value in look.items()
            if len(set(look.values())) == 2 and list(look.values()).count(value) == 1 and len(look) > 2
        }
        assert odd <= {target}, video.name
        explained += odd == {target}
    assert explained >= 10
    assert explained > len(found) / 3  # of the rest, size, motion or a form that is touched is odd


def test_objects_look_as_they_are_called(videos: dict[str, list[Video]]) -> None:
    checked = 0
    for video in videos["easy"] + videos["full"]:
        for said in video.expressions:
            words = said["exp"].split()
            if said["type_id"] == 0 and len(said["obj_id"]) == 1:
                (number,) = said["obj_id"]
                assert colour(video, number) == words[-2]
                checked += form(video, number) is not None
                assert form(video, number) in (None, words[-1]), (video.name, said)
    assert checked > 200


def test_size_words_are_true(videos: dict[str, list[Video]]) -> None:
    checked = 0
    for video in videos["full"]:
        for said in video.expressions:
            sizes = {"small", "large"} & set(said["exp"].split())
            if sizes and len(said["obj_id"]) == 1 and video.tracks[said["obj_id"][0]]:
                (number,) = said["obj_id"]
                extent = max(video.masks[number][time].any(axis=1).sum() for time in video.tracks[number])
                checked += 1
                assert sizes == {"small" if extent < 0.22 * min(SIZE) else "large"}, (video.name, said)
    assert checked >= 5


def test_shared_colours_mean_every_object_of_the_colour(videos: dict[str, list[Video]]) -> None:
    checked = 0
    for video in videos["full"]:
        colours = {number: colour(video, number) for number in video.masks}
        for said in video.expressions:
            words = said["exp"].split()
            if words[0] in ("both", "all"):
                checked += 1
                assert said["obj_id"] == [number for number in colours if colours[number] == words[1]]
                assert (words[0] == "both") == (len(said["obj_id"]) == 2)
    assert checked > 50


def test_shared_forms_mean_every_object_of_the_form(videos: dict[str, list[Video]]) -> None:
    checked = 0
    plurals = {"the circles": "circle", "the squares": "square", "the triangles": "triangle", "the crosses": "cross"}
    for video in videos["full"]:
        forms = {number: form(video, number) for number in video.masks}
        for said in video.expressions:
            if said["exp"] in plurals and all(forms.values()):
                checked += 1
                assert said["obj_id"] == [number for number in forms if forms[number] == plurals[said["exp"]]]
    assert checked > 10


@pytest.mark.parametrize("preset", PRESETS)
def test_absent_targets_are_absent(videos: dict[str, list[Video]], preset: str) -> None:
    found = 0
    for video in videos[preset]:
        looks = {(colour(video, number), form(video, number)) for number in video.masks}
        for said in video.expressions:
            if said["type_id"] == 2:
                found += 1
                assert said["obj_id"] == said["anno_id"] == []
                assert tuple(said["exp"].split()[1:]) not in looks
    assert found >= 2


def test_full_has_what_it_promises(videos: dict[str, list[Video]]) -> None:
    kinds, appearing, hidden, several = set(), 0, 0, 0
    for video in videos["full"]:
        kinds |= {KINDS[said["exp"]] for said in video.expressions if said["type_id"] == 1}
        several += sum(len(said["obj_id"]) > 1 for said in video.expressions)
        for masks in video.masks.values():
            areas = masks.sum(axis=(1, 2))
            appearing += not areas.all()
            hidden += bool((areas[1:-1] < 0.6 * np.minimum(areas[:-2], areas[2:])).any())
    assert kinds == set(REASONING)
    assert min(appearing, hidden, several) >= 20


def test_easy_is_easy(videos: dict[str, list[Video]]) -> None:
    texts = {said["exp"] for video in videos["easy"] for said in video.expressions}
    looks = {f"the {c} {f}" for c in ("red", "green", "blue", "yellow") for f in ("circle", "square")}
    assert texts == looks | {"the fastest one", "the one that changes direction"}
    for video in videos["easy"]:
        assert len({colour(video, number) for number in video.masks}) == len(video.masks) == 2
        # a step of 0.12 sides between two rounded positions
        assert all(max(steps(track), default=0) <= 0.12 * 112 + 2**0.5 for track in video.tracks.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_masks_are_visible_pixels(videos: dict[str, list[Video]], preset: str) -> None:
    for video in videos[preset]:
        masks = np.stack(list(video.masks.values()))
        areas = masks.sum(axis=(2, 3))
        assert not ((areas > 0) & (areas < MIN_PIXELS)).any()
        assert masks.sum(axis=0).max() == 1  # what is hidden belongs to the one in front
        assert ((areas > 0).sum(axis=1) >= 3).all()
