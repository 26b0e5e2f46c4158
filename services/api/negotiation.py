"""Content negotiation: which form of an answer a client wants (RFC 9110, section 12.5).

The parameter ``f`` goes before the header ``Accept``, as in all servers of OGC APIs: it works in a link and in a
browser's address bar. Of an ``Accept``, the most specific range that a form is in decides its quality; among forms of
the same quality, the server's order does. A header that is not understood is as good as none.
"""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Request

from services.api.accept import best
from services.api.problems import ProblemError
from services.api.queries import bad_query
from services.api.schemas import HTML, JSON

PARAMETER = "f"
FORMS = {"json": JSON, "html": HTML}
"""Values of the parameter ``f``."""


def choose(request: Request, offers: Sequence[str]) -> str:
    """Return the media type to answer with: one of ``offers``, the first of which is preferred.

    Raise a problem: 406 if the client accepts none of them, 400 if ``f`` has a value that is no form's name.
    """
    name = request.query_params.get(PARAMETER)
    if name is not None:
        if name not in FORMS:
            raise bad_query(PARAMETER, f"There is no form {name!r:.50}; there are: {', '.join(FORMS)}")
        if FORMS[name] not in offers:
            raise _not_acceptable(offers)
        return FORMS[name]
    quality, chosen = best(request.headers.get("accept", ""), offers)
    if quality == 0:
        raise _not_acceptable(offers)
    return chosen


def _not_acceptable(offers: Sequence[str]) -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_ACCEPTABLE,
        f"There is no form of this that you accept. There are: {', '.join(offers)}. Send: Accept: {offers[0]}",
    )
