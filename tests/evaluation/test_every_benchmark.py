"""Every benchmark on its true layout, by its own protocol: what is annotated, handed in as predicted, is right."""

import math

import pytest

from datamodules import (
    GroundMoRe,
    LongRVOS,
    MeViS,
    MeViSv2,
    ReasonSeg,
    ReasonVOS,
    RefCOCO,
    RefDAVIS17,
    RefSAV,
    RefYouTubeVOS,
    ReVOS,
    ViCaS,
)
from evaluation.benchmark import evaluate
from evaluation.protocols import RefDAVIS17AnnotatorsProtocol, protocol_of
from tests.builders import write_mevis, write_revos
from tests.evaluation.predicted import write_results, write_tree
from tests.layouts_other import write_groundmore, write_reason_seg, write_ref_coco, write_vicas
from tests.layouts_video import (
    write_long_rvos,
    write_mevis_v2,
    write_palette,
    write_reason_vos,
    write_ref_davis,
    write_ref_sav,
    write_ref_youtube_vos,
)

#: name -> writer of the layout, dataset, what it is asked for, its protocol (None is the default)
BENCHMARKS = {
    "ReVOS": (write_revos, ReVOS, {"split": "valid"}, None),
    "MeViS": (write_mevis, MeViS, {"split": "valid_u"}, None),
    "MeViSv2": (write_mevis_v2, MeViSv2, {"split": "valid_u"}, None),
    "Ref-YouTube-VOS": (write_ref_youtube_vos, RefYouTubeVOS, {"split": "train"}, None),
    "Ref-DAVIS17": (write_ref_davis, RefDAVIS17, {"split": "valid"}, None),
    "Ref-DAVIS17, annotators": (write_ref_davis, RefDAVIS17, {"split": "valid"}, RefDAVIS17AnnotatorsProtocol),
    "ReasonVOS": (write_reason_vos, ReasonVOS, {}, None),
    "Long-RVOS": (write_long_rvos, LongRVOS, {"split": "valid"}, None),
    "Ref-SAV": (write_ref_sav, RefSAV, {}, None),
    "GroundMoRe": (write_groundmore, GroundMoRe, {}, None),
    "ViCaS": (write_vicas, ViCaS, {}, None),
    "RefCOCO": (write_ref_coco, RefCOCO, {"split": "val"}, None),
    "ReasonSeg": (write_reason_seg, ReasonSeg, {"split": "val"}, None),
}
#: benchmark -> what its table says of the annotation itself, where that is not 1. Pixels of 0/255 masks never equal an
#: object's 1. ViCaS asks for objects, and the union of two (384 and 360 pixels) finds the first at an IoU of 0.5 alone:
#: 3 of 3 tracks are right for 3 of 4 objects, and at the other nine thresholds 2 of 3 for 2 of 4.
RIGHT = {
    "ReVOS": {"A_255": 1 - ((384 + 744) / 2 + 360) / 2 / (6 * 32 * 32), "hallucination": 0},
    "ViCaS": {"mAP": (3 / 4 + 9 * (2 / 3) * (2 / 4)) / 10, "AP50": 3 / 4, "AP75": 1 / 3, "AP90": 1 / 3},
}


def opened(name, root):
    write, dataset, options, protocol = BENCHMARKS[name]
    made = dataset(write(root), **options)
    return made, (protocol or protocol_of(type(made).__name__))()


def annotated(dataset):
    """Return the union of the objects at every frame, by video and expression."""
    masks = {}
    for record in dataset.index:
        reader = dataset.masks(record)
        frames = [reader(time).any(dim=0) for time in range(len(record.frame_names))]
        masks[record.video_id, record.expression_id] = frames
    return masks


def names(dataset):
    """Return the names of each video's frames."""
    return {record.video_id: record.frame_names for record in dataset.index}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_annotation_is_right(tmp_path, name):
    dataset, protocol = opened(name, tmp_path / "data")
    masks = annotated(dataset)
    tree = write_tree(tmp_path / "predicted", masks, "palette", names(dataset))
    evaluation = evaluate(dataset, tree, protocol)
    assert evaluation.problems == []
    assert [result.key for result in evaluation.results] == [record.key for record in dataset.index]
    assert all(result.counted and not result.problems for result in evaluation.results)
    overall = evaluation.table["overall"]
    assert overall == pytest.approx(dict.fromkeys(overall, 1) | RIGHT.get(name, {}))
    assert all(value <= 1 or math.isnan(value) for row in evaluation.table.values() for value in row.values())
    as_json = evaluate(dataset, write_results(tmp_path / "results.json", masks), protocol, workers=2)
    assert str(as_json.table) == str(evaluation.table)
    assert str(as_json.results) == str(evaluation.results)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_nothing_for_an_expression_is_less_and_named(tmp_path, name):
    dataset, protocol = opened(name, tmp_path / "data")
    masks = annotated(dataset)
    first = next(iter(masks))
    assert any(mask.any() for mask in masks.pop(first))
    evaluation = evaluate(dataset, write_tree(tmp_path / "predicted", masks, names=names(dataset)), protocol)
    lost = [result for result in evaluation.results if result.lost]
    assert [(result.video_id, result.expression_id) for result in lost] == [first]
    assert lost[0].missing == len(lost[0].frame_names)
    for measure in {"JF", "gIoU", "cIoU", "mAP"} & set(evaluation.table["overall"]):
        assert evaluation.table["overall"][measure] < RIGHT.get(name, {}).get(measure, 1)


def test_pictures_of_annotators_are_right(tmp_path):
    dataset, protocol = opened("Ref-DAVIS17, annotators", tmp_path / "data")
    labels = {}
    for (video, expression), frames in annotated(dataset).items():
        for time, mask in enumerate(frames):
            place = f"anno_{int(expression) % 4}/{video}/{time:05d}.png"
            labels[place] = labels.get(place, 0) + (int(expression) // 4 + 1) * mask
    for place, indices in labels.items():
        write_palette(tmp_path / "predicted" / place, indices)
    evaluation = evaluate(dataset, tmp_path / "predicted", protocol)
    assert evaluation.setting["layout"] == "anno_<k>/<video>/<frame>.png"
    assert evaluation.table["overall"]["JF"] == pytest.approx(1)
    assert len(evaluation.results) == 16
    assert evaluation.problems == []
