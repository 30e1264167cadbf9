"""The scanner against `json.loads`, over every way a text may be cut into chunks."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.json_scan import scan

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def scanned(text, chunk):
    """Every entry as the scanner finds it, decoded from where it says it is."""
    data = text.encode("utf-8", "surrogatepass")
    found = {}
    for name, begin, end in scan(io.BytesIO(data), chunk):
        entry = json.loads(b"{%b}" % data[begin:end])
        assert list(entry) == [name]
        found |= entry
    return found


@given(
    content=st.dictionaries(st.text(), VALUES, max_size=4),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 20),
    chunk=st.integers(1, 40),
)
def test_any_object(content, ascii_only, indent, chunk):
    text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    assert repr(scanned(text, chunk)) == repr(json.loads(text))  # as text, where NaN equals NaN


OBJECTS = {
    "empty": "{}",
    "white space": ' \n{ \t"a" \r\n: 1 , "b":[ ]\n}\n\n',
    "much white space": "{" + " " * 50 + '"a"' + " " * 50 + ":" + " " * 50 + "1" + " " * 50 + "}" + " " * 50,
    "brackets and quotes in strings": r'{"a]}\"{[": ["]}", "\\", "\"}", {"}": "{,:"}], "b,": "\\\""}',
    "escaped names": r'{"é": 1, "\ud83d\ude00": 2, "\u0000": 3, "\/": 4, "": 5, "\ud800": 6}',
    "names in UTF-8": '{"é": "ß", "日本": ["😀"], "\u2028": 1}',
    "numbers": '{"a": 12.5e+10, "b": -0.0, "c": 123456789012345678901234567890, "d": -Infinity, "e": NaN}',
    "mark": "\ufeff" + '{"a": 1}',
}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name, chunk):
    assert repr(scanned(OBJECTS[name], chunk)) == repr(json.loads(OBJECTS[name].encode()))


#: what is no object in JSON, and at which byte that shows
BROKEN = {
    "nothing": ("", 0),
    "a list": ("[1, 2]", 0),
    "a string": ('"a"', 0),
    "no colon": ('{"a" 1}', 5),
    "no value": ('{"a": }', 6),
    "no comma": ('{"a": 1 "b": 2}', 8),
    "comma before the end": ('{"a": 1,}', 8),
    "name without quotes": ("{a: 1}", 1),
    "name that is a number": ("{1: 1}", 1),
    "two objects": ('{"a": 1}{"b": 2}', 8),
    "text behind much white space": ('{"a": 1}' + " " * 50 + "x", 58),
    "broken value": ('{"a": [1, {"b" 2}], "c": 3}', 15),
    "behind UTF-8": ('{"é": "ß", "b"}', 16),
    "line end in a string": ('{"a": "b\n"}', 8),
    "unknown escape": (r'{"a": "\x"}', 7),
    "mark in the middle": ('{"a": 1}\ufeff', 8),
}


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize("name", BROKEN)
def test_broken(name, chunk):
    text, place = BROKEN[name]
    with pytest.raises(ValueError, match=f": byte {place}$"):
        scanned(text, chunk)


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_truncated_anywhere(chunk):
    text = r'{"17": [{"size": [4, 4], "counts": "8\"3"}, null, -1.5e-3], "é": true}'
    for length in range(len(text)):
        with pytest.raises(ValueError, match=r": byte \d+$"):
            scanned(text[:length], chunk)
    assert scanned(text, chunk) == json.loads(text)


def test_invalid_utf8():
    with pytest.raises(ValueError, match="can't decode byte 0xff"):
        list(scan(io.BytesIO(b'{"a": "\xff"}')))


def test_a_defect_is_found_where_it_is():
    """The file is not read to its end to know that it is broken."""
    file = io.BytesIO(b'{"a": [1 2], "b": "' + b"x" * 1000 + b'"}')
    with pytest.raises(ValueError, match="Expecting ',' delimiter: byte 9"):
        list(scan(file, chunk=100))
    assert file.tell() == 100
