"""Objects of one video, prompted on different frames, move away from there together, step by step.

SAM 2 (arXiv:2408.00714, section 4) tracks an object through a memory of its own past, so that objects are independent;
its batches are therefore free to be those that a group of answers needs.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from models.segmenters.sam2_step import MemoryBank, SAM2Step

Item = TypeVar("Item")


class PromptedObject(NamedTuple):
    """An object where it is pointed at.

    Args:
        frame: time index of the prompted frame.
        points: P pairs of xy in pixels of the network's square; a box is its two corners.
        labels: P of them; 0 and 1 for points off and on the object, 2 and 3 for corners.
    """

    frame: int
    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]


class Track(NamedTuple):
    """The way of one object in one direction.

    Args:
        number: of the object.
        frame: where it begins.
        direction: 1 or -1.
        length: in frames, without the first.
    """

    number: int
    frame: int
    direction: int
    length: int


#: object and time of every row, and their mask logits ``(B, 1, h, w)``
Masks = tuple[list[tuple[int, int]], Tensor]


class LockStep:
    """Track all objects of a video at once; see ``SAM2Segmenter`` for what it costs.

    Step ``s`` of a track is the frame ``s`` frames away from the prompted one, on either side. What an object reads
    there (the prompted frame, the memories of the last steps, the pointers of the last steps) depends on ``s`` alone,
    so that all tracks of equal ``s`` fit into one batch without padding, whatever their frames.
    Tracks of a batch are sorted by length: those that are done leave at its end.

    Args:
        step: the network on one video.
        batch_size: most objects, or tracks, that are run at once.
    """

    def __init__(self, step: SAM2Step, batch_size: int) -> None:
        self.step = step
        self.batch_size = batch_size

    def __call__(self, objects: Sequence[PromptedObject], times: Sequence[int]) -> Iterator[Masks]:
        """Yield the masks of every object at all of the times, in batches of any order.

        Args:
            objects: where to begin.
            times: time indices that are wanted.
        """
        tracks = sorted(_tracks(objects, times), key=lambda track: -track.length)
        tracked = {track.number for track in tracks}
        begun: dict[int, tuple[Tensor, Tensor]] = {}
        for batch in self._alike(objects if times else []):
            levels = self.step.levels([objects[index].frame for index in batch])
            points = torch.tensor(
                [objects[index].points for index in batch], dtype=torch.float32, device=levels[-1].device
            )
            labels = torch.tensor([objects[index].labels for index in batch], device=levels[-1].device)
            prediction = self.step.prompt(levels, points, labels)
            if not tracked.isdisjoint(batch):
                memory = self.step.remember(levels[-1], prediction, prompted=True)
                pairs = zip(memory.split(1, dim=1), prediction.pointer.split(1), strict=True)
                begun |= zip(batch, pairs, strict=True)
            yield from _wanted([(index, objects[index].frame) for index in batch], prediction.logits, times)
        for together in _batches(tracks, self.batch_size):
            memories, pointers = zip(*(begun[track.number] for track in together), strict=True)
            # Yielded when all is done: what is made of them may wait for the device.
            yield from list(self._follow(together, self.step.bank(torch.cat(memories, 1), torch.cat(pointers)), times))

    def _alike(self, objects: Sequence[PromptedObject]) -> Iterator[Sequence[int]]:
        """Yield batches of objects that have equally many points: padding would be attended to."""
        alike: dict[int, list[int]] = defaultdict(list)
        for index, each in enumerate(objects):
            alike[len(each.labels)].append(index)
        for indices in alike.values():
            yield from _batches(indices, self.batch_size)

    def _follow(self, tracks: Sequence[Track], bank: MemoryBank, times: Sequence[int]) -> Iterator[Masks]:
        """Yield the masks of tracks, longest first, step by step."""
        for distance in range(1, tracks[0].length + 1):
            alive = [track for track in tracks if track.length >= distance]
            bank.keep(len(alive))
            frames = [track.frame + track.direction * distance for track in alive]
            levels = self.step.levels(frames)
            prediction = self.step.track(levels, bank)
            if going_on := sum(track.length > distance for track in alive):
                bank.keep(going_on)
                read = prediction.first(going_on)
                bank.append(self.step.remember(levels[-1][:going_on], read), read.pointer)
            yield from _wanted(
                [(t.number, frame) for t, frame in zip(alive, frames, strict=True)], prediction.logits, times
            )


def _tracks(objects: Sequence[PromptedObject], times: Sequence[int]) -> list[Track]:
    """Return the tracks that are needed to reach all times."""
    if not times:
        return []
    tracks = []
    for index, (frame, *_) in enumerate(objects):
        tracks += [Track(index, frame, 1, max(times) - frame), Track(index, frame, -1, frame - min(times))]
    return [track for track in tracks if track.length > 0]


def _batches(items: Sequence[Item], batch_size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), batch_size):
        yield items[start : start + batch_size]


def _wanted(places: list[tuple[int, int]], logits: Tensor, times: Sequence[int]) -> Iterator[Masks]:
    """Yield the rows whose time is wanted, if there are any."""
    rows = [row for row, (_, time) in enumerate(places) if time in times]
    if len(rows) == len(places):
        yield places, logits
    elif rows:
        yield [places[row] for row in rows], logits[rows]
