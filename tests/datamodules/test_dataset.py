"""What every dataset keeps, over all writers of true layouts, and what each has of its own."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL.ImageFile import ImageFile

import thinkseg
from datamodules import (
    BadSampleError,
    DatasetNotFoundError,
    GroundMoRe,
    LongRVOS,
    MeViS,
    OwnVideos,
    ReasonSeg,
    ReasonVOS,
    RefCOCO,
    RefDAVIS17,
    RefSAV,
    RefYouTubeVOS,
    ReVOS,
    StridedThroughAnchor,
    ViCaS,
)
from datamodules.dataset import read_json
from tests.builders import two_squares, write_json, write_mevis, write_own_videos, write_revos
from tests.layouts_other import SHOWN, write_groundmore, write_reason_seg, write_ref_coco, write_vicas
from tests.layouts_video import (
    write_long_rvos,
    write_reason_vos,
    write_ref_davis,
    write_ref_sav,
    write_ref_youtube_vos,
)

WRITERS = {
    ReVOS: write_revos,
    MeViS: write_mevis,
    OwnVideos: write_own_videos,
    RefYouTubeVOS: write_ref_youtube_vos,
    RefDAVIS17: write_ref_davis,
    ReasonVOS: write_reason_vos,
    LongRVOS: write_long_rvos,
    RefSAV: write_ref_sav,
    GroundMoRe: write_groundmore,
    ViCaS: write_vicas,
    RefCOCO: write_ref_coco,
    ReasonSeg: write_reason_seg,
}
#: how many expressions a writer writes for a split, where not 6
EXPRESSIONS = {RefDAVIS17: 16}
#: the benchmarks of which an expression has several objects
SEVERAL = [ReVOS, MeViS, OwnVideos, RefSAV, GroundMoRe, ViCaS]
#: videos of one frame, that of time `SHOWN`
IMAGES = [RefCOCO, ReasonSeg]


@pytest.fixture(scope="module", params=WRITERS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def root(kind, tmp_path_factory):
    return WRITERS[kind](tmp_path_factory.mktemp(kind.__name__))


@pytest.fixture
def masks(kind):
    """What every video shows, ``bool (2, T, H, W)``."""
    return two_squares()[:, SHOWN : SHOWN + 1] if kind in IMAGES else two_squares()


def test_samples(kind, root, masks):
    dataset = kind(root)
    length = masks.shape[1]
    assert len(dataset) == EXPRESSIONS.get(kind, 6)
    for sample in (dataset[index] for index in range(len(dataset))):
        assert sample.frame_ids == list(range(length))
        assert sample.meta["frame_names"] == sorted(set(sample.meta["frame_names"]))
        assert sample.meta["dataset"] == kind.__name__
        assert sample.frames.stack().shape == (length, 3, 32, 32)
        # the frames show the objects, whatever was compressed
        seen = sample.frames.stack().float().mean(dim=1) > 140
        assert (seen ^ masks.any(dim=0)).float().mean() < 0.02
    mover = dataset[0]
    assert mover.expression == "The mover."
    assert torch.equal(mover.masks.stack(), masks[:1])
    assert mover.boxes(min(SHOWN, length - 1)).tolist() == [[6, 4, 14, 12]]


@pytest.mark.parametrize("kind", SEVERAL, ids=lambda kind: kind.__name__)
def test_several_objects(kind, tmp_path):
    dataset = kind(WRITERS[kind](tmp_path))
    both = next(sample for sample in dataset if sample.expression == "both squares")
    assert torch.equal(both.masks.stack(), two_squares())
    assert torch.equal(both.target([5]), two_squares()[:, [5]].any(dim=0))


def test_nothing_is_read_before_it_is_asked_for(kind, root, tmp_path, monkeypatch):
    """Constructing reads nothing, indexing no picture, drawing none but headers, the last frame only it."""
    kind(tmp_path / "absent")
    loaded = []
    load = ImageFile.load
    monkeypatch.setattr(ImageFile, "load", lambda image: loaded.append(image.filename) or load(image))
    monkeypatch.setattr("datamodules.masks.decode_rle", lambda rle: pytest.fail("decoded"))
    sample = kind(root)[0]
    assert loaded == []
    sample.frames.at(-1)
    sample.frames.at(-1)
    assert {Path(name).name for name in loaded} == {f"{sample.meta['frame_names'][-1]}.jpg"}
    loaded.clear()
    kind(root, selection=StridedThroughAnchor(num_frames=3))[0]
    assert [name for name in loaded if Path(name).suffix != ".png"] == []  # masks are measured, frames are not read


def test_draws_are_a_function_of_seed_epoch_and_index(kind, root):
    def draws(seed, epoch):
        dataset = kind(root, selection=StridedThroughAnchor(num_frames=2), seed=seed)
        dataset.index[:] = [record for record in dataset.index if record.expression != "whatever moves"]  # no masks
        dataset.set_epoch(epoch)
        backwards = [dataset[index].frame_ids for index in reversed(range(len(dataset)))]
        assert [dataset.draw(index, epoch).frame_ids for index in range(len(dataset))] == backwards[::-1]
        return backwards

    assert draws(0, 1) == draws(0, 1)
    found = {str(draws(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(found) == 1 if kind in IMAGES else len(found) > 5


def test_index_errors(kind, root):
    dataset = kind(root)
    with pytest.raises(IndexError, match=f"below {len(dataset)}, but got {len(dataset)}"):
        dataset[len(dataset)]


def test_not_found(kind, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=rf"{kind.__name__} not found in `root=.*: expected `.*README"):
        len(kind(tmp_path))


def test_the_command_finds_nothing_wrong(kind, root, capsys):
    with pytest.raises(SystemExit) as done:
        thinkseg.main(["data", "check", "--dataset", kind.__name__, "--dataset.root", str(root)])
    shown = capsys.readouterr().out
    assert done.value.code == 0, shown
    assert re.search(rf"^  expressions +{EXPRESSIONS.get(kind, 6)}$", shown, re.MULTILINE)


def test_invalid_policy(kind, root):
    with pytest.raises(ValueError, match="'error' or 'skip', but got 'ignore'"):
        kind(root, on_bad_sample="ignore")


# --- ReVOS and MeViS ---------------------------------------------------------------------------------------------


def test_revos_groups(tmp_path):
    write_revos(tmp_path)
    train, valid = ReVOS(tmp_path), ReVOS(tmp_path, "valid")
    assert [sample.meta["group"] for sample in train] == ["referring", "reasoning", "referring"] * 2
    assert [sample.meta["group"] for sample in valid][:4] == ["referring", "reasoning", "referring", "absent"]
    absent = ReVOS(tmp_path, groups=["absent"])[0]
    assert absent.masks.stack().shape == (0, 6, 32, 32)
    assert not absent.target().any()
    assert absent.boxes(0).shape == (0, 4)
    assert absent.video_id == "toy/a"
    with pytest.raises(ValueError, match=r"\['hard'\]"):
        ReVOS(tmp_path, groups=["hard"])
    with pytest.raises(ValueError, match="'test'"):
        ReVOS(tmp_path, "test")


@pytest.mark.parametrize("stored", [True, False])
def test_revos_foreground(tmp_path, stored):
    write_revos(tmp_path)
    path = tmp_path / "mask_dict_foreground.json"
    if stored:  # what is stored counts: an empty frame 0
        content = json.loads(path.read_text())
        content["toy/a"]["masks_rle"][0]["counts"] = [32 * 32]
        write_json(path, content)
    else:
        path.unlink()
    expected = two_squares().any(dim=0)
    expected[0] &= not stored
    assert torch.equal(ReVOS(tmp_path, "valid")[0].foreground.stack(), expected)


def test_revos_other_expressions(tmp_path):
    write_revos(tmp_path)
    shutil.move(tmp_path / "meta_expressions_train_.json", tmp_path / "meta_expressions_train_select.json")
    assert len(ReVOS(tmp_path, expressions="meta_expressions_train_select.json")) == 6


def test_json_is_parsed_once(tmp_path):
    path = write_revos(tmp_path) / "meta_expressions_train_.json"
    assert read_json(path) is read_json(path)
    write_json(path, {"changed": []})
    assert read_json(path) == {"changed": []}


@pytest.mark.parametrize(
    ("write", "kind", "files"),
    [
        (write_revos, ReVOS, ["mask_dict.json", "mask_dict_foreground.json"]),
        (write_mevis, MeViS, ["train/mask_dict.json"]),
        (write_ref_sav, RefSAV, ["mask_dict.json"]),
    ],
    ids=["ReVOS", "MeViS", "RefSAV"],
)
def test_masks_are_parsed_before_there_are_workers(tmp_path, write, kind, files):
    """Indexing the expressions indexes the masks; what is drawn afterwards follows a change of the file."""
    dataset = kind(write(tmp_path))
    assert not list(tmp_path.rglob("*.index"))
    len(dataset)
    assert sorted(tmp_path.rglob("*.index")) == [tmp_path / f"{file}.index" for file in files]
    before = dataset[0].masks.stack()
    tracks = json.loads((tmp_path / files[0]).read_text())
    write_json(tmp_path / files[0], tracks | {"0": tracks["1"]})
    assert torch.equal(dataset[0].masks.stack(), dataset[1].masks.stack())
    assert not torch.equal(dataset[0].masks.stack(), before)


def test_mevis_splits(tmp_path):
    write_mevis(tmp_path)
    assert torch.equal(MeViS(tmp_path, "valid_u")[2].masks.stack(), two_squares())
    hidden = MeViS(tmp_path, "valid")[0]
    assert hidden.masks is None
    assert "group" not in hidden.meta
    with pytest.raises(ValueError, match=r"masks for 'a/0'.*hidden; use `EveryFrame`"):
        MeViS(tmp_path, "valid", StridedThroughAnchor())[0]
    with pytest.raises(ValueError, match="'dev'"):
        MeViS(tmp_path, "dev")


def test_own_videos(tmp_path):
    write_own_videos(tmp_path)
    dataset = OwnVideos(tmp_path)
    assert [record.key for record in dataset.index][2:4] == ["folder/2", "film/0"]
    assert dataset[0].meta["group"] == "referring"
    assert "group" not in dataset[1].meta
    assert dataset[2].masks is None
    assert len(OwnVideos(tmp_path, groups=["referring"])) == 2


def test_masks_know_the_size_of_a_video_without_frames(tmp_path):
    dataset = ReVOS(write_revos(tmp_path), "valid")
    first, absent = dataset.index[0], dataset.index[3]
    assert dataset.size(first) == (32, 32)
    shutil.rmtree(dataset.images / first.video_id)
    assert dataset.size(first) == (32, 32)
    assert torch.equal(dataset.masks(first)(2), two_squares()[:1, 2])
    assert torch.equal(dataset.foreground(first)(5), two_squares()[:, 5].any(dim=0))
    with pytest.raises(BadSampleError, match=r"'toy/a/3': expected a frame .*, but there is no such file"):
        dataset.size(absent)
    write_json(tmp_path / "mask_dict.json", {"0": [{"size": "large"}, *[None] * 5]})
    with pytest.raises(BadSampleError, match="'toy/a/0': Expected an RLE with `size`"):
        ReVOS(tmp_path, "valid", groups=["absent", "referring"]).size(first)
