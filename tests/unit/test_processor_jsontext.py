"""JSON in, JSON out: numbers as written, text as meant."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.processor.jsontext import decode, encode


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-0",
        "1",
        "1.0",
        "-0.0",
        "1234567890.10",
        "12345678901234567890.12",
        "1E400",
        "1e-400",
        "-1.50E+03",
        "9007199254740993",
        "18446744073709551616",
        "-9223372036854775809",
        "7" * 5000,
        "-" + "7" * 5000,
    ],
)
def test_a_number_comes_back_as_it_was_written(number):
    text = f'{{"value":{number},"list":[{number} , {number}]}}'

    value = decode(text)

    assert encode(value).decode() == text.replace(" , ", ",")


numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
texts = st.text().map(lambda text: json.dumps(text, ensure_ascii=False))
json_texts = st.recursive(
    st.one_of(numbers, texts, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(texts, inner, max_size=4).map(
            lambda members: f"{{{','.join(f'{name}:{value}' for name, value in members.items())}}}"
        ),
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(json_texts)
def test_any_json_comes_back_with_the_same_numbers_and_text(text):
    value = decode(text)

    def exact(json_text):
        return json.loads(json_text, parse_float=str, parse_int=str)

    assert exact(encode(value)) == exact(text)


def test_text_comes_back_with_the_same_meaning_in_utf8():
    text = r'{"é":"\u00e9\t\u0000\u2028\ud83d\ude00\\ud800\/"}'

    assert json.loads(encode(decode(text))) == json.loads(text)
    assert encode(decode(text)) == '{"é":"é\\t\\u0000\u2028😀\\\\ud800/"}'.encode()


def test_half_a_surrogate_pair_is_refused_rather_than_written():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode(decode(r'["\ud800"]'))


@pytest.mark.parametrize("text", ["", "{", '{"a":NaN}', "[1,]", '{"a":-Infinity,"b":"\\ud800"}', "[01]", "nul"])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"char|JSON"):
        decode(text)


def test_nesting_beyond_reason_is_refused_not_a_crash():
    with pytest.raises(RecursionError):
        decode("[" * 100_000 + "]" * 100_000)
