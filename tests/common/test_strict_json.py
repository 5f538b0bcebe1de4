"""Strict JSON: what JSON allows comes back, everything else is refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.errors import InvalidJson
from chatsafe_common.strict_json import MAX_DEPTH, MAX_VALUES, parse

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans())
def test_decode_after_encode_is_the_identity(value: object, escape: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=escape).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_invalid_json(body: bytes) -> None:
    try:
        value = parse(body)
    except InvalidJson:
        return
    assert value == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":1}{}',
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"b":2,"a":3}}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[" + b"1" * 5000 + b"]",
        b'["\xff"]',
        b'["\\x"]',
        b'["\\ud800"]',
        b'["\\udc00\\ud800"]',
        b'{"\\ud800":1}',
        b'["unended',
        b'["a\nb"]',
        b"\xef\xbb\xbf{}",
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 1_000_000,
        b"[" + b"1," * MAX_VALUES + b"1]",
        b"[" + b"[]," * MAX_VALUES + b"[]]",
        b"," * (MAX_VALUES + 1),
    ],
)
def test_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        parse(body)


def test_limits_are_reached_not_crossed() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert parse(b'["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert parse(b'["' + b"[{,}]" * 30_000 + b'"]') == ["[{,}]" * 30_000]


@pytest.mark.parametrize("escape", ["\\n", '\\"', "\\\\", "\\u00e9"])
def test_long_strings_cross_scan_windows(escape: str) -> None:
    for shift in range(3):
        text = "x" * shift + escape * 400_000
        assert parse(f'{{"a":"{text}","b":[1]}}'.encode()) == json.loads(
            f'{{"a":"{text}","b":[1]}}'
        )


def test_messages_do_not_quote_the_body() -> None:
    with pytest.raises(InvalidJson) as caught:
        parse(b'{"messages": "secretword')
    assert "secretword" not in caught.value.message
