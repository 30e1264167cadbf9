"""Masks in a benchmark's layout, films of them, and pictures of a test."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from datamodules.files import to_json, write_atomically
from datamodules.structures import VideoSample
from dialogues.episode import Episode
from evaluation.images import encode_mask, encode_png
from evaluation.predictions.tree import TRACK
from lightning_modules.callbacks.base import RunCallback
from lightning_modules.callbacks.records import answer_record, scored_groups
from lightning_modules.files import inside
from lightning_modules.media import encode_film
from lightning_modules.pictures import film, group_picture

logger = logging.getLogger(__name__)


class PredictionWriter(RunCallback):
    """Writes what ``predict`` found.

    - ``masks/<video>/<expression>/<frame>.png``, the layout of ReVOS and MeViS: palette PNGs of the frames' own size,
      index 1 is the object. ``thinkseg evaluate`` and ``thinkseg submit`` read this folder. Where ``meta`` of a sample
      says ``tracks_apart``, as ViCaS', the masks of each box are in ``<video>/<expression>/track_<number>/``.
    - ``films/<video>/<expression>.gif`` (or ``.mp4``): the masks over the frames, the expression below.
    - ``answers.jsonl``: a line per answer with its thinking, keyframe and boxes; ``answers.rank1.jsonl`` and so on if
      there are several ranks, each of which writes its own samples.

    A sample whose segmenter failed has no masks, only its line, and is logged.

    Args:
        folder: where to; by default ``predictions`` in the run folder.
        film: format of the films, or None for none.
        film_every: a film of every n-th sample of each rank.
        film_side: longer side of a film's frames in pixels.
        fps: frames per second of a film.

    Raises:
        ValueError: if a number is below 1, or a name in the dataset would leave the folder.
    """

    def __init__(
        self,
        folder: str | None = None,
        film: Literal["gif", "mp4"] | None = "gif",
        film_every: int = 1,
        film_side: int = 480,
        fps: int = 6,
    ) -> None:
        for name, value in {"film_every": film_every, "film_side": film_side, "fps": fps}.items():
            if value < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {value}")
        self.folder = folder
        self.film: Literal["gif", "mp4"] | None = film
        self.film_every = film_every
        self.film_side = film_side
        self.fps = fps
        self._answers = Path()
        self._count = 0

    @property
    def _root(self) -> Path:
        return self.run / "predictions" if self.folder is None else Path(self.folder)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new list of answers, and keep no masks in memory."""
        trainer.predict_loop.return_predictions = False
        self._count = 0
        rank = "" if trainer.world_size == 1 else f".rank{trainer.global_rank}"
        self._answers = self._root / f"answers{rank}.jsonl"
        write_atomically(self._answers, b"")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the masks, films and answers of a batch."""
        for episode in outputs:
            record = answer_record(episode)
            if episode.last.masks is None:
                logger.warning("No masks for %s: %s", episode.sample.key, episode.last.failure or "no segmenter")
            else:
                record |= self._write(episode)
            self._count += 1
            with self._answers.open("a", encoding="utf-8") as answers:
                answers.write(to_json(record) + "\n")

    def _write(self, episode: Episode) -> dict[str, str]:
        sample = episode.sample
        masks = inside(self._root / "masks", sample.video_id, sample.expression_id)
        tracks = {masks: episode.prediction}
        if sample.meta.get("tracks_apart"):
            if masks.exists():
                shutil.rmtree(masks)  # an earlier answer may have had more tracks
            assert episode.last.masks is not None, "only what is segmented is written"
            # without a track the union, of which nothing is masked, says that there is an answer
            tracks = {masks / TRACK.format(number): track for number, track in enumerate(episode.last.masks)} or tracks
        for folder, track in tracks.items():
            for time, mask in zip(episode.last.mask_frames, track, strict=True):
                write_atomically(inside(folder, f"{frame_name(sample, time)}.png"), encode_mask(mask))
        written = {"masks": str(masks.relative_to(self._root))}
        if self.film is not None and self._count % self.film_every == 0:
            path = inside(self._root / "films", sample.video_id, f"{sample.expression_id}.{self.film}")
            write_atomically(path, encode_film(film(episode, self.film_side), self.film, self.fps))
            written["film"] = str(path.relative_to(self._root))
        return written


class PictureWriter(RunCallback):
    """Writes film strips of the first samples of a test to ``<run folder>/pictures/``; only rank zero writes.

    Args:
        num_samples: how many.
        max_frames: most frames of a film strip.
    """

    def __init__(self, num_samples: int = 16, max_frames: int = 6) -> None:
        self.num_samples = num_samples
        self.max_frames = max_frames
        self._count = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._count = 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the samples of a batch, as long as there are not enough."""
        if not trainer.is_global_zero:
            return
        for group, scores in list(scored_groups(outputs))[: self.num_samples - self._count]:
            name = re.sub(r"[^\w-]+", "-", group[0].sample.key)[:100]
            path = self.run / "pictures" / f"{self._count:03d}-{name}.png"
            write_atomically(path, encode_png(group_picture(group, scores, self.max_frames)))
            self._count += 1


def frame_name(sample: VideoSample, time: int) -> str:
    """Return the file name, without ending, that the benchmark gives to a frame.

    Raises:
        ValueError: if the sample does not name its frames.
    """
    names = sample.meta.get("frame_names")
    if names is None:
        raise ValueError(
            f"Expected `meta['frame_names']` of {sample.key!r} to name the frames of the video, but got "
            f"{sorted(sample.meta)}; its dataset must set it before masks can be written"
        )
    return str(names[sample.frame_ids[time]])
