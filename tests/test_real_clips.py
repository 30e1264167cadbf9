"""Prediction on real frames, where somebody has put clips into data/real_clips."""

import json
from pathlib import Path

import pytest
from PIL import Image

import thinkseg
from models.reasoners.scratch import ScratchConfig, save

CLIPS = Path(__file__).parent.parent / "data/real_clips"


@pytest.mark.slow
@pytest.mark.skipif(not (CLIPS / "meta_expressions.json").is_file(), reason="needs MeViS-like clips in data/real_clips")
def test_predict_writes_masks_and_films(tmp_path: Path) -> None:
    (tmp_path / "valid").symlink_to(CLIPS)
    save(ScratchConfig(), tmp_path / "model")
    thinkseg.main(
        [
            "predict", "-c", "configs/demo/base.yaml",
            "--model.reasoner.pretrained", str(tmp_path / "model"),
            "--trainer.default_root_dir", str(tmp_path / "run"),
            "--data.predict", "MeViS", "--data.predict.root", str(tmp_path), "--data.predict.split", "valid",
            "--data.eval_batch_size", "1",
        ]
    )  # fmt: skip
    videos = json.loads((CLIPS / "meta_expressions.json").read_text())["videos"]
    for name, video in videos.items():
        for expression in video["expressions"]:
            assert (tmp_path / "run/predictions/films" / name / f"{expression}.gif").is_file()
            for frame in video["frames"]:
                mask = Image.open(tmp_path / "run/predictions/masks" / name / expression / f"{frame}.png")
                assert mask.mode == "P"
                assert mask.size == Image.open(CLIPS / "JPEGImages" / name / f"{frame}.jpg").size
