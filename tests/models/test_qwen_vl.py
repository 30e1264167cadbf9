"""The Qwen-VL policies: shared prefixes give the numbers of separate sequences."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from datamodules.structures import LazyStack, VideoSample
from dialogues.chat import Chat, Exact, Frame, Message, Text
from dialogues.episode import Answer, Episode, Turn
from models.reasoners import LoRA, QwenVL, Sampling
from models.reasoners.packing import pack
from models.reasoners.pictures import Picture
from models.reasoners.scratch import ScratchConfig, save

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    config = ScratchConfig(family=request.param, hidden_size=64, intermediate_size=64, num_layers=2, merged=["the red"])
    save(config, folder)
    return folder


@pytest.fixture
def reasoner(folder) -> QwenVL:
    reasoner = QwenVL(str(folder), dtype="float32")
    reasoner.configure()
    return reasoner


def sample(name: str, expression: str = "the red circle") -> VideoSample:
    frames = torch.randint(
        0, 256, (3, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(len(name))
    )
    return VideoSample(name, "0", expression, [0, 4, 8], LazyStack.of(frames))


def chat(sample: VideoSample, *sizes: tuple[int, int]) -> Chat:
    parts: list[Frame | Text] = []
    for index, (height, width) in enumerate(sizes):
        parts += [Text(f"({sample.frame_ids[index]}s)", "label"), Frame(index, Exact(height, width))]
    content = (*parts, Text(sample.expression, "question"))
    return Chat((Message("user", content),), sample.size, tuple(sample.frame_ids), tuple(range(len(sizes))))


def prompts() -> tuple[list[VideoSample], list[Chat]]:
    samples = [sample("a"), sample("bb", "the blue square that moves"), sample("ccc", "it")]
    sizes = [[(56, 84)], [(56, 56), (28, 84)], [(56, 84), (56, 84), (56, 84)]]
    return samples, [chat(sample, *size) for sample, size in zip(samples, sizes, strict=True)]


def episodes(reasoner: QwenVL, lengths: list[list[int]]) -> list[Episode]:
    samples, chats = prompts()
    generator = torch.Generator().manual_seed(0)
    result = []
    for sample, chat, group in zip(samples, chats, lengths, strict=False):
        for length in group:
            completion = reasoner.encode("")
            completion.token_ids = torch.randint(0, 200, (length,), generator=generator).tolist()
            result.append(Episode(sample, chat, [Turn(completion, Answer())]))
    return result


def gradients(reasoner: QwenVL) -> dict[str, torch.Tensor]:
    grads = {name: p.grad.clone() for name, p in reasoner.named_parameters() if p.grad is not None}
    reasoner.zero_grad()
    return grads


def assert_same_gradients(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    largest = max(gradient.abs().max() for gradient in second.values())
    for name, gradient in first.items():
        assert (gradient - second[name]).abs().max() <= 1e-5 * largest, name


@pytest.mark.parametrize("lengths", [[[1], [2, 5], [7]], [[9, 1, 4], [3, 3], [1, 6, 2, 8]]], ids=["ones", "ragged"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_shared_prefix_equals_separate_rows(folder, lengths, checkpointing):
    results = []
    for sharing in (True, False):
        reasoner = QwenVL(str(folder), dtype="float32", prefix_sharing=sharing, gradient_checkpointing=checkpointing)
        reasoner.configure()
        reasoner.train()
        output = reasoner.logprobs(episodes(reasoner, lengths), temperature=0.7)
        (output.logprobs * output.mask).square().sum().backward()
        results.append((output, gradients(reasoner)))
    (shared, shared_grads), (plain, plain_grads) = results
    assert torch.equal(shared.mask, plain.mask)
    assert torch.allclose(shared.logprobs, plain.logprobs, atol=1e-5)
    assert torch.allclose(shared.entropy, plain.entropy, atol=1e-5)
    assert_same_gradients(shared_grads, plain_grads)


def test_no_mask_of_tokens_by_tokens_is_built(reasoner):
    """It would grow with the square of the row; who sees whom is said by the layout."""
    masks = []
    for layer in reasoner.model.model.language_model.layers:
        layer.register_forward_pre_hook(
            lambda layer, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
        )
    reasoner.logprobs(episodes(reasoner, [[2, 5], [7], [1, 1]]))
    reasoner.generate(*prompts(), 2, Sampling(max_completion_length=3))
    assert len(masks) > 4
    assert all(mask is None for mask in masks)


def test_logprobs_are_those_of_the_plain_model(reasoner, folder):
    """One episode, computed by transformers alone from its own positions."""
    (episode,) = episodes(reasoner, [[6]])
    images = reasoner.encoder.images(episode.sample, episode.chat)
    prompt = reasoner.encoder.tokens(episode.chat, images.grid)
    ids = torch.cat([prompt, torch.tensor(episode.last.completion.token_ids)])[None]
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    logits = model(
        input_ids=ids,
        pixel_values=images.pixel_values,
        image_grid_thw=images.grid,
        mm_token_type_ids=(ids == reasoner.encoder.image_token).long(),
    ).logits
    expected = logits[0, len(prompt) - 1 : -1].log_softmax(-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
    assert torch.allclose(reasoner.logprobs([episode]).logprobs[0], expected, atol=1e-5)


def test_questions_about_the_same_frames_share_them(reasoner):
    """Two expressions about one sample are one row, with the numbers of two."""
    first = sample("a")
    second = replace(first, expression="the red square on the left")
    both = []
    for one, length in ((first, 4), (second, 6)):
        completion = reasoner.encode("the red"[:length])
        both.append(Episode(one, chat(one, (56, 84), (56, 84)), [Turn(completion, Answer())]))
    (group,) = pack(reasoner._groups(both)).groups
    assert group.prefix > 2 * 2 * 3  # the image tokens of both frames
    shared = reasoner.logprobs(both).logprobs
    for index, episode in enumerate(both):
        alone = reasoner.logprobs([episode]).logprobs[0]
        assert torch.allclose(shared[index, : len(alone)], alone, atol=1e-5)


def test_prompts_that_differ_before_an_image_share_what_comes_before(reasoner):
    one, other = sample("a"), sample("a")
    other.frames = one.frames
    chats = [chat(one, (56, 84)), chat(other, (56, 84))]
    early = replace(chats[1], messages=(Message("user", (Text("Look: ", "label"), *chats[1].messages[0].content)),))
    both = [
        Episode(video, said, [Turn(reasoner.encode("x"), Answer())])
        for video, said in zip((one, other), (chats[0], early), strict=True)
    ]
    row = pack(reasoner._groups(both))
    assert row.pictures == [Picture(one.frames, frame) for said in (chats[0], early) for frame in said.frames]
    assert [len(group.branches) for group in row.groups] == [2]
    shared = reasoner.logprobs(both).logprobs
    assert torch.allclose(shared[1], reasoner.logprobs(both[1:]).logprobs[0], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_do_not_depend_on_the_batch(reasoner, temperature):
    samples, chats = prompts()
    sampling = Sampling(max_completion_length=12, temperature=temperature, seed=3)
    together = reasoner.generate(samples, chats, 3, sampling)
    for sample, chat, group in zip(samples, chats, together, strict=True):
        (alone,) = reasoner.generate([sample], [chat], 3, sampling)
        assert [c.token_ids for c in alone] == [c.token_ids for c in group]
    if temperature:
        assert len({tuple(c.token_ids) for c in together[0]}) > 1
        later = reasoner.generate(samples, chats, 3, replace(sampling, step=1))
        assert [c.token_ids for c in later[0]] != [c.token_ids for c in together[0]]


def test_greedy_decoding_equals_transformers(reasoner, folder):
    samples, chats = prompts()
    groups = reasoner.generate(samples, chats, 2, Sampling(max_completion_length=10))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    for sample, chat, group in zip(samples, chats, groups, strict=True):
        images = reasoner.encoder.images(sample, chat)
        ids = reasoner.encoder.tokens(chat, images.grid)[None]
        generated = model.generate(
            input_ids=ids,
            pixel_values=images.pixel_values,
            image_grid_thw=images.grid,
            mm_token_type_ids=(ids == reasoner.encoder.image_token).long(),
            do_sample=False,
            max_new_tokens=10,
            suppress_tokens=reasoner.suppressed_tokens.tolist(),
        )[0, ids.shape[1] :].tolist()
        for completion in group:
            assert completion.token_ids == generated[: len(completion.token_ids)]
            assert completion.finished or len(completion.token_ids) == 10


def test_sampled_logprobs_are_the_policys(reasoner):
    samples, chats = prompts()
    groups = reasoner.generate(samples, chats, 2, Sampling(max_completion_length=8, temperature=0.8))
    played = [
        Episode(sample, chat, [Turn(completion, Answer())])
        for sample, chat, group in zip(samples, chats, groups, strict=True)
        for completion in group
    ]
    output = reasoner.logprobs(played, temperature=0.8)
    for episode, logprobs, mask in zip(played, output.logprobs, output.mask, strict=True):
        assert torch.allclose(episode.last.completion.logprobs, logprobs[mask], atol=1e-5)


def test_control_tokens_are_never_sampled(reasoner):
    samples, chats = prompts()
    groups = reasoner.generate(samples, chats, 8, Sampling(max_completion_length=30, temperature=5.0))
    drawn = {token for group in groups for completion in group for token in completion.token_ids}
    assert not drawn & set(reasoner.suppressed_tokens.tolist())
    assert len(reasoner.suppressed_tokens) == 12  # Qwen's fourteen less the two that end a completion


def test_encoding_a_text_ends_it(reasoner):
    completion = reasoner.encode("the red circle")
    assert completion.token_ids[-1] in reasoner.stop_tokens.tolist()
    assert reasoner.processor.tokenizer.decode(completion.token_ids, skip_special_tokens=True) == "the red circle"


@pytest.mark.parametrize("lora", [None, LoRA(r=2, alpha=4)], ids=["full", "lora"])
def test_reference_is_the_policy_before_training(folder, lora):
    reasoner = QwenVL(str(folder), dtype="float32", lora=lora)
    reasoner.configure()
    reasoner.keep_reference()
    batch = episodes(reasoner, [[4, 2]])
    before = reasoner.logprobs(batch).logprobs.detach()
    optimizer = torch.optim.SGD([p for p in reasoner.parameters() if p.requires_grad], lr=5.0)
    for _ in range(2):  # the first step moves only one of a LoRA's two factors
        optimizer.zero_grad()
        reasoner.logprobs(batch).logprobs.sum().backward()
        optimizer.step()
    assert not torch.allclose(reasoner.logprobs(batch).logprobs, before, atol=1e-3)
    with torch.no_grad(), reasoner.reference():
        assert torch.allclose(reasoner.logprobs(batch).logprobs, before, atol=1e-6)
    assert not any("reference" in name or "_frozen" in name for name in reasoner.state_dict())


@pytest.mark.parametrize("lora", [None, LoRA(r=2, alpha=4)], ids=["full", "lora"])
def test_saved_folder_opens_in_plain_transformers(folder, tmp_path, lora):
    reasoner = QwenVL(str(folder), dtype="float32", lora=lora)
    reasoner.configure()
    with torch.no_grad():
        for parameter in reasoner.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    reasoner.save_pretrained(tmp_path)
    (episode,) = episodes(reasoner, [[5]])
    again = QwenVL(str(tmp_path), dtype="float32")
    again.configure()
    expected = reasoner.logprobs([episode]).logprobs
    found = again.logprobs([episode]).logprobs
    assert torch.equal(found, expected) if lora is None else torch.allclose(found, expected, atol=1e-5)
    assert all(parameter.requires_grad for parameter in reasoner.parameters()) == (lora is None)


def test_weights_can_be_saved_smaller(reasoner, tmp_path):
    reasoner.save_pretrained(tmp_path, "bfloat16")
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert saved.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in reasoner.parameters())


def test_frozen_tower_has_no_gradient(folder):
    reasoner = QwenVL(str(folder), dtype="float32", freeze_vision=True, gradient_checkpointing=True)
    reasoner.configure()
    reasoner.train()
    reasoner.logprobs(episodes(reasoner, [[3]])).logprobs.sum().backward()
    graded = {name for name, parameter in reasoner.named_parameters() if parameter.grad is not None}
    assert graded
    assert not any("visual" in name for name in graded)


def test_image_sides_must_fit_the_patches(reasoner):
    video = sample("a")
    with pytest.raises(ValueError, match="multiples of 28"):
        reasoner.generate([video], [chat(video, (50, 84))], 1, Sampling(2))


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"pretrained='runs/none/hf'.*run the stage"):
        QwenVL("runs/none/hf").configure()


def test_no_episodes_still_reach_every_weight(reasoner):
    reasoner.zero_grad()
    output = reasoner.logprobs([])
    assert output.logprobs.shape[0] == output.mask.shape[0] == output.entropy.shape[0] == 0
    output.logprobs.sum().backward()
    gradients = {name: weight.grad for name, weight in reasoner.named_parameters() if weight.requires_grad}
    assert gradients
    assert all(gradient is not None and not gradient.any() for gradient in gradients.values())
    reasoner.zero_grad()


def test_logits_that_are_no_numbers_end_the_answer(folder):
    reasoner = QwenVL(str(folder), dtype="float32")
    reasoner.configure()
    with torch.no_grad():
        reasoner.model.model.language_model.norm.weight.fill_(torch.nan)
    samples, chats = prompts()
    for completion in reasoner.generate(samples, chats, 2, Sampling(8, temperature=1.0))[0]:
        assert completion.token_ids == [reasoner.end_token]
        assert not completion.drawn_from_numbers


def test_adapters_on_the_head_are_refused(folder):
    reasoner = QwenVL(str(folder), dtype="float32", lora=LoRA(target_modules=r".*(q_proj|lm_head)"))
    with pytest.raises(ValueError, match="leave `lm_head` alone"):
        reasoner.configure()
