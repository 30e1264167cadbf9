import copy
import json

import pytest

from tests.golden import FOLDER, GoldenFileError, run

KIND = "videoseg_o3_metrics"
DATA = json.loads((FOLDER / f"{KIND}.json").read_text())


def test_all_cases_pass():
    report = run(KIND, DATA)
    assert report.lines()[-1] == f"{KIND}: 21/21"
    assert report.skipped == {}


@pytest.mark.parametrize("field", ["J", "F", "A", "R", "boundary_pixels_gt", "boundary_pixels_pred", "dilation_radius"])
def test_a_wrong_expectation_of_a_frame_is_reported(field):
    case = copy.deepcopy(next(case for case in DATA["cases"] if case["name"] == "shift3"))
    case[field] += 1 if isinstance(case[field], int) else 2e-9
    [failures] = run(KIND, {"kind": KIND, "cases": [case]}).failures.values()
    assert [failure.split(":")[0] for failure in failures] == [field]


@pytest.mark.parametrize("field", ["J", "F", "J_mean", "F_mean"])
def test_a_wrong_expectation_of_the_video_is_reported(field):
    video = copy.deepcopy(DATA["video"])
    if isinstance(video[field], list):
        video[field][-1] += 2e-9
    else:
        video[field] += 2e-9
    [failures] = run(KIND, {"kind": KIND, "video": video}).failures.values()
    assert [failure.split(":")[0].split("[")[0] for failure in failures] == [field]


def test_unknown_section():
    with pytest.raises(GoldenFileError, match="videos"):
        run(KIND, {"kind": KIND, "videos": []})
