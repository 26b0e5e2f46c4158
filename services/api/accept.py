"""Headers that list what a client accepts, with qualities: ``Accept`` and ``Accept-Encoding`` (RFC 9110, 12.4.2)."""

import re
from collections.abc import Iterator, Sequence

_QUALITY = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
LONGEST = 4096
"""A longer header is not read: it is nobody's."""


def qualities(header: str) -> dict[str, float]:
    """Return what a header lists, in lower case, with its quality from 0 to 1.

    Parameters of media types are kept (``text/html;level=1``), without spaces. What is malformed is left out.
    """
    found = {}
    for item in header[:LONGEST].split(","):
        name, *parameters = (part.strip() for part in item.lower().split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q"):
                match = _QUALITY.fullmatch(parameter)
                quality = float(match[1]) if match else -1.0
            else:
                name += f";{parameter.replace(' ', '')}"
        if name and quality >= 0:
            found[name] = quality
    return found


def best(accept: str, offers: Sequence[str]) -> tuple[float, str]:
    """Return the quality and the media type of the offer that a header ``Accept`` likes best; 0: it accepts none."""
    ranges = qualities(accept)
    if not ranges:
        return 1.0, offers[0]
    rated = [(_quality(ranges, offer), offer) for offer in offers]
    return max(rated, key=lambda pair: pair[0])  # the first of the best


def _quality(ranges: dict[str, float], offer: str) -> float:
    return next((ranges[one] for one in _ranges(offer) if one in ranges), 0.0)


def _ranges(media_type: str) -> Iterator[str]:
    """Yield the ranges that a media type is in, the most specific first."""
    bare = media_type.partition(";")[0].strip()
    yield from (media_type, bare, f"{bare.partition('/')[0]}/*", "*/*")
