"""JSON text to values and back, with each number as it was written.

A number is not a float here: ``1234567890.10`` would lose its last digit, ``1E400`` everything. Numbers with a fraction
or an exponent become :class:`msgspec.Raw`, their own text, which is written back untouched. Whole numbers become
``int``, which loses nothing; the few for which it would (``-0``, thousands of digits) are ``Raw`` as well.
"""

import json
import re
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

_MINUS_ZERO = re.compile(r"-0\s*(?:[,}\]]|$)")
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Raw)
_encoder = msgspec.json.Encoder()


def decode(text: str) -> Any:
    """Return the value of a JSON text.

    :raises ValueError: the text is not JSON; the error names the position.
    :raises RecursionError: it is nested too deeply.
    """
    if not _MINUS_ZERO.search(text):
        try:
            return _decoder.decode(text)
        except msgspec.DecodeError:
            pass  # a number of thousands of digits, or no JSON
    return json.loads(text, parse_float=Raw, parse_int=_whole_number, parse_constant=_refuse)


def encode(value: Any) -> bytes:
    """Return a value as compact UTF-8 JSON on one line.

    :raises ValueError: a text has half a surrogate pair, which is no character.
    """
    return _encoder.encode(value)


def _whole_number(text: str) -> int | Raw:
    try:
        return Raw(text) if text == "-0" else int(text)
    except ValueError:  # more digits than Python converts
        return Raw(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
