"""Frames as patches: each of them once, alone or in company, in one thread or two."""

import gc
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Budget, Chat, Exact, Frame, Message
from models.reasoners.pictures import Picture
from models.reasoners.prompts import EncodedImages, PromptEncoder
from models.reasoners.scratch import ScratchConfig, save

LONG = 60  # seconds in which whatever is waited for has surely come


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def processor(request, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp(request.param)
    save(ScratchConfig(family=request.param, hidden_size=32, intermediate_size=32, num_layers=1), folder)
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture
def encoder(processor):
    return PromptEncoder(processor)


def frames(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def video(seed: int = 0) -> VideoSample:
    return VideoSample(f"v{seed}", "0", "it", [0, 1, 2, 3], LazyStack.of(frames(seed)))


def sizes(encoder: PromptEncoder) -> list[Exact | Budget]:
    side = encoder.factor
    return [Exact(2 * side, 2 * side), Exact(side, 3 * side), Budget(side**2, 6 * side**2, side)]


def chat(*shown: Frame) -> Chat:
    return Chat((Message("user", shown),), (60, 90), (0, 1, 2, 3), tuple(frame.index for frame in shown))


def equal(one: EncodedImages, other: EncodedImages) -> bool:
    return torch.equal(one.pixel_values, other.pixel_values) and torch.equal(one.grid, other.grid)


def in_one_call(encoder: PromptEncoder, sample: VideoSample, shown: list[Frame]) -> EncodedImages:
    images = [encoder._pixels(Picture(sample.frames, frame)) for frame in shown]
    patches = encoder.processor.image_processor(images=images, do_resize=False, return_tensors="pt")
    return EncodedImages(patches["pixel_values"], patches["image_grid_thw"])


def test_frames_one_by_one_have_the_numbers_of_one_call(processor, encoder):
    shown = [Frame(index, size) for index in range(4) for size in sizes(encoder)]
    expected = in_one_call(encoder, video(), shown)
    alone, one_by_one = video(), PromptEncoder(processor)
    for frame in reversed(shown):
        one_by_one.images(alone, chat(frame))
    assert equal(one_by_one.images(alone, chat(*shown)), expected)
    assert equal(encoder.images(video(), chat(*shown)), expected)
    # the comparison can fail
    assert not equal(encoder.images(video(1), chat(*shown)), expected)
    assert not torch.equal(expected.grid[0], expected.grid[1])


def test_a_frame_in_a_size_is_cut_once_as_long_as_its_sample_lives(encoder, monkeypatch):
    seen, pixels = [], encoder._pixels

    def noted(picture):
        seen.append(picture.frame)
        return pixels(picture)

    monkeypatch.setattr(encoder, "_pixels", noted)
    square, wide, budget = sizes(encoder)
    sample = video()
    first = encoder.images(sample, chat(Frame(0, square), Frame(1, square), Frame(0, square)))
    assert seen == [Frame(0, square), Frame(1, square)]
    assert torch.equal(*first.pixel_values.chunk(3)[::2])
    # another question about the same frames, and a follow-up that looks closer
    again = encoder.images(replace(sample, expression="that"), chat(Frame(1, square), Frame(1, wide)))
    assert seen == [Frame(0, square), Frame(1, square), Frame(1, wide)]
    assert equal(again, in_one_call(encoder, sample, [Frame(1, square), Frame(1, wide)]))
    seen.clear()
    # the same pixels in another sample are other frames
    encoder.images(video(), chat(Frame(1, budget)))
    assert seen == [Frame(1, budget)]
    gc.collect()
    assert list(encoder._encoded._by_frames) == [sample.frames]
    del sample
    gc.collect()
    assert len(encoder._encoded._by_frames) == 0


def test_one_thread_prepares_while_another_encodes(encoder):
    """The thread stands in the middle of a frame of one sample while the other sample is encoded."""
    begun, go_on = threading.Event(), threading.Event()

    def read(time: int) -> torch.Tensor:
        begun.set()
        assert go_on.wait(LONG)
        return frames(1)[time]

    shown = chat(*(Frame(index, size) for index in range(4) for size in sizes(encoder)))
    used, ahead = video(0), replace(video(1), frames=LazyStack(read, 4))
    thread = threading.Thread(target=encoder.images, args=(ahead, shown))
    thread.start()
    assert begun.wait(LONG)
    assert equal(encoder.images(used, shown), in_one_call(encoder, used, shown.frames))
    go_on.set()
    thread.join(LONG)
    assert equal(encoder.images(ahead, shown), in_one_call(encoder, video(1), shown.frames))


def test_threads_that_encode_the_same_frames_agree(encoder):
    samples = [video(seed) for seed in range(4)]
    shown = chat(*(Frame(index, size) for index in range(4) for size in sizes(encoder)))
    results: list[list[EncodedImages]] = [[], []]

    def work(into: list[EncodedImages]) -> None:
        into.extend(encoder.images(sample, shown) for sample in samples * 3)

    threads = [threading.Thread(target=work, args=(into,)) for into in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    expected = [in_one_call(encoder, sample, shown.frames) for sample in samples] * 3
    for got in results:
        assert all(equal(one, other) for one, other in zip(got, expected, strict=True))
