"""TRL is the oracle: on the same policy, prompts and completions, our loss and every gradient are ``GRPOTrainer``'s.

Our side is the product: ``GRPOModule`` in a Lightning trainer, prefixes shared, rows packed, micro-batches that cut
through groups. TRL's side writes the completions, scores them, and repeats the prompt for each.
"""

import re
from dataclasses import replace
from itertools import cycle, pairwise
from typing import Any, get_args

import pytest
import torch

from dialogues.veason_r1 import PROMPTS
from lightning_modules.policy.losses import LossType
from models.reasoners import LoRA
from models.reasoners.scratch import ScratchConfig, save
from tests.builders import moving_square, video_sample
from tests.lightning_modules.replay import Problem, Replay, Step, train, trainable
from tests.lightning_modules.trl_oracle import Oracle

pytestmark = pytest.mark.slow

#: Largest difference of a loss, an advantage, or an element of a gradient; the largest elements are above 1e-3.
BOUND = 1e-6
#: Family, adapters, and how far apart the policies are.
PROBLEMS = {
    "qwen2_5_vl-full": ("qwen2_5_vl", None, 0.02),
    "qwen3_vl-full": ("qwen3_vl", None, 0.02),
    "qwen2_5_vl-lora": ("qwen2_5_vl", LoRA(r=4, alpha=4), 0.08),
    "qwen3_vl-lora": ("qwen3_vl", LoRA(r=4, alpha=4), 0.08),
}
#: Both families and both kinds of training, for what should depend on neither.
TWO = ("qwen3_vl-full", "qwen2_5_vl-lora")
LOSS_TYPES = get_args(LossType)
KL = {"beta": 0.1}
CORRECTED = KL | {"use_bias_correction_kl": True}
SEQUENCE = {"importance_sampling_level": "sequence"}
SETTINGS = {
    "plain": {},
    "kl": KL,
    "corrected_kl": CORRECTED,
    "sequence": SEQUENCE,
    "sequence_kl": SEQUENCE | KL,
    "sequence_corrected_kl": SEQUENCE | CORRECTED,
}
#: What TRL logs of a batch and we do too, if it applies.
SHARED_METRICS = {
    "reward", "reward_std", "frac_reward_zero_std", "rewards/variety/mean", "rewards/first/mean", "entropy",
    "completions/mean_length", "completions/max_length", "completions/clipped_ratio",
}  # fmt: skip
CLIP_METRICS = {"clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"}


def variety(text: str) -> float:
    return len(set(text)) % 8 / 2 - 1


def first(text: str) -> float | None:
    return None if text[:1] < "A" else ord(text[0]) % 4 / 2 - 1


def samples() -> list[Any]:
    """Two questions about one video of two frames, and one about a video of one frame."""
    generator = torch.Generator().manual_seed(0)

    def noise(num_frames: int, expression: str, video_id: str) -> Any:
        frames = torch.randint(0, 256, (num_frames, 3, 56, 56), dtype=torch.uint8, generator=generator)
        return video_sample(moving_square(num_frames, 56), expression, frames=frames, video_id=video_id)

    both = noise(2, "the one that moves", "a")
    return [both, replace(both, expression="it", expression_id="1"), noise(1, "a square", "b")]


@pytest.fixture(scope="module")
def problem(request, tmp_path_factory) -> Problem:
    family, lora, distance = PROBLEMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    # One token for each piece of the prompt keeps it short.
    pieces = [piece for wording in PROMPTS.values() for piece in re.split(r"\{\w+\}", wording) if len(piece) > 2]
    size = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2}
    save(ScratchConfig(family, **size, initializer_range=0.05, merged=pieces), folder)
    reasoner = Replay(str(folder), dtype="float32", lora=lora)
    torch.manual_seed(0)  # of the adapters
    reasoner.configure()
    generator = torch.Generator().manual_seed(1)
    policies = [{name: parameter.detach() for name, parameter in trainable(reasoner.model).items()}]
    for _ in range(2):
        noise = {name: torch.randn(value.shape, generator=generator) for name, value in policies[-1].items()}
        policies.append({name: value + distance * noise[name] for name, value in policies[-1].items()})
    return Problem(reasoner, samples(), policies[1:], {"variety": variety, "first": first}, [1.0, 0.5])


def problems(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("problem", names, indirect=True)


def in_turn(arguments: str, cases: dict[str, tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Give each case one problem: full training and adapters, a family each, take turns."""
    rows = [
        pytest.param(problem, *case, id=f"{name}-{problem}") for (name, case), problem in zip(cases.items(), cycle(TWO))
    ]
    return pytest.mark.parametrize(f"problem, {arguments}", rows, indirect=["problem"])


def both_sides(
    problem: Problem, folder: Any, accumulation: int = 1, micro_batch_size: int | None = 5, **settings: Any
) -> list[tuple[Step, Step]]:
    """Return our step and TRL's, on policy and off policy."""
    oracle = Oracle(problem, folder, accumulation, **settings)
    steps = train(problem, oracle.completions(), folder, micro_batch_size, **settings)
    return [(step, oracle.step(weights)) for step, weights in zip(steps, problem.policies, strict=False)]


def assert_same(ours: Step, theirs: Step) -> None:
    assert theirs.largest > 1e-3
    assert ours.gap(theirs) <= BOUND


def assert_same_metrics(ours: Step, theirs: Step, settings: dict[str, Any]) -> None:
    loss_type = settings["loss_type"]
    names = SHARED_METRICS | ({"kl"} if settings.get("beta") else set())
    names |= {"cispo_clip_ratio"} if loss_type == "cispo" else set() if loss_type == "sapo" else CLIP_METRICS
    assert ours.metrics.keys() & theirs.metrics.keys() == names
    for name in names:
        assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-5, abs=BOUND), name


# --- the problem ---


@problems(*PROBLEMS)
def test_problem_has_everything_that_can_go_wrong(problem, tmp_path):
    oracle = Oracle(problem, tmp_path, beta=0.1)
    groups = oracle.completions()
    lengths = [len(completion.token_ids) for group in groups for completion in group]
    assert len(set(lengths)) >= 3
    assert lengths == oracle.batch["completion_mask"].sum(1).tolist()
    assert {completion.finished for group in groups for completion in group} == {True, False}
    assert any(first(completion.text) is None for group in groups for completion in group)
    assert len(oracle.batch["advantages"].unique()) > 6
    on_policy, off_policy = (oracle.step(weights).metrics for weights in problem.policies)
    assert on_policy["clip_ratio/region_mean"] == 0
    assert 0.01 < off_policy["clip_ratio/region_mean"] < 0.5
    assert min(on_policy["kl"], off_policy["kl"]) > 1e-3


@problems("qwen2_5_vl-full", "qwen3_vl-full")
def test_prompts_and_pixels_are_the_same(problem, tmp_path):
    batch = Oracle(problem, tmp_path).batch
    encoder = problem.reasoner.encoder
    images = [encoder.images(sample, chat) for sample, chat in zip(problem.samples, problem.chats, strict=True)]
    for index, (chat, image) in enumerate(zip(problem.chats, images, strict=True)):
        row = batch["prompt_ids"][3 * index]
        assert torch.equal(row[batch["prompt_mask"][3 * index].bool()], encoder.tokens(chat, image.grid))
    assert batch["prompt_mask"].sum(1).unique().numel() == 3
    pixels = [image.pixel_values for image in images for _ in range(3)]
    assert torch.equal(batch["pixel_values"], torch.cat(pixels))


# --- equal ---


FULL = [(name, setting) for name in ("qwen2_5_vl-full", "qwen3_vl-full") for setting in SETTINGS]
ADAPTERS = [
    (name, setting) for name in ("qwen2_5_vl-lora", "qwen3_vl-lora") for setting in ("plain", "sequence_corrected_kl")
]


@pytest.mark.parametrize(("problem", "setting"), FULL + ADAPTERS, indirect=["problem"])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_and_gradients_equal_trl(problem, tmp_path, loss_type, setting):
    settings = {"loss_type": loss_type} | SETTINGS[setting]
    for ours, theirs in both_sides(problem, tmp_path, **settings):
        assert_same(ours, theirs)
        assert_same_metrics(ours, theirs, settings)


OTHERS: dict[str, dict[str, Any]] = {
    "scale_batch": {"scale_rewards": "batch"},
    "scale_none": {"scale_rewards": "none"},
    "temperature": {"temperature": 0.7} | CORRECTED,
    "clip_higher": {"epsilon": 0.1, "epsilon_high": 0.15},
    "two_sided": {"epsilon": 0.1, "delta": 1.2},
    "two_sided_sequence": {"epsilon": 0.03, "delta": 1.05} | SEQUENCE | CORRECTED,
    "cispo_ceiling": {"loss_type": "cispo", "epsilon_high": 1.1},
    "sapo_temperatures": {"loss_type": "sapo", "sapo_temperature_pos": 3.0, "sapo_temperature_neg": 5.0},
    "truncated": {"mask_truncated_completions": True} | KL,
    "truncated_grpo": {"mask_truncated_completions": True, "loss_type": "grpo"} | KL,
    "truncated_sequence": {"mask_truncated_completions": True, "loss_type": "luspo"} | SEQUENCE,
    "entropy": {"entropy_coef": 0.1},
    "entropy_bnpo": {"entropy_coef": 0.1, "loss_type": "bnpo"},
    "entropy_cispo": {"entropy_coef": 0.1, "loss_type": "cispo"},
    "one_iteration": {"num_iterations": 1} | CORRECTED,
    "one_micro_batch": {"micro_batch_size": None} | CORRECTED,
}


@in_turn("settings", {name: (settings,) for name, settings in OTHERS.items()})
def test_other_settings_equal_trl(problem, tmp_path, settings):
    for ours, theirs in both_sides(problem, tmp_path, **{"loss_type": "dapo"} | settings):
        assert_same(ours, theirs)


@in_turn("loss_type", {name: (name,) for name in LOSS_TYPES if name != "bnpo"})
def test_micro_batches_equal_trls_accumulated_ones(problem, tmp_path, loss_type):
    for ours, theirs in both_sides(problem, tmp_path, accumulation=3, micro_batch_size=2, loss_type=loss_type, **KL):
        assert_same(ours, theirs)


# --- different, and seen to be ---


@in_turn("loss_type", {"grpo": ("grpo",), "dapo": ("dapo",)})
def test_unscored_completions_are_left_out(problem, tmp_path, loss_type):
    """TRL only sets their advantage to 0: the KL and the number of tokens still know them."""
    settings = {"loss_type": loss_type} | KL
    texts = [completion.text for group in Oracle(problem, tmp_path).completions() for completion in group]
    longest = max(range(len(texts)), key=lambda row: len(texts[row]))
    unscored = {"variety": lambda text: None if text == texts[longest] else variety(text)}
    problem = replace(problem, scores=unscored, reward_weights=[1.0])
    oracle = Oracle(problem, tmp_path, **settings)
    steps = train(problem, oracle.completions(), tmp_path, **settings)
    assert oracle.batch["advantages"][longest] == 0
    for ours, weights in zip(steps, problem.policies, strict=True):
        assert ours.gap(oracle.step(weights)) > 10 * BOUND
    oracle.batch["completion_mask"][longest] = 0
    oracle.batch["num_items_in_batch"] = oracle.batch["completion_mask"].sum()
    for ours, weights in zip(steps, problem.policies, strict=True):
        assert_same(ours, oracle.step(weights))


DIFFERENCES: dict[str, dict[str, Any]] = {
    # TRL's mean over tokens is that of each micro-batch, and so depends on how the batch was cut.
    "bnpo": {"loss_type": "bnpo", "accumulation": 3},
    # TRL's entropy is a mean over tokens whatever the loss type.
    "entropy": {"loss_type": "grpo", "entropy_coef": 0.1},
}


@problems(*TWO)
@pytest.mark.parametrize("settings", DIFFERENCES.values(), ids=DIFFERENCES)
def test_documented_differences(problem, tmp_path, settings):
    for ours, theirs in both_sides(problem, tmp_path, **settings):
        assert ours.gap(theirs) > 10 * BOUND


CONTROLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{f"{a}-{b}": ({"loss_type": a}, {"loss_type": b}) for a, b in pairwise((*LOSS_TYPES, LOSS_TYPES[0]))},
    "kl": (KL, {}),
    "corrected": (CORRECTED, KL),
    "sequence": (SEQUENCE, {}),
    "scale_batch": ({"scale_rewards": "batch"}, {}),
    "scale_none": ({"scale_rewards": "none"}, {"scale_rewards": "batch"}),
    "temperature": ({"temperature": 0.7}, {}),
    "clip_higher": ({"epsilon": 0.1, "epsilon_high": 0.15}, {"epsilon": 0.1}),
    "delta": ({"epsilon": 0.1, "delta": 1.2}, {"epsilon": 0.1}),
    "truncated": ({"mask_truncated_completions": True}, {}),
    "entropy": ({"entropy_coef": 0.1}, {}),
    "sapo_temperature": ({"loss_type": "sapo", "sapo_temperature_neg": 5.0}, {"loss_type": "sapo"}),
}


@in_turn("right, wrong", CONTROLS)
def test_a_wrong_setting_shows(problem, tmp_path, right, wrong):
    oracle = Oracle(problem, tmp_path, **{"loss_type": "dapo"} | right)
    steps = train(problem, oracle.completions(), tmp_path, **{"loss_type": "dapo"} | wrong)
    assert steps[-1].gap(oracle.step(problem.policies[-1])) > 10 * BOUND


@problems(*TWO)
def test_a_wrong_policy_shows(problem, tmp_path):
    """The reference, the policy that wrote, and the one that is trained are never taken for each other."""
    oracle = Oracle(problem, tmp_path, **CORRECTED)
    steps = train(problem, oracle.completions(), tmp_path, **CORRECTED)
    assert steps[0].gap(oracle.step(problem.policies[1])) > 10 * BOUND
    old, reference = oracle.batch["old_per_token_logps"], oracle.batch["ref_per_token_logps"]
    for mistaken in ({"old_per_token_logps": reference}, {"ref_per_token_logps": old}):
        oracle.batch |= {"old_per_token_logps": old, "ref_per_token_logps": reference} | mistaken
        assert steps[1].gap(oracle.step(problem.policies[1])) > 10 * BOUND
