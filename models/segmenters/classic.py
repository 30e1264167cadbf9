"""A video segmenter without weights: GrabCut, colour likelihood and optical flow, all of OpenCV."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.segmenters.base import Prompt, Segmenter
from models.segmenters.still import covered_pixels

Mask = NDArray[np.bool_]
#: an object that shows fewer pixels is taken for gone, and is too small for GrabCut
_MIN_PIXELS = 12
#: fraction of a box's longer side by which its surroundings extend beyond it
_SURROUNDINGS = 0.5
#: bins of each colour channel; few enough to hold the neighbouring shades of one surface together
_BINS = 12
#: a pixel is like the object if its colour is so many times as likely on the object as off it
_RATIO = 4.0
#: colour decides only if so much of the object is of its colours; otherwise flow alone carries the mask
_TELLING = 0.25
#: DIS flow needs 11 pixels a side
_FLOW_SIDE = 16
#: a component smaller than this fraction of the object is something else …
_SMALLEST = 0.1
#: … and one larger than this multiple is the object and something of its colour that touches it
_MERGED = 1.4
#: an object moves at most this fraction of the longer side beyond where it is expected, per frame
_GATE = 0.2


class ClassicSegmenter(Segmenter):
    """Segments by colour and follows by motion; deterministic, and needs no training.

    On the prompted frame GrabCut separates the object from what surrounds its box. From there the object is followed
    frame by frame in both directions: pixels whose colour is likelier on the object than off it form components, and
    the component that fits best where flow and constant velocity expect the object is the object. If none fits it is
    absent, and sought again in the next frame, ever further from where it was last seen. Where the object has no
    colours of its own, flow alone carries its mask. Each object is followed alone, so masks of one prompt may overlap.

    It is made for few objects of plain colours on a plain background: the toy benchmark. It stands in for SAM2 where
    there are no weights and no GPU.

    Args:
        side: frames whose longer side exceeds this many pixels are segmented at that size.
        iterations: of GrabCut.
        reach: fraction of a box's longer side by which the object may reach beyond the box; 0 trusts the box.

    Reference:
        GrabCut (Rother et al., SIGGRAPH 2004); DIS optical flow (Kroeger et al., ECCV 2016).
    """

    def __init__(self, side: int = 256, iterations: int = 2, reach: float = 0.15) -> None:
        if side < 1 or iterations < 1:
            raise ValueError(f"Expected `side` and `iterations` to be at least 1, but got {side} and {iterations}")
        if reach < 0:
            raise ValueError(f"Expected `reach` to be at least 0, but got {reach}")
        self.side = side
        self.iterations = iterations
        self.reach = reach

    def __call__(self, frames: Tensor, prompts: Sequence[Prompt], segment_frames: Sequence[int]) -> list[Tensor]:
        """Segment one video for each prompt.

        Args:
            frames: ``uint8 (T, 3, H, W)`` RGB.
            prompts: one per answer. A box without a pixel of the frame gives an empty plane, a box that fills the
                frame is taken as it is. Points labelled 1 are on the object, points labelled 0 off it.
            segment_frames: time indices whose masks are wanted, K of them.

        Returns:
            Per prompt, ``bool (M, K, H, W)`` on the CPU, one plane per box.
        """
        size = (int(frames.shape[-2]), int(frames.shape[-1]))
        times = list(segment_frames)
        done: dict[_Hint, Tensor] = {}
        masks = [torch.zeros(len(prompt.boxes), len(times), *size, dtype=torch.bool) for prompt in prompts]
        with _one_thread():
            clip = _Clip(frames, self.side)
            for prompt, planes in zip(prompts, masks, strict=True):
                for plane, hint in zip(planes, _hints(prompt, size, clip.size), strict=True):
                    if hint not in done:
                        done[hint] = self._segment(clip, hint, times, size)
                    plane[:] = done[hint]
        return masks

    def _segment(self, clip: "_Clip", hint: "_Hint", times: Sequence[int], size: tuple[int, int]) -> Tensor:
        """Return the masks of one object, ``bool (K, H, W)``."""
        found = _follow(clip, hint.frame, _cut_out(clip.colours[hint.frame], hint, self.reach, self.iterations), times)
        planes = torch.zeros(len(times), *size, dtype=torch.bool)
        for plane, time in zip(planes, times, strict=True):
            scaled = cv2.resize(found[time].view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
            plane[:] = torch.from_numpy(scaled.view(bool))
        return planes


@dataclass(frozen=True)
class _Hint:
    """One object of a prompt, in whole pixels of the scaled frames: what equal work is recognised by."""

    frame: int
    box: tuple[int, int, int, int]
    points: tuple[tuple[int, int, int], ...]


def _hints(prompt: Prompt, size: tuple[int, int], scaled: tuple[int, int]) -> Iterator[_Hint]:
    """Yield one hint per box; points of it are (x, y, label), without those outside the frame."""
    scale = torch.tensor([scaled[1] / size[1], scaled[0] / size[0]], dtype=torch.float64)
    for number, box in enumerate(prompt.boxes.cpu().double() * scale.repeat(2)):
        points = []
        if prompt.points is not None and prompt.labels is not None:
            places = (prompt.points[number].cpu().double() * scale).tolist()
            for (x, y), label in zip(places, prompt.labels[number].tolist(), strict=True):
                if 0 <= x < scaled[1] and 0 <= y < scaled[0]:
                    points.append((int(x), int(y), int(label)))
        yield _Hint(prompt.frame, covered_pixels(box.tolist(), scaled), tuple(points))


class _Clip:
    """The scaled frames, and what is computed from them once for all prompts."""

    def __init__(self, frames: Tensor, side: int) -> None:
        height, width = frames.shape[-2:]
        scale = min(1.0, side / max(height, width))
        self.size = (max(1, round(height * scale)), max(1, round(width * scale)))
        images = frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        if scale < 1:
            images = np.stack([cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA) for image in images])
        self.colours: NDArray[np.uint8] = images
        self._bins: dict[int, NDArray[np.intp]] = {}
        self._flows: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def bins(self, time: int) -> NDArray[np.intp]:
        """Return the colour bin of each pixel, ``int (h, w)``."""
        if time not in self._bins:
            red, green, blue = np.moveaxis(self.colours[time].astype(np.intp) * _BINS // 256, -1, 0)
            self._bins[time] = (red * _BINS + green) * _BINS + blue
        return self._bins[time]

    def origins(self, time: int, source: int) -> NDArray[np.float32]:
        """Return where each pixel at ``time`` comes from at ``source``, ``float32 (h, w, 2)`` xy."""
        if (time, source) not in self._flows:
            grid = np.stack(np.meshgrid(np.arange(self.size[1]), np.arange(self.size[0])), axis=-1).astype(np.float32)
            if min(self.size) >= _FLOW_SIDE:
                now, then = (cv2.cvtColor(self.colours[t], cv2.COLOR_RGB2GRAY) for t in (time, source))
                grid += self._dis.calc(now, then, np.zeros_like(grid))
            self._flows[time, source] = grid
        return self._flows[time, source]


def _cut_out(image: NDArray[np.uint8], hint: _Hint, reach: float, iterations: int) -> Mask:
    """Separate the object from the surroundings of its box, ``bool (h, w)``; the box itself where that fails."""
    x1, y1, x2, y2 = hint.box
    box = np.zeros(image.shape[:2], bool)
    box[y1:y2, x1:x2] = True
    if box.sum() < _MIN_PIXELS:
        return box
    extent = max(x2 - x1, y2 - y1)
    beyond, margin = round(reach * extent), max(4, round((reach + _SURROUNDINGS) * extent))
    labels = np.full(box.shape, cv2.GC_BGD, np.uint8)
    labels[max(y1 - beyond, 0) : y2 + beyond, max(x1 - beyond, 0) : x2 + beyond] = cv2.GC_PR_BGD
    labels[box] = cv2.GC_PR_FGD
    for x, y, label in hint.points:
        labels[y, x] = cv2.GC_FGD if label else cv2.GC_BGD
    # The surroundings are the fastest teacher of the background; if another object fills them, the whole frame is.
    near = np.s_[max(y1 - margin, 0) : y2 + margin, max(x1 - margin, 0) : x2 + margin]
    for window in (near, np.s_[:, :]):
        found = np.zeros_like(box)
        found[window] = _grab_cut(image[window], labels[window], iterations)
        if found.sum() >= _SMALLEST * box.sum():
            return found
    return box


def _grab_cut(image: NDArray[np.uint8], labels: NDArray[np.uint8], iterations: int) -> Mask:
    """Run GrabCut from its labels, ``uint8 (h, w)``; all False if they name only object or only background."""
    is_object = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if is_object.all() or not is_object.any():
        return np.zeros_like(is_object)
    cut = labels.copy()
    cv2.setRNGSeed(0)  # GrabCut clusters colours from random starts
    cv2.grabCut(
        image.copy(), cut, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK
    )
    return np.isin(cut, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _follow(clip: _Clip, frame: int, seed: Mask, times: Sequence[int]) -> dict[int, Mask]:
    """Follow the object from its mask on one frame as far as ``times`` reach, ``bool (h, w)`` per time."""
    found = {frame: seed}
    if not seed.any():
        return dict.fromkeys((*times, frame), seed)
    on, off = (np.bincount(clip.bins(frame)[where], minlength=_BINS**3) + 1e-3 for where in (seed, ~seed))
    is_like = on / on.sum() > _RATIO * off / off.sum()
    is_telling = is_like[clip.bins(frame)][seed].mean() >= _TELLING
    for step, last in ((1, max(times, default=frame)), (-1, min(times, default=frame))):
        track = _Track(seed)
        for time in range(frame + step, last + step, step):
            origins = clip.origins(time, time - step)
            if is_telling:
                found[time] = track.advance(is_like[clip.bins(time)], origins)
            else:
                found[time] = _carried(found[time - step], origins)
    return found


class _Track:
    """Where an object was last seen, how fast it moved, and for how long it has been out of sight."""

    def __init__(self, seed: Mask) -> None:
        self.mask = seed
        self.area = float(seed.sum())
        self.smallest = max(_SMALLEST * self.area, _MIN_PIXELS)
        self.centre = _centre(seed)
        rows, columns = np.flatnonzero(seed.any(axis=1)), np.flatnonzero(seed.any(axis=0))
        self.outline = seed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self.velocity = np.zeros(2)
        self.unseen = 0

    def advance(self, like: Mask, origins: NDArray[np.float32]) -> Mask:
        """Return the object in the next frame, ``bool (h, w)``; all False if it is out of sight.

        Args:
            like: pixels of the object's colours.
            origins: where each pixel was in the frame before.
        """
        expected = _carried(self.mask, origins)
        place = self.centre + self.velocity * (self.unseen + 1)
        best: Mask | None = None
        best_score = -np.inf
        for candidate in self._candidates(like, place):
            score = self._score(candidate, expected, place)
            if score > best_score:
                best, best_score = candidate, score
        if best is None:
            self.unseen += 1
            return np.zeros_like(like)
        centre = _centre(best)
        self.velocity = (centre - self.centre) / (self.unseen + 1)
        self.mask, self.centre, self.unseen = best, centre, 0
        return best

    def _candidates(self, like: Mask, place: NDArray[np.float64]) -> Iterator[Mask]:
        """Yield what the object may be: each component that is large enough, or its part of a merged one."""
        _, labels, stats, _ = cv2.connectedComponentsWithStats(like.view(np.uint8))
        sizes = stats[:, cv2.CC_STAT_AREA]
        for n in np.flatnonzero(sizes >= self.smallest):
            if n > 0:  # the background
                component = labels == n
                yield self._part_of(component, place) if sizes[n] > _MERGED * self.area else component

    def _score(self, candidate: Mask, expected: Mask, place: NDArray[np.float64]) -> float:
        """Rate a candidate by size, overlap with what flow expects, and distance; -inf if it cannot be the object."""
        area = float(candidate.sum())
        if area < self.smallest:
            return -np.inf
        overlap = float((candidate & expected).sum()) / self.area
        distance = float(np.linalg.norm(_centre(candidate) - place) / max(candidate.shape))
        if overlap == 0 and distance > _GATE * (self.unseen + 1):
            return -np.inf
        return overlap - distance - 0.2 * abs(math.log(area / self.area))

    def _part_of(self, component: Mask, place: NDArray[np.float64]) -> Mask:
        """Return the part of a merged component that the object's last whole outline covers best near ``place``."""
        (height, width), (rows, columns) = self.outline.shape, component.shape
        padded = np.pad(component, ((height, height), (width, width))).astype(np.float32)
        covered = cv2.matchTemplate(padded, self.outline.astype(np.float32), cv2.TM_CCORR) / self.area
        y, x = np.ogrid[: covered.shape[0], : covered.shape[1]]
        centre = _centre(self.outline)
        away = np.hypot(x - width + centre[0] - place[0], y - height + centre[1] - place[1])
        top, left = np.unravel_index(int(np.argmax(covered - away / max(component.shape))), covered.shape)
        placed = np.zeros(padded.shape, bool)
        placed[top : top + height, left : left + width] = self.outline
        part: Mask = component & placed[height : height + rows, width : width + columns]
        return part


def _carried(mask: Mask, origins: NDArray[np.float32]) -> Mask:
    """Return the mask where flow takes it, ``bool (h, w)``."""
    return np.asarray(cv2.remap(mask.view(np.uint8), origins[..., 0], origins[..., 1], cv2.INTER_NEAREST) > 0)


def _centre(mask: Mask) -> NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep OpenCV to one thread: its pool would fight torch's for the cores, and its order of sums would vary."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
