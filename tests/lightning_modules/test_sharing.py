"""What a GRPO step computes once: the same curve as computing it for every answer, and each picture seen once."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.structures import VideoSample
from dialogues.episode import Episode
from lightning_modules import AdamWConfig, GRPOModule
from lightning_modules.policy.losses import PolicyLoss
from models.reasoners import LoRA, QwenVL
from models.reasoners.base import PolicyOutput
from models.reasoners.scratch import ScratchConfig, save
from rewards.base import Reward
from tests.lightning_modules.test_training import loader, parts, samples, trainer

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save(ScratchConfig(family=request.param, hidden_size=64, intermediate_size=64, num_layers=2), folder)
    return folder


class Vowels(Reward):
    """Something that even random text has more or less of."""

    def score(self, episode: Episode) -> float:
        return sum(letter in "aeiou" for letter in episode.last.completion.text) / 4


class Curve(Callback):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        named = trainer.callback_metrics.items()
        self.points.append({name: float(value) for name, value in named if not name.startswith("step_time")})


def grpo(reasoner: QwenVL, **settings: Any) -> GRPOModule:
    defaults: dict[str, Any] = {"num_generations": 4, "max_completion_length": 12}
    return GRPOModule(reasoner=reasoner, rewards={"vowels": Vowels()}, **parts() | defaults | settings)


@pytest.mark.parametrize("lora", [None, LoRA(r=4, alpha=8)], ids=["full", "lora"])
def test_twenty_steps_draw_the_same_curve(folder, tmp_path, lora):
    curves, policies = [], []
    for sharing in (True, False):
        torch.manual_seed(0)
        reasoner = QwenVL(str(folder), dtype="float32", lora=lora, prefix_sharing=sharing)
        module = grpo(reasoner, optimizer=AdamWConfig(learning_rate=2e-3), loss=PolicyLoss(beta=0.05))
        run, curve = trainer(tmp_path, 20), Curve()
        run.callbacks.append(curve)
        run.fit(module, loader(samples()))
        curves.append(curve.points)
        policies.append({name: weight.detach() for name, weight in module.named_parameters() if weight.requires_grad})
    assert len(curves[0]) == 20
    assert len({point["reward"] for point in curves[0]}) > 5
    for shared, separate in zip(*curves, strict=True):
        assert shared == pytest.approx(separate, abs=1e-5, nan_ok=True)
    for name, weight in policies[0].items():
        assert torch.allclose(weight, policies[1][name], atol=1e-4), name


def looks(reasoner: QwenVL) -> Counter[str]:
    """Count pictures that vision towers see, by tower."""
    counts: Counter[str] = Counter()

    def watch(model: Any, name: str) -> None:
        def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            counts[name] += len(kwargs["grid_thw"])

        model.visual.register_forward_pre_hook(note, with_kwargs=True)

    watch(reasoner._policy.model, "policy")
    for frozen in reasoner._frozen:
        watch(frozen.model, "reference")
    return counts


def step(folder: Path, tmp_path: Path, videos: list[VideoSample], **settings: Any) -> Counter[str]:
    """Take a step with two updates, a reference and micro-batches of a group; return how often pictures were seen."""
    module = grpo(
        QwenVL(str(folder), dtype="float32", **settings),
        loss=PolicyLoss(beta=0.1),
        num_iterations=2,
        micro_batch_size=4,
    )
    counts = Counter[str]()

    class Watch(Callback):
        def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
            self.counts = looks(module.reasoner)

    run, watch = trainer(tmp_path), Watch()
    run.callbacks.append(watch)
    run.fit(module, loader(videos))
    counts.update(watch.counts)
    return counts


BLANK = 1  # the picture of the episode that a rank without episodes computes with


@pytest.mark.parametrize("settings", [{"freeze_vision": True}, {"lora": LoRA(r=2, alpha=4)}], ids=["frozen", "lora"])
def test_a_frozen_tower_sees_each_frame_once_a_step(folder, tmp_path, settings):
    """In the rollout; old log-probabilities, reference and both updates remember it."""
    videos = samples(2)
    frames = sum(video.num_frames for video in videos)
    assert step(folder, tmp_path, videos, **settings) == {"policy": frames + BLANK}


def test_a_trained_tower_sees_each_frame_once_for_each_of_its_weights(folder, tmp_path):
    """Once before the updates, and once in each of them, with gradient."""
    videos = samples(2)
    frames = sum(video.num_frames for video in videos)
    assert step(folder, tmp_path, videos) == {"policy": 3 * frames + BLANK, "reference": frames}


def test_without_sharing_each_answer_has_pictures_of_its_own(folder, tmp_path):
    videos = samples(1)
    answers = 4 * videos[0].num_frames
    counts = step(folder, tmp_path, videos, prefix_sharing=False, freeze_vision=True)
    assert counts == {"policy": (1 + 1 + 2) * answers + BLANK, "reference": answers}  # rollout, old and two updates


@pytest.mark.parametrize(
    ("num_iterations", "beta", "fixed"),
    [(1, 0.0, 0), (2, 0.0, 1), (1, 0.1, 1), (2, 0.1, 2)],
    ids=["on_policy", "old", "reference", "old_and_reference"],
)
def test_one_update_needs_no_pass_for_the_policy_that_answered(
    folder, tmp_path, monkeypatch, num_iterations, beta, fixed
):
    """It is the policy itself; passes without gradient are for old policies and the reference only."""
    passes, logprobs = [], QwenVL.logprobs

    def noted(*arguments: Any) -> PolicyOutput:
        passes.append(torch.is_grad_enabled())
        return logprobs(*arguments)

    monkeypatch.setattr(QwenVL, "logprobs", noted)
    module = grpo(QwenVL(str(folder), dtype="float32"), loss=PolicyLoss(beta=beta), num_iterations=num_iterations)
    trainer(tmp_path).fit(module, loader(samples(1)))
    assert passes == [False] * fixed + [True] * num_iterations


def test_a_tower_that_changed_is_asked_again(folder):
    """What a trained tower said is forgotten with the context; a frozen one's is remembered behind it."""
    video = samples(1)[0]
    dialogue = parts()["dialogue"]
    chat = dialogue.ask(video, [0, 1])
    for frozen in (False, True):
        reasoner = QwenVL(str(folder), dtype="float32", freeze_vision=frozen)
        reasoner.configure()
        counts = looks(reasoner)
        prompt = reasoner._prompt(video, chat)
        with torch.no_grad():
            with reasoner.seeing_once():
                reasoner._read(prompt)
                reasoner._read(prompt)
            assert counts["policy"] == 2 + BLANK
            reasoner._read(prompt)
        assert counts["policy"] == 2 + BLANK + (0 if frozen else 2)


@pytest.mark.parametrize("change", ["weights", "dtype"])
def test_a_frozen_tower_that_is_made_another_is_asked_again(folder, tmp_path, change):
    """By weights of a checkpoint or by another dtype, while the sample lives; on disk it has another name."""
    video = samples(1)[0]
    chat = parts()["dialogue"].ask(video, [0, 1])
    reasoner = QwenVL(str(folder), dtype="float32", freeze_vision=True, vision_cache=tmp_path)
    reasoner.configure()
    counts, prompt = looks(reasoner), reasoner._prompt(video, chat)
    others = {name: weight + 0.1 if "visual" in name else weight for name, weight in reasoner.state_dict().items()}
    with torch.no_grad():
        with reasoner.seeing_once():
            reasoner._read(prompt)
        reasoner.load_state_dict(others) if change == "weights" else reasoner.to(torch.bfloat16)
        before = counts["policy"]
        with reasoner.seeing_once():
            reasoner._read(prompt)
    assert counts["policy"] == before + 2 + BLANK
    assert len(list(tmp_path.iterdir())) == 2


def test_features_on_disk_spare_the_tower_in_another_run(folder, tmp_path):
    videos, settings = samples(2), {"freeze_vision": True, "vision_cache": tmp_path / "features"}
    frames = videos[0].num_frames  # both videos have the same pixels
    assert step(folder, tmp_path, videos, **settings) == {"policy": frames + BLANK}
    assert step(folder, tmp_path, samples(2), **settings) == {}
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == frames + BLANK


def test_features_of_a_trained_tower_are_not_kept_on_disk(folder, tmp_path):
    with pytest.raises(ValueError, match="set `freeze_vision: true`, or leave `vision_cache` out"):
        QwenVL(str(folder), dtype="float32", vision_cache=tmp_path).configure()
