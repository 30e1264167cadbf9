import math
from typing import ClassVar

import pytest
import torch

from rewards import BoxIoU, Form, KeyframeArea, MaskConsistency, Reward, RewardCollection
from tests.builders import moving_square, video_sample
from tests.rewards.attempts import attempt

NAN = float("nan")


class Named(Reward):
    """The score that the form of the answer names."""

    def __init__(self, name="x"):
        super().__init__()
        self.name = name

    def score(self, episode):
        score = episode.last.answer.form[self.name]
        return None if math.isnan(score) else score


class Masked(Named):
    needs_masks: ClassVar[bool] = True


class Rank(Reward):
    """A reward that is relative to its group."""

    def score_group(self, group):
        return torch.arange(len(group), dtype=torch.float64)


def group_of(*scores, failure=None):
    return [attempt(video_sample(), form={"x": score, "y": 10 * score}, failure=failure) for score in scores]


def close(got, expected):
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_forward_gives_the_group_and_compute_the_mean():
    reward = Named()
    close(reward(group_of(1.0, 2.0)), [1, 2])
    assert reward._forward_cache == 1.5
    close(reward(group_of(NAN, 6.0)), [NAN, 6])
    assert reward._forward_cache == 6
    close(reward.compute(), 3.0)  # (1 + 2 + 6) / 3: what does not apply is in no mean
    reward.reset()
    assert reward.compute().isnan()


def test_update_is_forward_without_its_scores():
    reward = Named()
    reward.update(group_of(1.0, 2.0))
    close(reward.compute(), 1.5)


def test_states_of_two_shards_add_up():
    shards = [Named(), Named()]
    shards[0].update(group_of(1.0, 2.0))
    shards[1].update(group_of(6.0))
    shards[0].merge_state(shards[1])
    assert shards[0].compute() == 3


def test_group_rewards():
    close(Rank()(group_of(1.0, 1.0, 1.0)), [0, 1, 2])


def test_a_reward_needs_a_score():
    with pytest.raises(NotImplementedError, match="Reward must override `score` or `score_group`"):
        Reward()(group_of(1.0))


@pytest.mark.parametrize(
    ("weights", "total", "names"),
    [
        (None, [11, 22], ["x", "y"]),
        ({"y": 0.5}, [6, 12], ["x", "y"]),
        ({"y": 0}, [1, 2], ["x", "y"]),  # still in the log
        ({"y": None}, [1, 2], ["x"]),  # removed
        ({"x": -1, "y": 1}, [9, 18], ["x", "y"]),
    ],
)
def test_total_is_the_weighted_sum(weights, total, names):
    scores = RewardCollection({"x": Named("x"), "y": Named("y")}, weights)(group_of(1.0, 2.0))
    close(scores.total, total)
    assert list(scores.parts) == names


def test_what_does_not_apply_is_left_out_of_the_total():
    class Other(Named):
        def score(self, episode):
            return 1.0

    close(RewardCollection({"x": Named(), "other": Other()})(group_of(NAN, 2.0)).total, [1, 3])
    close(RewardCollection({"x": Named(), "other": Other()}, {"other": 0})(group_of(NAN, 2.0)).total, [NAN, 2])


@pytest.mark.parametrize(
    ("masks", "weight", "total"),
    [(Masked(), 1, NAN), (Masked(), 0, 1.0), (Named(), 1, 2.0)],
    ids=["weighted", "only logged", "needs no masks"],
)
def test_a_failed_segmenter_is_not_scored_where_masks_count(masks, weight, total):
    collection = RewardCollection({"x": Named(), "masks": masks}, {"masks": weight})
    close(collection(group_of(1.0, failure="out of memory")).total, [total])


def test_released_consistency_scores_failures():
    rewards = {"keyframe": KeyframeArea(), "consistency": MaskConsistency(released=True)}
    scores = RewardCollection(rewards)([attempt(video_sample(), failure="out of memory")])
    close(scores.total, [1])
    close(scores.parts["consistency"], [0])


def test_needs_masks():
    assert RewardCollection({"masks": MaskConsistency(), "boxes": BoxIoU()}).needs_masks
    assert not RewardCollection({"masks": MaskConsistency(), "boxes": BoxIoU()}, {"masks": None}).needs_masks


def test_compute_and_reset():
    collection = RewardCollection({"x": Named("x"), "y": Named("y")})
    collection(group_of(1.0, 2.0))
    assert {name: mean.item() for name, mean in collection.compute().items()} == {"x": 1.5, "y": 15}
    collection.reset()
    assert all(mean.isnan() for mean in collection.compute().values())


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (["x"], {"keyfame": 1}, r"names no reward: \['keyfame'\]; the rewards are \['x'\]"),
        (["a.b"], None, r"names a module can have .* but got \['a.b'\]"),
        (["keys"], None, r"but got \['keys'\]"),
        ([""], None, r"but got \[''\]"),
    ],
)
def test_names_are_checked(names, weights, message):
    with pytest.raises(ValueError, match=message):
        RewardCollection({name: Named() for name in names}, weights)


def test_a_perfect_answer_earns_the_published_maximum():
    masks = moving_square()
    episode = attempt(video_sample(masks), 1, [[2, 4, 10, 12]], masks, form={"think": 1.0, "json": 1.0})
    for released in (False, True):
        rewards = {
            "form": Form(),
            "keyframe": KeyframeArea(released),
            "boxes": BoxIoU(released),
            "masks": MaskConsistency(released),
        }
        assert RewardCollection(rewards)([episode]).total.item() == pytest.approx(5)


class Broken(Reward):
    """Divides nothing by nothing."""

    def score(self, episode):
        return math.nan


def test_a_score_that_is_no_number_is_seen_and_not_left_out():
    rewards = {"broken": Broken(), "fine": Named()}
    total, parts = RewardCollection(rewards)(group_of(1.0, 2.0))
    assert parts["broken"].tolist() == total.tolist() == [math.inf, math.inf]
    watched = RewardCollection(rewards, {"broken": 0.0})
    assert watched(group_of(1.0, 2.0)).total.tolist() == [1.0, 2.0]
    assert watched.compute()["broken"] == math.inf
