import re

import hypothesis
import pytest
from hypothesis import strategies as st

from dialogues.scanner import adjoins, block, object_block, occurrences, parse_json

# Texts made of the pieces the scanners look for, short enough for the backtracking patterns they replace.
PIECES = ["<answer>", "</answer>", "<think>", "</think>", "{", "}", "{}", " ", "\n", "\xa0", "x", '{"a": 1}']
storms = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def cut(text, span):
    return None if span is None else text[span.start : span.end]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<a>x</a>", "x"),
        ("<a></a>", ""),
        ("</a><a>x</a>", "x"),  # a closing tag before the opening one closes nothing
        ("<a>x<a>y</a></a>", "x<a>y"),  # the first opening and the first closing tag
        ("<a>x", None),
        ("x</a>", None),
        ("<A>x</A>", None),  # tags are case-sensitive
        ("", None),
    ],
)
def test_block(text, content):
    assert cut(text, block(text, "a")) == content


def test_block_starts_where_it_is_told():
    assert cut("<a>x</a><a>y</a>", block("<a>x</a><a>y</a>", "a", start=1)) == "y"


def test_occurrences_do_not_overlap():
    assert list(occurrences("aaaaa", "aa")) == [0, 2]
    assert list(occurrences("aaaaa", "aa", start=1)) == [1, 3]


@hypothesis.given(storms)
def test_block_is_the_lazy_pattern(text):
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    assert cut(text, block(text, "answer")) == (found and found[1])


@hypothesis.given(storms)
def test_object_block_is_the_lazy_pattern(text):
    found = re.search(r"<answer>\s*(\{.*?\})\s*</answer>", text, re.DOTALL)
    assert cut(text, object_block(text, "answer")) == (found and found[1])


@hypothesis.given(storms)
def test_adjoins_is_the_lazy_pattern(text):
    found = re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)
    framed = text.startswith("<think>") and text.endswith("</answer>")
    kept = framed and adjoins(text, "</think>", "<answer>", len("<think>"), len(text) - len("</answer>"))
    assert kept == (found is not None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2.5]", [1, 2.5]),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("[Infinity]", [float("inf")]),
        ("{'a': 1}", None),
        ("[1,]", None),
        ("", None),
        ("[" * 100_000, None),
        ("9" * 5_000, None),
        ('"\ud800"', "\ud800"),
    ],
    ids=["list", "equal keys", "infinity", "single quotes", "comma", "empty", "deep", "long integer", "lone surrogate"],
)
def test_parse_json(text, value):
    assert parse_json(text) == value
