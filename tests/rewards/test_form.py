import pytest

from rewards import Form
from tests.builders import video_sample
from tests.rewards.attempts import attempt


@pytest.mark.parametrize(("parts", "score"), [(("think", "json"), 1.5), (("json",), 0.5), ((), 0)])
def test_form_is_the_sum_of_its_parts(parts, score):
    assert Form(parts=parts).score(attempt(video_sample(), form={"think": 1.0, "json": 0.5})) == score


def test_form_needs_a_dialogue_that_grades_its_parts():
    with pytest.raises(KeyError, match=r"Expected `parts` among \['think'\], .* but got \['json'\]"):
        Form().score(attempt(video_sample(), form={"think": 1.0}))
