"""While a step runs, the frames of the next batch are read and cut into patches; each of them once."""

import threading
from collections import Counter

import pytest
import torch
from lightning.pytorch import Callback

from datamodules import ReVOS, StridedThroughAnchor, VideoDataModule
from datamodules.conversations import ConversationDataset
from datamodules.frames import ImageReader
from datamodules.shapes import write_shapes
from datamodules.structures import LazyStack
from lightning_modules import SegmentationModule, SFTModule
from lightning_modules.policy.losses import PolicyLoss
from models.frame_samplers import UniformFrames
from models.reasoners import ScriptedReasoner
from models.reasoners.prompts import PromptEncoder
from models.reasoners.scratch import ScratchConfig, save
from tests.lightning_modules.test_training import Vowels, grpo, parts, qwen, trainer

LONG = 60  # seconds in which whatever is waited for has surely come
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(ScratchConfig(hidden_size=32, intermediate_size=32, num_layers=1), folder)
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root, videos=3, valid_videos=1, preset="easy", size=56)
    return root


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """A function that counts which files have been decoded since it was called last, in whatever process."""
    journal, read = tmp_path / "decoded", ImageReader.__call__

    def noted(reader, time):
        with journal.open("a") as file:
            file.write(f"{reader._paths[time]}\n")
        return read(reader, time)

    def count():
        names = journal.read_text().splitlines() if journal.exists() else []
        journal.unlink(missing_ok=True)
        return Counter(names)

    monkeypatch.setattr(ImageReader, "__call__", noted)
    return count


@pytest.fixture
def cut(monkeypatch):
    """How often each frame of each sample has been resized and cut into patches, in each size."""
    counts, pixels = Counter(), PromptEncoder._pixels

    def noted(encoder, picture):
        counts[picture] += 1
        return pixels(encoder, picture)

    monkeypatch.setattr(PromptEncoder, "_pixels", noted)
    return counts


def training(shapes, **options):
    return ReVOS(shapes, "train", StridedThroughAnchor(num_frames=2), **options)


def fit(module, data, tmp_path, steps=STEPS, **options):
    run = trainer(tmp_path, steps)
    run.limit_val_batches = 0
    run.fit(module, datamodule=data, **options)


class Samples(Callback):
    """Keeps the names and frames of what was trained on."""

    def __init__(self):
        self.files = Counter()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for sample in batch:
            folder = trainer.datamodule.train[0].images / sample.video_id
            self.files.update(f"{folder / sample.meta['frame_names'][index]}.jpg" for index in sample.frame_ids)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_grpo_step_reads_and_cuts_each_frame_once(folder, shapes, tmp_path, decoded, cut, num_workers):
    """With a reference and two updates the frames are looked at four times: all of an epoch is counted."""
    data = VideoDataModule(training(shapes), num_workers=num_workers)
    module = grpo(
        qwen(folder), rewards={"vowels": Vowels()}, num_generations=2, num_iterations=2, loss=PolicyLoss(beta=0.1)
    )
    run, seen = trainer(tmp_path, -1), Samples()
    run.fit_loop.max_epochs = 1
    run.callbacks.append(seen)
    run.fit(module, datamodule=data)
    assert run.global_step == 2 * len(data.train[0]) > 10
    assert decoded() == seen.files
    assert set(cut.values()) == {1}
    assert len(cut) == 2 * len(data.train[0]) + 1  # that of the episode of ranks without episodes


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_next_batch_is_prepared_while_a_step_runs(folder, shapes, tmp_path, num_workers):
    prepared = [threading.Event() for _ in range(STEPS + 1)]
    calls, threads = iter(prepared), set()
    module = grpo(qwen(folder), rewards={"vowels": Vowels()}, num_generations=2)
    prepare, step = module.prepare, module.training_step

    def prepare_and_tell(sample):
        prepare(sample)
        threads.add(threading.current_thread())
        next(calls).set()

    def step_that_waits(batch, batch_idx):
        assert prepared[batch_idx + 1].wait(LONG)
        (sample,) = batch
        assert len(module.reasoner.encoder._encoded._by_frames[sample.frames]) == 2
        return step(batch, batch_idx)

    module.prepare, module.training_step = prepare_and_tell, step_that_waits
    fit(module, VideoDataModule(training(shapes), num_workers=num_workers), tmp_path)
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_preparing_does_not_change_the_weights(folder, shapes, tmp_path):
    weights = []
    for ahead in (True, False):
        module = grpo(qwen(folder), rewards={"vowels": Vowels()}, num_generations=2)
        if not ahead:
            module.prepare = None
        torch.manual_seed(0)
        fit(module, VideoDataModule(training(shapes), batch_size=2), tmp_path)
        weights.append([parameter.detach().clone() for parameter in module.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_what_is_learned_from_conversations_is_all_their_frames(folder, shapes, tmp_path, cut):
    data = VideoDataModule(ConversationDataset(ReVOS(shapes, "train")), batch_size=2)
    module = SFTModule(reasoner=qwen(folder), **parts() | {"frame_sampler": UniformFrames(1)})
    seen = Samples()
    run = trainer(tmp_path, -1)
    run.fit_loop.max_epochs = 1
    run.callbacks.append(seen)
    run.fit(module, datamodule=data)
    assert set(cut.values()) == {1}
    assert len(cut) == seen.files.total() > 3


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_only_what_is_shown_of_a_long_video_is_read_ahead(folder, shapes, tmp_path, decoded, stage):
    """Six frames, two of which are shown; the question looks at the first for its size."""
    dataset = ReVOS(shapes, "valid")
    module = SegmentationModule(reasoner=qwen(folder), **parts() | {"frame_sampler": UniformFrames(2)})
    module.configure_model()
    data = VideoDataModule(**{{"validate": "val"}.get(stage, stage): dataset})
    module._trainer = trainer(tmp_path)
    module._trainer.datamodule = data
    module.setup(stage)
    batches = {"validate": data.val_dataloader, "test": data.test_dataloader, "predict": data.predict_dataloader}
    for (sample,) in batches[stage]():
        assert set(sample.frames._slices) == {0, 5}
    assert set(decoded()) == {f"{dataset.images / sample.video_id}/{time:05d}.jpg" for time in (0, 5)}


def test_a_reasoner_without_preparations_reads_nothing_that_is_not_asked(shapes, tmp_path):
    module = SegmentationModule(reasoner=ScriptedReasoner(), **parts())
    sample = ReVOS(shapes, "valid")[0]
    module.prepare(sample)
    assert set(sample.frames._slices) == {0}


def test_data_that_is_no_datamodule_is_not_prepared(tmp_path):
    module = SegmentationModule(reasoner=ScriptedReasoner(), **parts())
    run = trainer(tmp_path)
    run.datamodule = None
    module._trainer = run
    module.setup("test")


def test_patches_go_with_their_sample(folder, shapes):
    module = SegmentationModule(reasoner=qwen(folder), **parts())
    module.configure_model()
    sample = ReVOS(shapes, "valid")[0]
    module.prepare(sample)
    encoded = module.reasoner.encoder._encoded._by_frames
    assert isinstance(sample.frames, LazyStack)
    assert len(encoded) == 1
    del sample
    assert len(encoded) == 0
