"""The page about own videos says what is true."""

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from datamodules import OwnVideos, StridedThroughAnchor, VideoDataset
from datamodules.check import check
from tests.builders import write_mp4

PAGE = Path(__file__).parents[2] / "docs" / "own_videos.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "videos.json").write_text(blocks("json")[0])
    for folder in ("clips/kitchen", "masks/kitchen"):
        (tmp_path / folder).mkdir(parents=True)
    for time in range(3):
        Image.new("RGB", (6, 4)).save(tmp_path / f"clips/kitchen/{time:05d}.jpg")
    Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 2).save(tmp_path / "masks/kitchen/00001.png")
    write_mp4(tmp_path / "clips/street.mp4", torch.zeros(1, 4, 16, 16, dtype=torch.bool))
    return tmp_path


def test_example(root):
    report = check(OwnVideos(root))
    assert report.ok, report
    assert report.counts["expressions"] == 4
    assert report.counts["frames"] == 3 + 4
    falls, china, fork, street = OwnVideos(root)
    # run lengths by hand: four background pixels are column 0, then the upper half of columns 1 and 2
    assert falls.boxes(1).tolist() == [[1, 0, 3, 2]]
    assert falls.boxes(2).tolist() == [[2, 2, 4, 4]]
    assert china.masks.stack().sum(dim=(2, 3)).tolist() == [[0, 4, 4], [0, 4, 0]]
    assert not fork.target().any()
    assert street.masks is None
    assert street.num_frames == 4


def test_snippet():
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
    assert doctest.testfile(str(PAGE), module_relative=False).attempted > 0


@pytest.mark.parametrize("text", blocks("yaml"), ids=["whole videos", "strided"])
def test_configs(text, root, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace("data/mine", str(root)))
    parser = ArgumentParser()
    parser.add_subclass_arguments(VideoDataset, "dataset")
    dataset = parser.instantiate_classes(parser.parse_args([f"--dataset={config}"])).dataset
    assert isinstance(dataset, OwnVideos)
    assert len(dataset) == 4
    if "Strided" in text:
        assert isinstance(dataset.selection, StridedThroughAnchor)
        assert 1 <= dataset[0].num_frames <= 3


def test_json_is_complete():
    """Every field the table names is in the example."""
    named = set(re.findall(r"^\| `(\w+)`", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = json.dumps(json.loads(blocks("json")[0]))
    assert named == {"frames", "objects", "expressions", "exp", "group"}
    assert all(f'"{name}"' in text for name in named)
