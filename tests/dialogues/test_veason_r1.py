import json
import math
import time
from functools import lru_cache

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from dialogues import VeasonR1
from dialogues.chat import Exact, Frame, Text
from dialogues.episode import Answer
from tests.builders import video_sample

BOX = [131.75, 78.28, 346.12, 459.39]
FULL = {"think": 1.0, "json": 1.0}


@lru_cache
def sample_of(size):
    return video_sample(torch.zeros(1, 6, *size, dtype=torch.bool), "The Square...", frame_ids=[2, 8, 14, 20, 26, 32])


def chat_of(dialogue, shown=(0, 2, 4), size=(72, 128)):
    return dialogue.ask(sample_of(size), list(shown))


def said(stamp=14, boxes=(BOX,), thought="t"):
    return f"<think>{thought}</think>\n<answer>{_json(stamp, boxes)}</answer>"


def _json(stamp, boxes):
    return json.dumps({"keyframe_timestamp": stamp, "bbox_2d_list": boxes})


def test_prompt_has_the_published_structure():
    system, user = chat_of(VeasonR1()).messages
    assert [(part.role, part.text) for part in system.content] == [("system", "You are a helpful assistant.")]
    assert [part.text if isinstance(part, Text) else part for part in user.content[:9]] == [
        *("(2s)", Frame(0, Exact(560, 560)), ", "),
        *("(14s)", Frame(2, Exact(560, 560)), ", "),
        *("(26s)", Frame(4, Exact(560, 560)), " \n"),
    ]
    lines = "".join(part.text for part in user.content if isinstance(part, Text)).split("\n")
    assert len(lines) == 4
    assert "3" in lines[1]
    assert "'the square'" in lines[2]
    assert "<think> </think>" in lines[3]
    assert "<answer> </answer>" in lines[3]


@pytest.mark.parametrize(
    ("expression", "asked"),
    [("..The Dog. And cat?..", "'the dog. and cat?'"), ("a {num_frames} b", "'a {num_frames} b'")],
)
def test_expression_is_lowered_and_stripped_of_dots(expression, asked):
    chat = VeasonR1().ask(video_sample(expression=expression), [0])
    assert asked in next(part.text for part in chat.messages[1].content if getattr(part, "role", "") == "question")


def test_prompts_can_be_as_short_as_labels_and_expression(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text(
        '{system: "", label: "{timestamp}", separator: "", frames: "", question: "{expression}", instruction: ""}'
    )
    [user] = chat_of(VeasonR1(size=28, prompts=path)).messages
    resize = Exact(28, 28)
    assert [part.text if isinstance(part, Text) else part for part in user.content] == [
        *("2", Frame(0, resize), "14", Frame(2, resize), "26", Frame(4, resize), " \n", "the square")
    ]


def test_ordinal_timestamps():
    dialogue = VeasonR1(timestamps="ordinals")
    chat = chat_of(dialogue)
    assert [part.text for part in chat.messages[1].content if getattr(part, "role", "") == "label"] == [
        "(0s)",
        "(1s)",
        "(2s)",
    ]
    assert [dialogue.read(said(stamp), chat).keyframe for stamp in (0, 2, 3, -1)] == [0, 4, None, None]
    assert '"keyframe_timestamp": 2' in dialogue.write(Answer("t", 4), chat)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 0}, "`size` to be at least 1"), ({"grid": 1}, "`grid` to be at least 2")],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        VeasonR1(**arguments)


def test_ask_needs_a_frame():
    with pytest.raises(ValueError, match="at least one frame"):
        VeasonR1().ask(video_sample(), [])


def test_read_converts_to_canonical_units():
    dialogue = VeasonR1()
    answer = dialogue.read(said(14, [[0.5, 0.5, 70.5, 140.5]], thought="why\nnot"), chat_of(dialogue))
    # s = 560/128 = 4.375 and 560/72 = 7.78: x2 = (70.5 - 0.5) / 4.375 + 1 = 17, y2 = 140 / 7.78 + 1 = 19
    torch.testing.assert_close(answer.boxes, torch.tensor([[0.0, 0.0, 17.0, 19.0]], dtype=torch.float64))
    assert (answer.thinking, answer.keyframe, answer.form) == ("why\nnot", 2, FULL)


@pytest.mark.parametrize(("stamp", "keyframe"), [(2, 0), (14, 2), (26, 4), (8, None), (0, None), (-1, None)])
def test_keyframe_is_one_that_was_shown(stamp, keyframe):
    dialogue = VeasonR1()
    for released in (False, True):
        assert dialogue.read(said(stamp), chat_of(dialogue), released).keyframe == keyframe


@pytest.mark.parametrize(
    ("text", "think", "released"),
    [
        (said(), 1, 1),
        (f"<think></think><answer>{_json(14, [BOX])}</answer>", 1, 1),
        (said() + "\n", 1, 0),  # white space around is not tolerated by the published pattern
        (" " + said(), 1, 0),
        ("<think>t</think>" + said(), 0, 1),  # repeated tags are
        (said() + "<answer>{}</answer>", 0, 1),
        ("<think>" + said(), 0, 1),
        (said().replace("\n", " so "), 0, 0),
        (said().removeprefix("<think>"), 0, 0),
        (said().removesuffix("</answer>"), 0, 0),
        (said().replace("think", "Think"), 0, 0),
        ("", 0, 0),
    ],
)
def test_think_form(text, think, released):
    dialogue = VeasonR1()
    chat = chat_of(dialogue)
    assert dialogue.read(text, chat).form["think"] == think
    assert dialogue.read(text, chat, released=True).form["think"] == released


@pytest.mark.parametrize(
    ("stamp", "boxes", "form", "released"),
    [
        (14, [BOX], 1, 1),
        (8, [BOX], 1, 1),  # a frame that was not shown is well-formed
        (14, [BOX, BOX, [1, 2, 3], "x"], 0.5, 0.5),
        (14, [], 0, 0),
        (14, {}, 0, 0),
        (14.0, [BOX], 0, 0),
        ("14", [BOX], 0, 0),
        (None, [BOX], 0, 0),
        (True, [BOX], 0, 1),
        (14, [BOX, [0, 0, 0, 0]], 0.5, 1),  # the dummy of an absent object
        (14, [BOX, [True, False, True, True]], 0.5, 1),
        (14, [BOX, [0, 0, math.inf, math.inf]], 0.5, 1),
        (14, [BOX, [0, 0, math.nan, 1]], 0.5, 1),
        (14, [BOX, [300, 100, 100, 400]], 0.5, 1),  # inverted
        (14, [BOX, [100, 100, 100, 400]], 0.5, 1),  # without width
        (14, [BOX, [600, 600, 700, 700]], 0.5, 1),  # outside the canvas
        (14, [BOX, [-50, -50, -10, -10]], 0.5, 1),
        (14, [BOX, [0, 0, 10**400, 1]], 0.5, 1),  # no double holds it
        (14, [BOX] * 240, 0.5, 1),  # 120 boxes count
    ],
)
def test_json_form(stamp, boxes, form, released):
    dialogue = VeasonR1()
    chat = chat_of(dialogue)
    answer = dialogue.read(said(stamp, boxes), chat)
    assert answer.form["json"] == pytest.approx(form)
    assert dialogue.read(said(stamp, boxes), chat, released=True).form["json"] == pytest.approx(released)
    assert len(answer.boxes) <= 120


@pytest.mark.parametrize(
    "answer", ["14", "[14]", "null", '"x"', "{'keyframe_timestamp': 14}", "{", "[" * 5000, "\ud800", ""]
)
@pytest.mark.parametrize("released", [False, True])
def test_an_answer_that_is_no_object_says_nothing(answer, released):
    dialogue = VeasonR1()
    read = dialogue.read(f"<think>t</think><answer>{answer}</answer>", chat_of(dialogue), released)
    assert (read.keyframe, len(read.boxes), read.form) == (None, 0, {"think": 1.0, "json": 0.0})


def test_a_box_is_clipped_to_the_frame():
    dialogue = VeasonR1()
    text = said(14, [[-100, -100, 900, 1e308], [280, 280, 1e308, 281]])
    boxes = dialogue.read(text, chat_of(dialogue)).boxes
    assert boxes[0].tolist() == [0, 0, 128, 72]
    assert boxes[1, 2] == 128
    raw = dialogue.read(text, chat_of(dialogue), released=True).boxes
    assert raw[0, 0] < 0
    assert raw[0, 2] > 128


def test_an_answer_that_the_thought_talks_about_is_not_read():
    dialogue = VeasonR1()
    text = said(14, thought=f"maybe <answer>{_json(26, [])}</answer>")
    assert dialogue.read(text, chat_of(dialogue)).keyframe == 2
    assert dialogue.read(text, chat_of(dialogue), released=True).keyframe == 4


@pytest.mark.parametrize(
    ("stamp", "keyframe"), [("14", 2), (" 14 ", 2), (14.9, 2), (True, None), (None, None), ([], None)]
)
def test_released_timestamps_are_converted(stamp, keyframe):
    dialogue = VeasonR1()
    assert dialogue.read(said(stamp), chat_of(dialogue), released=True).keyframe == keyframe
    assert dialogue.read(said(stamp), chat_of(dialogue)).keyframe is None


@pytest.mark.parametrize(
    ("boxes", "array", "items"),
    [
        ([[1, 2, 3, 4], [True, 2, 3, 4]], 2, 2),
        ([[1, 2, 3, math.inf]], 1, 1),
        ([[True, True, False, False]], 0, 1),
        ([[0, 0, 2**64, 1]], 0, 1),  # NumPy makes objects of it
        ([[0, 0, 2**64 - 1, 1]], 1, 1),
        ([[1, 2, 3, 4], [1, 2, 3]], 0, 0),
        ([[1, 2, 3, "4"]], 0, 0),
        ([1, 2, 3, 4], 0, 0),
        ([[1, 2, 3, 4]] * 121, 120, 120),
    ],
)
def test_released_boxes_are_all_or_none(boxes, array, items):
    for rule, expected in (("array", array), ("items", items)):
        dialogue = VeasonR1(released_boxes=rule)
        assert len(dialogue.read(said(14, boxes), chat_of(dialogue), released=True).boxes) == expected


@pytest.mark.parametrize("grid", [None, 100, 1000])
@pytest.mark.parametrize("size", [(72, 128), (1080, 1920), (9, 5), (112, 112)], ids=str)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=25)
def test_read_is_the_inverse_of_write(grid, size, data):
    dialogue = VeasonR1(grid=grid)
    chat = chat_of(dialogue, size=size)
    height, width = size
    edges = [data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)) for n in (width, height)]
    (x1, x2), (y1, y2) = map(sorted, edges)
    answer = Answer("Step 1 { } \n", 4, torch.tensor([[x1, y1, x2, y2]], dtype=torch.float64), FULL)
    read = dialogue.read(dialogue.write(answer, chat), chat)
    assert (read.thinking, read.keyframe, read.form) == (answer.thinking, answer.keyframe, answer.form)
    # Half a written unit, and more where a thin box is kept open or the grid ends before the frame does.
    unit = 0.01 if grid is None else 1.0
    tolerance = torch.tensor([width, height, width, height]) / dialogue.canvas * unit * 2
    assert ((read.boxes - answer.boxes).abs() <= tolerance).all()
    assert dialogue.write(read, chat) == dialogue.write(answer, chat)


def test_write_is_one_line_of_json():
    dialogue = VeasonR1(grid=100)
    answer = Answer("t", 2, torch.tensor([[0.0, 0.0, 128.0, 72.0], [64.0, 36.0, 65.0, 37.0]]))
    # x2 = 127 * 100/128 + 0.5 = 99.7, of which 99 is the last; x1 = 64 * 100/128 + 0.5 = 50.5, y1 = 50.5: even is 50
    said_boxes = "[[0, 0, 99, 99], [50, 50, 51, 51]]"
    assert dialogue.write(answer, chat_of(dialogue)) == (
        f'<think>t</think>\n<answer>{{"keyframe_timestamp": 14, "bbox_2d_list": {said_boxes}}}</answer>'
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("t", None), "keyframe among the shown"),
        (Answer("t", 1), "keyframe among the shown"),
        (Answer("a </think> b", 2), "thought without"),
    ],
)
def test_write_refuses_what_cannot_be_read_back(answer, message):
    dialogue = VeasonR1()
    with pytest.raises(ValueError, match=message):
        dialogue.write(answer, chat_of(dialogue))


PIECES = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    " ",
    "\n",
    "\ud800",
    "1e999",
]
PIECES += ['"keyframe_timestamp"', '"bbox_2d_list"', "14", "NaN", "-Infinity", "true", "9" * 400, _json(14, [BOX])]


@pytest.mark.parametrize("released", [False, True])
@hypothesis.given(
    st.one_of(st.text(), st.text(st.characters()), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
)
@hypothesis.settings(max_examples=300)
def test_read_is_total(released, text):
    dialogue = VeasonR1()
    answer = dialogue.read(text, chat_of(dialogue), released)
    assert answer.keyframe in (None, 0, 2, 4)
    assert answer.form.keys() == {"think", "json"}
    assert all(0 <= part <= 1 + 1e-12 for part in answer.form.values())
    if not released:
        assert answer.boxes.isfinite().all()
        assert (answer.boxes[:, 2:] > answer.boxes[:, :2]).all()
        assert (answer.boxes >= 0).all()


ATTACKS = {
    "spaces": lambda n: "<answer>" + " " * n,
    "spaces in an object": lambda n: "<answer>{" + " " * n,
    "openings": lambda n: "<answer>" * (n // 8),
    "openings of objects": lambda n: "<answer> {" * (n // 10),
    "closings": lambda n: "<answer>{" + "} </answer" * (n // 10),
    "empty blocks": lambda n: "<think>" + "</think> <answer></answer>" * (n // 26),
    "thoughts": lambda n: "<think>" + "</think> " * (n // 9) + "</answer>",
    "brackets": lambda n: "<answer>" + "[" * n + "</answer>",
    "digits": lambda n: "<answer>" + "9" * n + "</answer>",
    "decimals": lambda n: '<answer>{"bbox_2d_list": [[0.' + "9" * n + "]]}</answer>",
    "boxes": lambda n: "<answer>" + _json(14, [[0, 0, 9, 9]] * (n // 14)) + "</answer>",
    "strings": lambda n: "<answer>" + _json(14, [["x" * n, 0, 0, 0]]) + "</answer>",
}


def seconds(dialogue, text, chat, released):
    def once():
        start = time.perf_counter()
        dialogue.read(text, chat, released)
        return time.perf_counter() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_read_is_linear(attack, released):
    dialogue = VeasonR1()
    chat = chat_of(dialogue)
    assert seconds(dialogue, attack(4_000), chat, released) < 5e-3
    # 16 times the text: linear is 16 times the time, quadratic 256 times. The floor keeps noise out of the ratio.
    short = max(seconds(dialogue, attack(2**15), chat, released), 2e-4)
    assert seconds(dialogue, attack(2**19), chat, released) < 64 * short
