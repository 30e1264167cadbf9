"""SFT and GRPO on models small enough to check every number."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from datamodules.conversations import Conversation
from datamodules.structures import VideoSample
from dialogues import VeasonR1
from dialogues.episode import Answer
from evaluation.protocols import MeViSProtocol
from lightning_modules import AdamWConfig, GRPOModule, SegmentationModule, SFTModule, rollout
from lightning_modules.policy.losses import PolicyLoss
from models.frame_samplers import AllFrames
from models.reasoners import LoRA, QwenVL, Sampling, ScriptedReasoner
from models.reasoners.scratch import ScratchConfig, save
from models.segmenters import Prompt, Segmenter, StillSegmenter
from rewards import BoxIoU, Form, KeyframeArea, MaskConsistency
from rewards.base import Reward
from tests.builders import moving_square, video_sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=2), folder)
    return folder


def qwen(folder: Path, **options: Any) -> QwenVL:
    return QwenVL(str(folder), dtype="float32", **options)


def samples(count: int = 2) -> list[VideoSample]:
    masks = moving_square(t=3, size=56, side=16, step=8)
    return [video_sample(masks, expression=f"square {index}", video_id=f"v{index}") for index in range(count)]


def conversations(count: int = 2) -> list[VideoSample]:
    videos = samples(count)
    for index, video in enumerate(videos):
        time = index % 3
        video.meta["conversations"] = [
            Conversation("the square", "It moves. " * (index + 1), time, video.boxes(time).double()),
            Conversation("what is white?", "It stays.", 0, video.boxes(0).double()),
        ]
    return videos


def loader(videos: list[VideoSample]) -> DataLoader:
    return DataLoader(videos, batch_size=len(videos), collate_fn=list)


def trainer(tmp_path: Path, steps: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def fit(module: SegmentationModule, videos: list[VideoSample], tmp_path: Path, steps: int = 1) -> dict[str, float]:
    """Train, and return what was logged last."""
    run = trainer(tmp_path, steps)
    run.fit(module, loader(videos))
    return {name: float(value) for name, value in run.logged_metrics.items()}


def right(sample: VideoSample, dialogue: VeasonR1, keyframe: int = 1) -> str:
    answer = Answer("It is white.", keyframe, sample.boxes(keyframe).double())
    return dialogue.write(answer, dialogue.ask(sample, range(sample.num_frames)))


def parts() -> dict[str, Any]:
    return {"dialogue": VeasonR1(size=56), "segmenter": StillSegmenter(), "frame_sampler": AllFrames()}


def rewards() -> dict[str, Reward]:
    return {"form": Form(), "keyframe": KeyframeArea(), "boxes": BoxIoU(), "masks": MaskConsistency()}


class OutOfMemory(Segmenter):
    def __call__(self, frames, prompts, segment_frames):
        raise RuntimeError("out of memory")


# --- rollout and evaluation ---


def test_rollout_of_a_right_answer_has_the_right_masks():
    (video,) = samples(1)
    dialogue = VeasonR1(size=56)
    reasoner = ScriptedReasoner(default=[right(video, dialogue), "nonsense"])
    ((good, bad),) = rollout([video], reasoner, dialogue, StillSegmenter(), AllFrames(), group_size=2)
    assert good.last.answer.keyframe == 1
    assert good.last.mask_frames == [0, 1, 2]
    assert torch.equal(good.prediction[1], video.target([1])[0])
    assert bad.last.masks is not None
    assert bad.last.masks.shape == (0, 3, 56, 56)
    assert not bad.prediction.any()


def test_segmented_frames_are_the_shown_ones_in_training_and_all_in_evaluation():
    (video,) = samples(1)

    class OnlyLast(AllFrames):
        def __call__(self, sample):
            return [2]

    dialogue = VeasonR1(size=56)
    answer = Answer("", 2, video.boxes(2).double())
    reasoner = ScriptedReasoner(default=[dialogue.write(answer, dialogue.ask(video, [2]))])
    ((shown,),) = rollout([video], reasoner, dialogue, StillSegmenter(), OnlyLast(), segment_frames="shown")
    ((everything,),) = rollout([video], reasoner, dialogue, StillSegmenter(), OnlyLast())
    assert (shown.last.mask_frames, everything.last.mask_frames) == ([2], [0, 1, 2])
    assert torch.equal(shown.prediction[0], video.target([2])[0])
    assert torch.equal(everything.prediction[2], video.target([2])[0])


def test_a_failing_segmenter_raises_or_is_recorded():
    (video,) = samples(1)
    dialogue = VeasonR1(size=56)
    reasoner = ScriptedReasoner(default=[right(video, dialogue)])
    with pytest.raises(RuntimeError, match="out of memory"):
        rollout([video], reasoner, dialogue, OutOfMemory(), AllFrames())
    ((episode,),) = rollout([video], reasoner, dialogue, OutOfMemory(), AllFrames(), on_segmenter_error="skip")
    assert episode.last.masks is None
    assert episode.last.failure == "RuntimeError: out of memory"
    with pytest.raises(ValueError, match="out of memory"):
        _ = episode.prediction


def test_group_shares_one_segmenter_call():
    calls: list[list[Prompt]] = []

    class Counting(StillSegmenter):
        def __call__(self, frames, prompts, segment_frames):
            calls.append(list(prompts))
            return super().__call__(frames, prompts, segment_frames)

    video, other = samples(2)
    rollout([video, other], ScriptedReasoner(), VeasonR1(size=56), Counting(), AllFrames(), group_size=3)
    assert [len(prompts) for prompts in calls] == [3, 3]


def test_test_measures_what_was_answered(tmp_path):
    videos = samples(2)
    dialogue = VeasonR1(size=56)
    reasoner = ScriptedReasoner({videos[0].key: [right(videos[0], dialogue)]}, default=["nothing"])
    module = SegmentationModule(reasoner, **parts(), rewards=rewards(), protocol=MeViSProtocol())
    trainer(tmp_path).test(module, loader(videos), verbose=False)
    # J of the first: 16x16 squares 8 apart around the keyframe overlap by half: (1/3 + 1 + 1/3) / 3; of the second: 0.
    assert module.results["overall"]["J"] == pytest.approx((5 / 9 + 0) / 2)
    # Rewards of the first: form 2, keyframe 1, boxes 1, masks 5/9; of the second: 0.
    assert module.results["overall"]["reward"] == pytest.approx((4 + 5 / 9) / 2)


def test_a_repeated_sample_is_measured_once(tmp_path):
    videos = samples(2)
    videos[1].meta["repeated"] = True
    reasoner = ScriptedReasoner({videos[0].key: [right(videos[0], VeasonR1(size=56))]}, default=["nothing"])
    module = SegmentationModule(reasoner, **parts(), protocol=MeViSProtocol())
    trainer(tmp_path).test(module, loader(videos), verbose=False)
    assert module.results["overall"]["J"] == pytest.approx(5 / 9)


def test_a_failed_segmenter_is_no_score_in_a_test(tmp_path):
    videos = samples(1)
    module = SegmentationModule(
        ScriptedReasoner(default=[right(videos[0], VeasonR1(size=56))]),
        **parts() | {"segmenter": OutOfMemory()},
        protocol=MeViSProtocol(),
        on_segmenter_error="skip",
    )
    run = trainer(tmp_path)
    run.test(module, loader(videos), verbose=False)
    assert math.isnan(module.results["overall"]["J"])
    assert run.logged_metrics["test/segmenter_failures"] == 1


def test_what_a_broken_model_says_is_no_score(tmp_path):
    class Broken(ScriptedReasoner):
        def generate(self, samples, chats, group_size, sampling):
            groups = super().generate(samples, chats, group_size, sampling)
            groups[0][0].logprobs = torch.tensor([math.nan])
            return groups

    module = SegmentationModule(Broken(), **parts(), protocol=MeViSProtocol())
    with pytest.raises(FloatingPointError, match="finite logits while 'v0/0' was answered"):
        trainer(tmp_path).test(module, loader(samples(1)), verbose=False)


# --- supervised fine-tuning ---


def test_sft_learns_to_repeat(folder, tmp_path):
    module = SFTModule(reasoner=qwen(folder), **parts(), optimizer=AdamWConfig(learning_rate=3e-3))
    videos = conversations()
    first = fit(module, videos, tmp_path)["loss"]
    last = fit(module, videos, tmp_path, steps=40)["loss"]
    assert last < 0.5 * first
    # The likelihood of assistant tokens alone: prompts are long, and none of them is predicted.
    episodes = [episode for video in videos for episode in module._episodes(video)]
    assert [episode.sample.expression for episode in episodes] == ["the square", "what is white?"] * 2
    output = module.reasoner.logprobs(episodes)
    assert output.mask.sum() == sum(len(episode.last.completion.token_ids) for episode in episodes)


@pytest.mark.parametrize("size", [1, 3])
def test_sft_does_not_depend_on_the_micro_batch(folder, tmp_path, size):
    weights = []
    for micro_batch_size in (None, size):
        module = SFTModule(
            reasoner=qwen(folder), **parts(), micro_batch_size=micro_batch_size, optimizer=AdamWConfig(1e-3)
        )
        fit(module, conversations(4), tmp_path)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    assert torch.allclose(*weights, atol=1e-5)


def test_sft_wants_conversations(folder, tmp_path):
    with pytest.raises(ValueError, match="use a ConversationDataset"):
        fit(SFTModule(reasoner=qwen(folder), **parts()), samples(), tmp_path)


# --- GRPO ---


def grpo(reasoner: Any, **options: Any) -> GRPOModule:
    defaults = {
        **parts(),
        "rewards": rewards(),
        "num_generations": 4,
        "max_completion_length": 12,
        "optimizer": AdamWConfig(learning_rate=1e-3),
    }
    return GRPOModule(reasoner=reasoner, **defaults | options)


class Vowels(Reward):
    """Counts vowels: a reward that random text can have."""

    def score(self, episode):
        return float(sum(letter in "aeiou" for letter in episode.last.completion.text))


def test_grpo_makes_rewarded_answers_likelier(tmp_path):
    """A unigram policy over bytes: after steps on the script, the right answer has gained on the wrong one."""
    (video,) = samples(1)
    good, bad = right(video, VeasonR1(size=56)), "zzzz"
    reasoner = ScriptedReasoner(default=[good, bad])
    module = grpo(reasoner, num_generations=2, loss=PolicyLoss("grpo"), optimizer=AdamWConfig(0.05, weight_decay=0.0))
    logged = fit(module, [video], tmp_path, steps=5)
    z, a = ord("z"), ord("a")
    assert reasoner.logits[z] < reasoner.logits[a]
    assert logged["reward"] == pytest.approx((4 + 5 / 9) / 2)
    assert logged["rewards/boxes/mean"] == pytest.approx(0.5)
    assert logged["frac_reward_zero_std"] == 0
    assert {"kl", "entropy", "clip_ratio/region_mean"} - logged.keys() == {"kl"}
    assert all(f"step_time/{phase}" in logged for phase in ("rollout", "segment", "reward", "logprobs", "update"))


def test_equal_rewards_move_nothing(folder, tmp_path):
    module = grpo(qwen(folder), rewards={"form": Form()}, optimizer=AdamWConfig(1e-3, weight_decay=0.0))
    module.configure_model()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    logged = fit(module, samples(), tmp_path)
    assert logged["frac_reward_zero_std"] == 1
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


OBJECTIVES = {
    "dapo": {},
    "kl": {"loss": PolicyLoss("grpo", beta=0.1)},
    "iterations": {"loss": PolicyLoss("grpo"), "num_iterations": 2},
    "entropy": {"loss": PolicyLoss("grpo", entropy_coef=0.1)},
    "sequence": {"loss": PolicyLoss("grpo", importance_sampling_level="sequence")},
    "batch": {"loss": PolicyLoss("bnpo"), "scale_rewards": "batch"},
    "truncated": {"mask_truncated_completions": True},
}


@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("lora", [None, LoRA(r=2)], ids=["full", "lora"])
def test_grpo_steps_and_does_not_depend_on_the_micro_batch(folder, tmp_path, options, lora):
    weights = []
    for micro_batch_size in (None, 3):
        module = grpo(
            qwen(folder, lora=lora), rewards={"vowels": Vowels()}, micro_batch_size=micro_batch_size, **options
        )
        torch.manual_seed(0)  # of the adapters
        module.configure_model()
        before = [parameter.detach().clone() for parameter in module.parameters()]
        logged = fit(module, samples(), tmp_path)
        assert math.isfinite(logged["loss"])
        assert logged["skipped_steps"] == 0
        moved = [not torch.equal(parameter, old) for parameter, old in zip(module.parameters(), before, strict=True)]
        assert any(moved)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    assert torch.allclose(*weights, atol=2e-5)


def test_prefix_sharing_does_not_change_a_step(folder, tmp_path):
    weights = []
    for sharing in (True, False):
        module = grpo(qwen(folder, prefix_sharing=sharing), rewards={"vowels": Vowels()})
        fit(module, samples(), tmp_path, steps=2)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    assert torch.allclose(*weights, atol=2e-5)


def test_rollouts_differ_from_step_to_step_and_repeat_with_the_seed(folder, tmp_path):
    texts: list[list[str]] = []
    for _ in range(2):
        module = grpo(qwen(folder), rewards={"form": Form()}, optimizer=AdamWConfig(0.0))
        original, seen = module._numbers, []

        def record(episodes, scores, seen=seen, original=original):
            seen.append("|".join(episode.last.completion.text for episode in episodes))
            return original(episodes, scores)

        module._numbers = record
        fit(module, samples(), tmp_path, steps=2)
        texts.append(seen)
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


def test_an_unscored_episode_is_left_out(tmp_path):
    class Once(StillSegmenter):
        """Fails on the first video only."""

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, frames, prompts, segment_frames):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("out of memory")
            return super().__call__(frames, prompts, segment_frames)

    videos = samples(2)
    reasoner = ScriptedReasoner(default=[right(videos[0], VeasonR1(size=56)), "no"])
    module = grpo(reasoner, num_generations=2, segmenter=Once(), on_segmenter_error="skip")
    logged = fit(module, videos, tmp_path)
    assert logged["segmenter_failures"] == 2
    assert logged["reward"] == pytest.approx((4 + 5 / 9) / 2)  # of the other video
    assert logged["skipped_steps"] == 0


class Poisoned(ScriptedReasoner):
    """Is no number from the second step on."""

    steps = 0

    def logprobs(self, episodes, temperature=1.0):
        output = super().logprobs(episodes, temperature)
        self.steps += 1
        if self.steps > 1:
            output = output._replace(logprobs=output.logprobs * float("nan"))
        return output


def test_a_loss_that_is_no_number_is_skipped_then_stops_the_run(tmp_path):
    videos = samples(1)
    reasoner = Poisoned(default=[right(videos[0], VeasonR1(size=56)), "no"])
    module = grpo(reasoner, num_generations=2, max_skipped_steps=3)
    weights = []
    step = module._step

    def remember(*args):
        step(*args)
        weights.append(reasoner.logits.detach().clone())

    module._step = remember
    with pytest.raises(FloatingPointError, match="3 steps in a row"):
        fit(module, videos, tmp_path, steps=10)
    assert module.skipped_steps == 3
    assert torch.equal(weights[-1], weights[0])
    assert torch.equal(reasoner.logits, weights[0])
    saved = json.loads((tmp_path / "skipped_batch_rank0.json").read_text())
    assert [row["sample"] for row in saved] == ["v0/0", "v0/0"]
    checkpoint, resumed = {}, grpo(ScriptedReasoner(), num_generations=2)
    module.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    assert (resumed.skipped_steps, resumed.skipped_in_a_row) == (3, 3)


def test_settings_that_cannot_train_are_refused():
    with pytest.raises(ValueError, match="group of one is always 0"):
        grpo(ScriptedReasoner(), num_generations=1)
    with pytest.raises(ValueError, match="Expected `rewards` to train on"):
        grpo(ScriptedReasoner(), reward_weights=dict.fromkeys(rewards(), 0.0))
    with pytest.raises(ValueError, match="names no reward"):
        grpo(ScriptedReasoner(), reward_weights={"keyfame": 1.0})


def test_sampling_settings_reach_the_rollout(tmp_path):
    seen: list[Sampling] = []

    class Listening(ScriptedReasoner):
        def generate(self, samples, chats, group_size, sampling):
            seen.append(sampling)
            return super().generate(samples, chats, group_size, sampling)

    module = grpo(Listening(default=["a", "b"]), temperature=0.5, top_p=0.9, top_k=7, seed=3)
    fit(module, samples(1), tmp_path, steps=2)
    assert seen == [Sampling(12, 0.5, 0.9, 7, 3, step) for step in range(2)]


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_batch_whose_samples_were_all_skipped_moves_nothing(folder, tmp_path, stage):
    settings = AdamWConfig(1e-3, weight_decay=0.0)
    module = (
        grpo(qwen(folder), optimizer=settings)
        if stage == "grpo"
        else SFTModule(reasoner=qwen(folder), **parts(), optimizer=settings)
    )
    module.configure_model()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = trainer(tmp_path)
    run.fit(module, DataLoader([0], collate_fn=lambda _: []))
    assert run.global_step == 1
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
