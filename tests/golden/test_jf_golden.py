import copy
import json

import pytest

from tests.golden import FOLDER, GoldenFileError, run

KIND = "jf_golden"
DATA = json.loads((FOLDER / f"{KIND}.json").read_text())


def test_all_cases_pass():
    report = run(KIND, DATA)
    assert report.lines()[-1] == f"{KIND}: 34/34"
    assert report.skipped == {}
    assert report.differences == {"J": 0, "F": 0, "A": 0, "R": 0}  # equal, not only close


@pytest.mark.parametrize(
    "field",
    ["inter", "union", "n_pred_boundary", "n_gt_boundary", "n_pred_match", "n_gt_match", "bound_pix", "J", "F"],
)
def test_a_wrong_expectation_of_a_frame_is_reported(field):
    frame = copy.deepcopy(next(frame for frame in DATA["frames"] if 0 < frame["F"] < 1))
    frame[field] += 1 if isinstance(frame[field], int) else 2e-12
    [failures] = run(KIND, {"kind": KIND, "frames": [frame]}).failures.values()
    assert [failure.split(":")[0] for failure in failures] == [field]


def test_a_square_dilation_is_reported():
    frames = [frame | {"F": frame["F_square_dilation_not_official"]} for frame in DATA["frames"]]
    report = run(KIND, {"kind": KIND, "frames": frames})
    assert report.passed == sum(frame["F"] == frame["F_square_dilation_not_official"] for frame in DATA["frames"]) < 30


@pytest.mark.parametrize("field", ["J", "F", "A", "R"])
def test_a_wrong_expectation_of_a_video_is_reported(field):
    video = copy.deepcopy(DATA["revos_AR_videos"][0])
    video[field][-1] -= 2e-9
    [failures] = run(KIND, {"kind": KIND, "revos_AR_videos": [video]}).failures.values()
    assert [failure.split("[")[0] for failure in failures] == [field]


def test_the_value_of_the_prediction_counts():
    video = next(video for video in DATA["revos_AR_videos"] if video["name"] == "plain_pred01")
    [failures] = run(KIND, {"kind": KIND, "revos_AR_videos": [video | {"pred_value": 255}]}).failures.values()
    assert [failure.split("[")[0] for failure in failures] == ["A", "R"]


def test_unknown_section():
    with pytest.raises(GoldenFileError, match="videos"):
        run(KIND, {"kind": KIND, "videos": []})
