"""Slices of JSON, byte for byte as they are in the input, from a stream of any length.

The model: a :class:`Slicer` stands at a byte of a stream of JSON values and holds a buffer that begins there. It can
*look* at the value it stands at, *skip* what was looked at, and *walk* into an object or array: then it stands at each
member or element in turn, so that a package of any size is read with one element in memory. Nothing is ever parsed and
written again: numbers, escapes and the order of members stay as they are.

Where a value ends is found by msgspec, which says at which byte anything that follows begins (450 MB/s for releases of
2 kB). Only if it stumbles are brackets counted instead (70 MB/s).

One thing is changed on purpose. JSON's grammar lets half a surrogate pair pass (``"\\ud83d"``, mostly where a text
was cut), but it is no character, and no strict reader takes the record: it becomes ``\\ufffd``, the replacement
character, and is counted. A ``\\u0000`` stays: it is a character, if an odd one.

What is limited: a value may be as long as the slicer's limit, and as deep as msgspec reads (about 1,000 levels, some
fewer if we stand deep ourselves). ``NaN`` and ``Infinity`` are not JSON. Of equal names in one object, all stay in the
text, and the last one counts.
"""

import re
from collections.abc import Callable, Iterator
from typing import NoReturn

import msgspec

from shared.errors import PermanentError

BLOCK_BYTES = 1 << 20
# As numbers: looking for one byte is ten times faster than looking for bytes of length one.
TAB, LINE_FEED, CARRIAGE_RETURN, BACKSLASH = b"\t\n\r\\"
UTF8_BOM = b"\xef\xbb\xbf"

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb"%b|[^\s,:\]}\"]++" % _STRING, re.DOTALL)
_TO_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:%b[^"{}\[\]]*+)*+([{}\[\]])' % _STRING, re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a surrogate pair: one character
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\.",
    re.DOTALL,
)

_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_name = msgspec.json.Decoder(str).decode
_FOLLOWED = re.compile(r"trailing characters \(byte (\d+)\)")
_AT_BYTE = re.compile(r" \(byte (\d+)\)")
_CUT_SHORT = "Input data was truncated"


def _end_said_by(error: msgspec.DecodeError) -> int | None:
    """Return where something follows a value, by msgspec's count; None if that is not what the error says."""
    match = _FOLLOWED.search(str(error))
    return int(match[1]) if match else None


def _count_of_msgspec() -> int:
    """Return by how much msgspec's count is off (0.22: by one), so that no version of it misleads us."""
    try:
        _decode_raw(b"0 0")
    except msgspec.DecodeError as error:
        return (_end_said_by(error) or 0) - len(b"0 ")
    return 0


_OFF = _count_of_msgspec()


class Slicer:
    """Stands at a byte of a stream of JSON values.

    Every failure is a :class:`PermanentError` that names the stream, the record, and the place.

    :param name: what the stream is called in errors.
    :param read: gives the next bytes, at most as many as asked for; ``b""`` at the end.
    :param limit: the most bytes a value may have, ``max_record_bytes``. About twice as much is held in memory at most.
    """

    def __init__(self, name: str, read: Callable[[int], bytes], limit: int) -> None:
        self.name = name
        self.records = 0
        """How many records were found so far; kept by the user, shown in errors."""
        self.replaced = 0
        """How many halves of surrogate pairs were replaced in what was skipped."""
        self._read = read
        self._limit = limit
        self._buffer = b""
        self._at = 0
        self._ended = False
        self._offset = 0  # of the buffer in the stream
        self._lines = 0  # ended before the buffer
        self._line_offset = 0  # in the stream, of the line in which the buffer begins
        self._replaced_here = 0
        self._sound = True  # what _find_end found; else only its brackets are balanced

    # Standing and looking

    def peek(self) -> bytes:
        """Skip white space; return the next byte, ``b""`` at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._fill():
                return b""

    def glimpse(self, size: int) -> bytes:
        """Return the ``size`` bytes that follow, fewer only at the end. Skips nothing."""
        while self._held < size and self._fill():
            pass
        return self._buffer[self._at : self._at + size]

    def line(self) -> bytes | None:
        """Return the rest of this line, without its end; None if no line ends within the limit. Skips nothing."""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            if self._held > self._limit or not self._fill():
                return None
        return self._buffer[self._at : end] if end - self._at <= self._limit else None

    def look(self) -> bytes | None:
        """Return the text of the value we stand at (after :meth:`peek`); None if it is longer than the limit.

        It is one JSON value, but strings are not checked for being UTF-8. Skips nothing: ``skip(len(text))`` does.
        """
        self._replaced_here = 0
        end = self._end()
        if end is None:
            return None
        text = self._buffer[self._at : end]
        if not self._sound:
            text, self._replaced_here = replace_half_pairs(text)
            self._check(text)
        return text

    def look_within_limit(self) -> bytes:
        """Do the same, but refuse a value longer than the limit."""
        text = self.look()
        if text is None:
            self._check(self._buffer[self._at :], as_far_as_it_goes=True)
            self.fail(
                f"this is longer than {self._limit:,} bytes. If that is right, raise BOWERBIRD_MAX_RECORD_BYTES; else "
                "correct the source"
            )
        return text

    def skip(self, size: int) -> None:
        """Step over what was looked at."""
        self._at += size
        self.replaced += self._replaced_here
        self._replaced_here = 0

    def take(self) -> bytes:
        """Look at a value within the limit, and skip it."""
        self.peek()
        text = self.look_within_limit()
        self.skip(len(text))
        return text

    def on_one_line(self, text: bytes) -> bytes:
        """Return a value's text as it is or, if it goes over lines or has tabs, without the space between its tokens.

        A string cannot hold a raw line break or tab, so those are between tokens. The result has no control characters.
        """
        if LINE_FEED in text or TAB in text or CARRIAGE_RETURN in text:
            try:
                return msgspec.json.format(text, indent=-1)
            except RecursionError:
                self.fail_as_deep()
        return text

    # Walking

    def members(self) -> Iterator[str]:
        """Walk into the object we stand at. At each name, we stand before its value, which must be taken or walked."""
        self._step(b"{")
        if self.peek() == b"}":
            self._at += 1
            return
        while True:
            if self.peek() != b'"':
                self.fail("malformed JSON: the name of a member is missing. Correct the source")
            yield self._name()
            if self._step(b",}") == b"}":
                return

    def elements(self) -> Iterator[None]:
        """Walk into the array we stand at. We stand before each element, which must be skipped, taken or walked."""
        self._step(b"[")
        if self.peek() == b"]":
            self._at += 1
            return
        while True:
            self.peek()
            yield
            if self._step(b",]") == b"]":
                return

    def values(self) -> Iterator[bytes]:
        """Walk into the array we stand at; yield the text of each element, which is skipped afterwards."""
        for _ in self.elements():
            text = self.look_within_limit()
            yield text
            self.skip(len(text))

    # Failing

    def fail(self, what: str, byte: int = 0) -> NoReturn:
        """Raise :class:`PermanentError`: the stream's name, the place (``byte`` bytes from here), and what is wrong."""
        raise PermanentError(f"{self.name}, {self._place(self._at + byte)}: {what}.")

    def fail_as_malformed(self, error: msgspec.DecodeError) -> NoReturn:
        """Say where in the value we stand at msgspec stumbled, and over what."""
        message = str(error)
        match = _AT_BYTE.search(message)
        if match is None:
            self.fail("the JSON ends in the middle of the value that begins here. Fetch or make the source again")
        reason = message[: match.start()].removeprefix("JSON is malformed: ")
        self.fail(f"malformed JSON: {reason}. Correct the source", int(match[1]))

    def fail_as_deep(self) -> NoReturn:
        """Say that the value we stand at is nested too deeply."""
        self.fail("objects and arrays are nested too deeply (about 1,000 levels are read). Correct the source")

    def _fail_as_ended(self) -> NoReturn:
        self.fail("the JSON ends too early. Fetch or make the source again")

    def _place(self, at: int) -> str:
        line = self._lines + self._buffer.count(b"\n", 0, at) + 1
        line_start = self._buffer.rfind(b"\n", 0, at)
        line_offset = self._offset + line_start + 1 if line_start >= 0 else self._line_offset
        offset = self._offset + at
        return f"record {self.records + 1} (line {line}, column {offset - line_offset + 1}, byte offset {offset})"

    # Finding the end of a value

    @property
    def _held(self) -> int:
        return len(self._buffer) - self._at

    def _end(self) -> int | None:
        """Return where in the buffer the value we stand at ends, reading as far as needed; None: beyond the limit."""
        if not self._held:
            self._fail_as_ended()
        while (end := self._find_end()) is None:
            if self._held > self._limit:
                return None
            if self._ended:
                self._check(self._buffer[self._at :])
                self.fail("malformed JSON: a value has no end. Correct the source")
            self._fill()
        return end if end - self._at <= self._limit else None

    def _find_end(self) -> int | None:
        """Return where the value ends; None if it does not end in the buffer."""
        self._sound = True
        try:
            text = _decode_raw(memoryview(self._buffer)[self._at :])
        except RecursionError:
            self.fail_as_deep()
        except msgspec.DecodeError as error:
            end = _end_said_by(error)
            if end is not None:
                return self._without_space(self._at + end - _OFF)
            if str(error) == _CUT_SHORT and not self._ended:
                return None
            return self._count_brackets()
        end = self._at + len(text)
        # The digits of a number may go on in the next block.
        may_go_on = end == len(self._buffer) and not self._ended and self._buffer[end - 1] in b"0123456789"
        return None if may_go_on else end

    def _without_space(self, end: int) -> int:
        while self._buffer[end - 1] in b" \t\r\n":
            end -= 1
        return end

    def _count_brackets(self) -> int | None:
        """Return where the value ends, without looking into it: it holds half a surrogate pair, or is malformed."""
        self._sound = False
        if self._buffer[self._at] not in b"{[":
            match = _SCALAR.match(self._buffer, self._at)
            return match.end() if match and (self._ended or match.end() < len(self._buffer)) else None
        depth, at = 0, self._at
        while match := _TO_BRACKET.match(self._buffer, at):
            at = match.end()
            depth += 1 if match[1] in b"{[" else -1
            if depth == 0:
                return at
        return None

    def _check(self, text: bytes, *, as_far_as_it_goes: bool = False) -> None:
        try:
            _decode_raw(replace_half_pairs(text)[0])
        except RecursionError:
            self.fail_as_deep()
        except msgspec.DecodeError as error:
            if not (as_far_as_it_goes and (str(error) == _CUT_SHORT or _end_said_by(error))):
                self.fail_as_malformed(error)

    # Moving on

    def _name(self) -> str:
        try:
            name = _decode_name(self.take())
        except UnicodeDecodeError as error:
            self.fail(f"a name is not UTF-8 ({error.reason}). Correct the source")
        self._step(b":")
        self.peek()
        return name

    def _step(self, expected: bytes) -> bytes:
        """Step over white space and one of the expected bytes; return that."""
        found = self.peek()
        if not found:
            self._fail_as_ended()
        if found not in expected:
            wanted = " or ".join(map(repr, expected.decode()))
            self.fail(f"malformed JSON: {wanted} is missing. Correct the source")
        self._at += 1
        return found

    def _fill(self) -> bool:
        """Forget what is behind, and read on. Return False at the end of the stream.

        As much is read as is ahead, so that a long value is not copied often; but not far beyond the limit.
        """
        ahead = self._buffer[self._at :]
        size = max(BLOCK_BYTES, min(len(ahead), self._limit - len(ahead)))
        block = b"" if self._ended else self._read(size)
        if not block:
            self._ended = True
            return False
        self._lines += self._buffer.count(b"\n", 0, self._at)
        line_start = self._buffer.rfind(b"\n", 0, self._at)
        if line_start >= 0:
            self._line_offset = self._offset + line_start + 1
        self._offset += self._at
        self._buffer = ahead + block
        self._at = 0
        return True


def replace_half_pairs(text: bytes) -> tuple[bytes, int]:
    """Replace halves of surrogate pairs in escapes by ``\\ufffd``, which is as long; return the text and how many."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return text, 0
    halves = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal halves
        if match["half"] is None:
            return match[0]
        halves += 1
        return b"\\ufffd"

    return _ESCAPE.sub(replace, text), halves
