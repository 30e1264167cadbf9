"""Ref-YouTube-VOS: referring expressions about YouTube-VOS."""

from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import read_videos
from datamodules.palette import PaletteDataset
from datamodules.sampling import FrameSelection


class RefYouTubeVOS(PaletteDataset):
    """Ref-YouTube-VOS: 3,471 videos for training, 202 for validation and 305 for the test, annotated at 6 Hz.

    Dataset format::

        root/meta_expressions/<split>/meta_expressions.json    that of valid holds the videos of test too
        root/<split>/JPEGImages/<video>/<frame>.jpg
        root/train/Annotations/<video>/<frame>.png             index = obj_id; the server keeps those of valid and test

    Args:
        root: folder of the dataset.
        split: ``train``, ``valid`` or ``test``; the last two have no masks. ``valid`` is its JSON without the videos of
            the test's.
        selection: which frames make a sample; default every one.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        URVOS: Unified Referring Video Object Segmentation Network with a Large-Scale Benchmark (ECCV 2020),
        https://youtube-vos.org/dataset/rvos/. The rule for ``valid`` is that of ``inference_ytvos.py`` of
        https://github.com/wjn922/ReferFormer
    """

    splits = ("train", "valid", "test")

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "valid", "test"] = "train",
        selection: FrameSelection | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        super().__init__(root, split, selection, None, on_bad_sample, seed)

    @property
    def masks_path(self) -> Path | None:
        """Folder of the masks, or None where they are hidden."""
        return super().masks_path if self.split == "train" else None

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return super().files + ([self._test_file] if self.split == "valid" else [])

    @property
    def videos(self) -> dict[str, Any]:
        """The videos of the split, checked."""
        videos = super().videos
        if self.split != "valid":
            return videos
        test = read_videos(self._test_file)
        return {name: video for name, video in videos.items() if name not in test}

    @property
    def _test_file(self) -> Path:
        return self.root / "meta_expressions" / "test" / "meta_expressions.json"
