"""Computing once what prompts have in common changes no number: against transformers, one sequence at a time."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message, Text
from dialogues.episode import Answer, Completion, Episode, Turn
from models.reasoners import LoRA, QwenVL, Sampling, qwen_vl
from models.reasoners.packing import pack
from models.reasoners.scratch import ScratchConfig, save

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
#: of log-probabilities, and of each weight's gradient relative to its norm, in float32
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save(ScratchConfig(family=request.param, hidden_size=64, intermediate_size=64, num_layers=3), folder)
    return folder


def load(folder: Path, **settings) -> QwenVL:
    torch.manual_seed(0)
    reasoner = QwenVL(str(folder), dtype="float32", **settings)
    reasoner.configure()
    if reasoner.lora is not None:  # adapters start at zero, where half of their gradients are zero too
        for name, weight in reasoner.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return reasoner.train()


def video(seed: int, length: int = 4) -> VideoSample:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (length, 3, 56, 84), dtype=torch.uint8, generator=generator)
    return VideoSample(f"video{seed}", "0", "the red circle", list(range(length)), LazyStack.of(frames))


def shown(*sizes: tuple[int, int], start: int = 0) -> tuple[Frame | Text, ...]:
    parts: list[Frame | Text] = []
    for index, (height, width) in enumerate(sizes, start):
        parts += [Text(f"({index}s)", "label"), Frame(index, Exact(height, width))]
    return tuple(parts)


def chat_of(sample: VideoSample, *messages: Message) -> Chat:
    return Chat(messages, sample.size, tuple(sample.frame_ids), (0,))


def answer(length: int, seed: int) -> Turn:
    ids = torch.randint(0, 200, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Turn(Completion(ids, ""), Answer())


@dataclass
class Case:
    """Episodes, and how many tokens their row has."""

    episodes: list[Episode]

    @classmethod
    def of_groups(cls, *lengths: list[int]) -> "Case":
        """One video and one prompt per group, pictures of several sizes."""
        sizes = [[(56, 84)], [(56, 56), (28, 84)], [(56, 84), (28, 28), (84, 56)]]
        episodes = []
        for number, group in enumerate(lengths):
            sample = video(number)
            said = chat_of(
                sample, Message("user", (*shown(*sizes[number % 3]), Text(f"question {number}?", "question")))
            )
            episodes += [Episode(sample, said, [answer(length, 100 * number + i)]) for i, length in enumerate(group)]
        return cls(episodes)


def multi_turn(group: int, pictures_later: bool) -> Case:
    """A second turn: the prompts of a group began alike, then each had its own first answer, and its own frame."""
    sample = video(7)
    asked = Message("user", (*shown((56, 84), (28, 56)), Text("where?", "question")))
    episodes = []
    for number in range(group):
        first = Message("assistant", (Text("here " * (number + 1), "answer"),))
        more = shown((28 * (1 + number % 2), 56), start=2 + number % 2) if pictures_later else ()
        said = chat_of(sample, asked, first, Message("user", (*more, Text("and now?", "question"))))
        episodes.append(Episode(sample, said, [answer(3 + number, number)]))
    return Case(episodes)


def two_questions() -> Case:
    """Two questions about the same frames, a group each."""
    sample = video(8)
    episodes = []
    for number, question in enumerate(("the red circle", "what is on the left of the blue square?")):
        said = chat_of(sample, Message("user", (*shown((56, 84), (56, 84)), Text(question, "question"))))
        episodes += [Episode(sample, said, [answer(length, length)]) for length in (4 + number, 1, 6)]
    return Case(episodes)


def without_pictures() -> Case:
    """Questions about nothing that is shown, alone and beside one about the same frames."""
    sample, other = video(9), video(10)
    asked = [
        chat_of(sample, Message("user", (Text("what is red?", "question"),))),
        chat_of(sample, Message("user", (*shown((56, 84)), Text("where?", "question")))),
        chat_of(other, Message("user", (Text("and what is blue?", "question"),))),
    ]
    samples = (sample, sample, other)
    episodes = [
        Episode(sample, said, [answer(length, length)])
        for sample, said in zip(samples, asked, strict=True)
        for length in (2, 5)
    ]
    return Case(episodes)


CASES = {
    "one": Case.of_groups([5]),
    "group_of_2": Case.of_groups([1, 7]),
    "group_of_16": Case.of_groups([1, 9, 3, 3, 2, 8, 1, 5, 6, 4, 1, 2, 12, 7, 5, 1]),
    "several_groups": Case.of_groups([4, 1, 9], [2], [1, 1, 1, 6], [3, 8]),
    "second_turn": multi_turn(3, pictures_later=False),
    "second_turn_with_pictures": multi_turn(4, pictures_later=True),
    "two_questions": two_questions(),
    "without_pictures": without_pictures(),
    "nothing_but_words": Case(without_pictures().episodes[:2]),
}
SETTINGS = {
    "full": {},
    "frozen_tower": {"freeze_vision": True},
    "lora": {"lora": LoRA(r=2, alpha=4)},
    "lora_on_tower": {"lora": LoRA(r=2, alpha=4, target_modules=r".*(q_proj|qkv|down_proj)")},
    "checkpointing": {"gradient_checkpointing": True},
}


def weights_of(case: Case) -> Tensor:
    """Return a weight for each answer token, so that no two have the same gradient."""
    count = sum(len(episode.last.completion.token_ids) for episode in case.episodes)
    return torch.randn(count, generator=torch.Generator().manual_seed(1))


def gradients(reasoner: QwenVL) -> dict[str, Tensor]:
    grads = {name: weight.grad.clone() for name, weight in reasoner.named_parameters() if weight.grad is not None}
    reasoner.zero_grad(set_to_none=True)
    return grads


def ours(reasoner: QwenVL, case: Case) -> tuple[Tensor, dict[str, Tensor]]:
    output = reasoner.logprobs(case.episodes, temperature=0.7)
    values = output.logprobs[output.mask]
    (values * weights_of(case)).sum().backward()
    return values.detach(), gradients(reasoner)


def transformers_alone(reasoner: QwenVL, case: Case) -> tuple[Tensor, dict[str, Tensor]]:
    """One sequence after the other, by the forward pass, positions and attention of transformers."""
    model, values = reasoner._policy, []
    for episode in case.episodes:
        images = reasoner.encoder.images(episode.sample, episode.chat)
        prompt = reasoner.encoder.tokens(episode.chat, images.grid)
        ids = torch.cat([prompt, torch.tensor(episode.last.completion.token_ids)])[None]
        pictures = {"pixel_values": images.pixel_values, "image_grid_thw": images.grid} if len(images.grid) else {}
        logits = model(
            input_ids=ids,
            mm_token_type_ids=(ids == reasoner.encoder.image_token).long(),
            use_cache=False,
            **pictures,
        ).logits
        likely = (logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
        values.append(likely.gather(1, ids[0, len(prompt) :, None])[:, 0])
    joined = torch.cat(values)
    (joined * weights_of(case)).sum().backward()
    return joined.detach(), gradients(reasoner)


def assert_equal(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    assert (found[0] - expected[0]).abs().max() <= TOLERANCE
    # what a pass does not read has a gradient of zero, of which transformers knows nothing
    assert {name for name, gradient in found[1].items() if gradient.any()} == expected[1].keys()
    assert found[1]
    for name, gradient in expected[1].items():
        assert gradient.norm() > 0, name
        assert (found[1][name] - gradient).norm() <= TOLERANCE * gradient.norm(), name


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CASES)
def test_a_shared_prefix_equals_separate_sequences(folder, name, setting):
    reasoner, case = load(folder, **SETTINGS[setting]), CASES[name]
    assert_equal(ours(reasoner, case), transformers_alone(reasoner, case))


@pytest.mark.parametrize("name", ["group_of_16", "several_groups"])
def test_the_row_holds_each_token_once(folder, name):
    reasoner, episodes = load(folder), CASES[name].episodes
    prompts = {id(episode.chat): reasoner._prompt(episode.sample, episode.chat) for episode in episodes}
    answers = sum(len(episode.last.completion.token_ids) for episode in episodes)
    row = pack(reasoner._groups(episodes))
    assert len(row.token_ids) == sum(len(prompt.token_ids) for prompt in prompts.values()) + answers
    assert len(row.pictures) == sum(len(prompt.pictures) for prompt in prompts.values())


def test_the_second_turn_shares_the_first_question(folder):
    reasoner, case = load(folder), CASES["second_turn_with_pictures"]
    row = pack(reasoner._groups(case.episodes))
    (group,) = row.groups
    first = reasoner._prompt(case.episodes[0].sample, case.episodes[0].chat)
    assert group.prefix > first.starts[1] + 2  # both pictures of the first question
    assert len(group.branches) == 4
    assert [picture.frame.index for picture in row.pictures] == [0, 1, 2, 3, 2, 3]


def test_a_picture_is_in_common_as_a_whole_or_not_at_all(folder):
    """Placeholders of different frames are the same tokens."""
    reasoner, sample = load(folder), video(1)
    one, other = (
        reasoner._prompt(
            sample, chat_of(sample, Message("user", (Frame(0, Exact(56, 56)), Frame(index, Exact(56, 56)))))
        )
        for index in (1, 2)
    )
    assert torch.equal(one.token_ids, other.token_ids)
    assert one.common(other) == one.starts[1]
    assert one.common(one) == len(one.token_ids)
    assert one.shown(one.starts[1]) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_shared_rollout_equals_separate_generations(folder, temperature):
    """The same random numbers draw the same tokens, with the same log-probabilities."""
    samples = [video(number) for number in range(3)]
    chats = [
        chat_of(
            sample, Message("user", (*shown(*[(28, 28 * (1 + number))] * (1 + number)), Text("where?", "question")))
        )
        for number, sample in enumerate(samples)
    ]
    sampling = Sampling(max_completion_length=90, temperature=temperature, seed=5)
    rollouts = []
    for sharing in (True, False):
        reasoner = ending(load(folder, prefix_sharing=sharing))
        rollouts.append(
            [completion for group in reasoner.generate(samples, chats, 5, sampling) for completion in group]
        )
    for shared, separate in zip(*rollouts, strict=True):
        assert shared.token_ids == separate.token_ids
        assert torch.allclose(shared.logprobs, separate.logprobs, atol=TOLERANCE)
    lengths = {len(completion.token_ids) for completion in rollouts[0]}
    assert temperature == 0 or (len(lengths) > 3 and max(lengths) > 64)  # rows left, and room was doubled


def test_logits_exist_for_a_chunk_of_answer_tokens_at_a_time(folder, monkeypatch):
    case, sizes = CASES["group_of_16"], []
    expected = ours(load(folder), case)
    monkeypatch.setattr(qwen_vl, "LOGIT_CHUNK", 8)
    reasoner = load(folder)
    project = reasoner.logits

    def noted(states):
        sizes.append(len(states))
        return project(states)

    monkeypatch.setattr(reasoner, "logits", noted)
    assert_equal(ours(reasoner, case), expected)
    answered = len(weights_of(case))
    assert max(sizes) == 8
    assert sum(sizes) == 2 * answered  # and once more in the backward pass


def test_mixed_precision_shares_too(folder):
    """Under autocast, where words, pictures, keys and values are of different dtypes; to the precision of bfloat16."""
    results = []
    for sharing in (True, False):
        reasoner, case = load(folder, prefix_sharing=sharing), CASES["second_turn_with_pictures"]
        with torch.autocast("cpu", torch.bfloat16):
            values, grads = ours(reasoner, case)
            episode = case.episodes[0]
            sampling = Sampling(max_completion_length=4, temperature=1.0)
            (group,) = reasoner.generate([episode.sample], [episode.chat], 3, sampling)
        results.append((values, grads, torch.cat([completion.logprobs for completion in group])))
    (shared, shared_grads, _), (separate, separate_grads, _) = results
    assert torch.allclose(shared, separate, atol=0.1)
    assert shared_grads.keys() == separate_grads.keys()
    for _, _, drawn in results:
        assert drawn.dtype == torch.float32
        assert drawn.isfinite().all()


@pytest.mark.slow
def test_compiled_decoding_draws_the_same(tmp_path):
    folder = tmp_path / "model"
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=1), folder)
    sample = video(0)
    said = chat_of(sample, Message("user", (*shown((28, 28)), Text("where?", "question"))))
    sampling = Sampling(max_completion_length=70, temperature=1.0)  # rows leave, and room is doubled
    eager, compiled = (
        ending(load(folder, compile_decoding=compiles)).generate([sample], [said], 4, sampling)[0]
        for compiles in (False, True)
    )
    for one, other in zip(eager, compiled, strict=True):
        assert one.token_ids == other.token_ids
        assert torch.allclose(one.logprobs, other.logprobs, atol=TOLERANCE)


def ending(reasoner: QwenVL) -> QwenVL:
    """Make some rows end early, and some late."""
    with torch.no_grad():
        reasoner.model.lm_head.weight[reasoner.stop_tokens] *= 3
    return reasoner


def test_words_alone_are_answered_and_their_gradient_reaches_the_tower(folder):
    """Strategies that reduce or gather weights want every rank to call the tower, whatever its questions show."""
    reasoner, case = load(folder), CASES["nothing_but_words"]
    episode = case.episodes[0]
    (group,) = reasoner.generate([episode.sample], [episode.chat], 2, Sampling(max_completion_length=3))
    assert group[0].token_ids == group[1].token_ids
    reasoner.logprobs(case.episodes).logprobs.sum().backward()
    assert all(weight.grad is not None for weight in reasoner.parameters())


@pytest.mark.parametrize("compiles", [False, True])
def test_a_copy_decodes_with_weights_of_its_own(folder, monkeypatch, compiles):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    reasoner, sample = load(folder, compile_decoding=compiles, freeze_vision=True), video(0)
    said = chat_of(sample, Message("user", (*shown((28, 28)), Text("where?", "question"))))

    def generate(which: QwenVL) -> list[int]:
        with which.seeing_once():
            return which.generate([sample], [said], 1, Sampling(max_completion_length=6))[0][0].token_ids

    before = generate(reasoner)
    copy = deepcopy(reasoner)
    assert generate(copy) == before
    with torch.no_grad():
        copy.model.model.language_model.layers[0].mlp.down_proj.weight.neg_()
    after = generate(copy)
    assert len(after) > 1
    assert after[1:] != before[1:]  # the first token is that of the prompt's pass
    assert generate(deepcopy(copy)) == after
    assert generate(reasoner) == before


def test_ended_rows_leave_the_batch(folder):
    reasoner, rows = ending(load(folder)), []
    reasoner.model.model.language_model.register_forward_hook(
        lambda module, args, kwargs, output: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    sample = video(0)
    said = chat_of(sample, Message("user", (*shown((28, 28)), Text("where?", "question"))))
    sampling = Sampling(max_completion_length=60, temperature=1.0)
    (group,) = reasoner.generate([sample], [said], 6, sampling)
    lengths = [len(completion.token_ids) for completion in group]
    assert len({*lengths}) > 1
    # One pass reads the prompt; each other pass continues the rows that have not ended before it.
    assert rows == [1, *(sum(length > place for length in lengths) for place in range(1, max(lengths)))]
