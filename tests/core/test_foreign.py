"""JSON of a writer that is not trusted: a value, or BadInput without a word of it."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.errors import BadInput
from aarlab.core.foreign import MAX_DEPTH, decoded, is_number, read_json
from aarlab.core.foreign_yaml import read_yaml

REFUSED = {
    "no json": (b"{", "not JSON"),
    "nothing": (b"", "not JSON"),
    "two values": (b"1 2", "not JSON"),
    "nan": (b'{"a": NaN}', "NaN is not a number"),
    "infinity": (b"[-Infinity]", "is not a number"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' is given twice"),
    "no utf-8": (b'"\xff"', "not UTF-8"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "a surrogate as utf-8": (b'"\xed\xa0\x80"', "not UTF-8"),
    "a lone surrogate": (b'{"a": ["\\ud800"]}', "lone surrogate"),
    "a lone surrogate as key": (b'{"\\uDFFF": 1}', "lone surrogate"),
    "an integer without end": (b"[" + b"9" * 5000 + b"]", "not JSON"),
    "deeper than the stack": (b"[" * 100_000, "nested"),
    "deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested"),
    "deep objects": (b'{"a":' * 150 + b"1" + b"}" * 150, "nested"),
    "many lists": (b"[" + b"[]," * 600_000 + b"[]]", "lists and objects"),
    "many objects": (b"[" + b"{}," * 600_000 + b"{}]", "lists and objects"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    raw, why = REFUSED[name]
    with pytest.raises(BadInput, match=f"^the file: .*{why}") as caught:
        read_json(raw, "the file")
    assert len(str(caught.value)) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    ).filter(lambda value: "Infinity" not in json.dumps(value))
)
def test_whatever_json_can_say_is_read(value: object) -> None:
    assert read_json(json.dumps(value, ensure_ascii=False).encode(), "x") == value
    assert read_json(json.dumps(value).encode(), "x") == value


def test_as_deep_as_allowed_and_as_long_as_a_submission() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")
    brackets = json.dumps(["[" * 2000] * 20).encode()
    assert len(read_json(brackets, "x")) == 20, "brackets in a text are no nesting"


def test_few_bytes_do_not_take_much_memory() -> None:
    raw = b"[" + b"[]," * 20_000_000 + b"[]]"
    tracemalloc.start()
    with pytest.raises(BadInput):
        read_json(raw, "x")
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 10**6


BOMB = b"a: &a [x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 112)
)
YAML = {
    "a key twice": (b"a: 1\nb: 2\na: 3\n", "line 3: not YAML .*the key 'a' is given twice"),
    "an inner key twice": (b"a: {x: 1, x: 2}\n", "line 1: .*the key 'x' is given twice"),
    "no yaml": (b"a: [\n", "not YAML"),
    "a date that is none": (b"a: 2026-13-45\n", "not YAML"),
    "nan": (b"a: 1\nb: .nan\n", "line 2: .*nan is not a number"),
    "infinity": (b"b: 1.0e+999\n", "is not a number"),
    "latin-1": ("a: 1\nb: é\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 0xE9 at column 4\)"),
    "utf-16": ("a: 1".encode("utf-16"), "UTF-16"),
    "deep": (b"[" * 5000, "nested"),
    "aliases": (BOMB, "aliases"),
    "a python object": (b"a: !!python/object/apply:os.getcwd []\n", "line 1: not YAML"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_refused_says_where_and_why(name: str) -> None:
    raw, why = YAML[name]
    with pytest.raises(BadInput, match=f"^the file.*{why}"):
        read_yaml(raw, "the file")


def test_yaml_with_a_mark_and_merged_keys_is_read() -> None:
    text = b"\xef\xbb\xbfbase: &b {x: 1}\nmore: &m {<<: *b, x: 2}\nlast: {<<: *m, x: 3}\n"
    assert read_yaml(text, "f") == {"base": {"x": 1}, "more": {"x": 2}, "last": {"x": 3}}
    assert read_yaml(b"", "f") is None
    assert decoded(b"\xef\xbb\xbfx\r\n", "f") == "x\r\n"


@pytest.mark.parametrize(
    ("value", "is_one"),
    [(1, True), (-0.5, True), (True, False), ("1", False), (None, False), (float("nan"), False),
     (float("inf"), False), (10**400, False)],
)  # fmt: skip
def test_a_number_is_finite_and_no_boolean(value: object, is_one: bool) -> None:
    assert is_number(value) is is_one
