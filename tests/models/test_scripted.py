"""The reasoner that says what it is told to."""

import math

import pytest
import torch

from dialogues.episode import Answer, Episode, Turn
from models.frame_samplers import AllFrames, UniformFrames
from models.reasoners import Sampling, ScriptedReasoner
from tests.builders import moving_square, video_sample
from tests.lightning_modules.episodes import chat_about


def test_groups_take_the_script_in_turn():
    video, other = video_sample(video_id="a"), video_sample(video_id="b")
    reasoner = ScriptedReasoner({"a/0": ["one", "two"]}, default=["else"])
    groups = reasoner.generate([video, other], [chat_about(video), chat_about(other)], 3, Sampling())
    assert [[completion.text for completion in group] for group in groups] == [["one", "two", "one"], ["else"] * 3]


def test_logprobs_are_those_of_a_unigram_model():
    reasoner = ScriptedReasoner()
    video = video_sample()
    episodes = [Episode(video, chat_about(video), [Turn(reasoner.encode(text), Answer())]) for text in ("ab", "é")]
    output = reasoner.logprobs(episodes)
    assert output.mask.sum(dim=1).tolist() == [3, 3]  # two bytes each, and the end
    assert torch.allclose(output.logprobs, torch.full((2, 3), -math.log(257)))
    assert torch.allclose(output.entropy, torch.full((2, 3), math.log(257)))


def test_reference_is_what_was_kept():
    reasoner = ScriptedReasoner()
    with pytest.raises(RuntimeError, match="call `keep_reference` first"), reasoner.reference():
        pass
    reasoner.keep_reference()
    video = video_sample()
    batch = [Episode(video, chat_about(video), [Turn(reasoner.encode("a"), Answer())])]
    before = reasoner.logprobs(batch).logprobs.detach()
    with torch.no_grad():
        reasoner.logits[ord("a")] += 3
    assert not torch.allclose(reasoner.logprobs(batch).logprobs, before)
    with reasoner.reference():
        assert torch.equal(reasoner.logprobs(batch).logprobs, before)


@pytest.mark.parametrize(("length", "count", "shown"), [(3, 8, [0, 1, 2]), (10, 4, [0, 3, 6, 9]), (6, 3, [0, 2, 5])])
def test_uniform_frames(length, count, shown):
    assert UniformFrames(count)(video_sample(moving_square(t=length))) == shown
    assert AllFrames()(video_sample(moving_square(t=length))) == list(range(length))


def test_uniform_frames_need_one():
    with pytest.raises(ValueError, match="`num_frames` to be at least 1, but got 0"):
        UniformFrames(0)
