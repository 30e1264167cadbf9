"""The trees on disk of GroundMoRe, ViCaS, and the image sets RefCOCO and ReasonSeg.

Each holds the first three sentences of `tests.builders.EXPRESSIONS` about two videos of `two_squares`, or about two
images that show what those show at time `SHOWN`; both objects are visible then.
"""

from pathlib import Path
from typing import Any

from tests.builders import EXPRESSIONS, rle_track, two_squares, write_frames, write_json
from tests.layouts_video import label_pictures, write_palette

SHOWN = 3
SENTENCES = EXPRESSIONS[:3]
#: corners of the two objects at that time, x1 y1 x2 y2, half-open
BOXES = ((6, 4, 14, 12), (2, 20, 14, 30))


def write_groundmore(root: Path, t: int = 6, size: int = 32, name: str = "frame_{:06d}") -> Path:
    """Write a GroundMoRe tree; every clip starts at 1:40 of its film, and every action lasts as long as the clip."""
    masks = two_squares(t, size)
    names = [name.format(time) for time in range(t)]
    end = 40 + -(-t // 6)
    videos: dict[str, Any] = {}
    for film in ("-yt_a", "b"):
        video = f"{film}_0140_01{end:02d}"
        write_frames(root / "annotations" / video / "images", masks, names)
        for frame, labels in zip(names, label_pictures(masks), strict=True):
            if labels.any():
                write_palette(root / "annotations" / video / "masks" / f"{frame}.png", labels)
        kinds = ("Causal", "Sequential", "Descriptive")
        videos[video] = {
            "questions": {
                str(number): {
                    "question": text,
                    "answer": "the square",
                    "obj_id": ", ".join(str(each + 1) for each in objects),
                    "q_type": kinds[number],
                    "action_start": "1:40",
                    "action_end": f"1:{end:02d}",
                }
                for number, (text, objects, _) in enumerate(SENTENCES)
            }
        }
    for file in ("trainval_v2.json", "test_v2.json", "trainval.json", "test.json"):
        write_json(root / file, {"videos": videos})
    return root


def write_vicas(root: Path, t: int = 6, size: int = 32) -> Path:
    """Write a ViCaS tree of both versions; people annotated every third frame, the others are SAM 2's."""
    masks = two_squares(t, size)
    tracks = [rle_track(mask) for mask in masks]
    for video in (2, 17):
        write_frames(root / "video_frames" / f"{video:06d}", masks)
        segmentations = []
        for time in range(t):
            seen = [each for each in (0, 1) if tracks[each][time] is not None]
            segmentations.append(
                {
                    "filename": f"{time:05d}.jpg",
                    "is_gt": time % 3 == 0,
                    "track_ids": [each + 1 for each in seen],
                    "mask_rles": [tracks[each][time] for each in seen],
                }
            )
        content = {
            "video_id": video,
            "src_dataset": "oops",
            "filename": f"{video:06d}_Fails_of_the_Week.mp4",
            "image_size": [size, size],
            "object_referrals": [
                {"prompt": text, "track_ids": [each + 1 for each in objects]} for text, objects, _ in SENTENCES
            ],
            "segmentations": segmentations,
            "all_track_ids": [1, 2],
        }
        for version in ("v0.1", "v1.0"):
            write_json(root / "annotations" / version / f"{video:06d}.json", content)
    for version in ("v0.1", "v1.0"):
        for split in ("train", "val", "test"):
            write_json(root / "splits" / version / f"{split}.json", [2, 17])
    return root


def write_ref_coco(root: Path, size: int = 32) -> Path:
    """Write SeqTR's tree of all three sets; the first sentence has a polygon, the second an RLE, the third both's."""
    still = two_squares(size=size)[:, SHOWN : SHOWN + 1]
    names = [f"COCO_train2014_{image:012d}" for image in (72, 581857)]
    for name in names:
        write_frames(root / "images" / "mscoco" / "train2014", still, [name])
    polygons = [rectangle(*box) for box in BOXES]
    masks = [[polygons[0]], rle_track(still[1])[0], polygons]
    instances = [
        {"bbox": [0, 0, 1, 1], "image_id": image, "height": size, "width": size, "category_id": 1, "mask": mask}
        | {"expressions": [text]}
        for image in (72, 581857)
        for (text, _, _), mask in zip(SENTENCES, masks, strict=True)
    ]
    for folder, splits in (
        ("refcoco-unc", ("train", "val", "testA", "testB")),
        ("refcocoplus-unc", ("train", "val", "testA", "testB")),
        ("refcocog-umd", ("train", "val", "test")),
    ):
        write_json(root / "annotations" / folder / "instances.json", dict.fromkeys(splits, instances))
    return root


def rectangle(x1: int, y1: int, x2: int, y2: int) -> list[float]:
    """Return the polygon of a box in COCO's form."""
    return [float(number) for number in (x1, y1, x2, y1, x2, y2, x1, y2)]


def write_reason_seg(root: Path, size: int = 32) -> Path:
    """Write a ReasonSeg tree; all texts about an image mean the same, so that each sentence has an image of its own."""
    still = two_squares(size=size)[:, SHOWN : SHOWN + 1]
    for split in ("train", "val", "test"):
        for number, (text, objects, _) in enumerate((*SENTENCES, *SENTENCES)):
            name = f"{number}_22e5a7d7f8_o"
            write_frames(root / split, still, [name])
            shapes = [shape("target", BOXES[each]) for each in objects]
            content = {"text": [text], "is_sentence": text.endswith("?"), "shapes": shapes}
            write_json(root / split / f"{name}.json", content)
    return root


def shape(label: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
    """Return a shape that covers a half-open box: its corners are pixels."""
    x1, y1, x2, y2 = box
    points = [[x1 + 0.9, y1], [x2 - 0.1, y1], [x2 - 1, y2 - 1], [x1, y2 - 1]]
    return {"label": label, "labels": [label], "shape_type": "polygon", "image_name": "", "points": points}
