"""The server that is judged, as a client sees it."""

import functools
import time
from typing import Any
from urllib.parse import urljoin

import requests

from tests.ogc import schemas

JSON = "application/json"
RELATIONS = "http://www.opengis.net/def/rel/ogc/1.0/"
EXCEPTIONS = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
SECONDS = 60
OVER = ("successful", "failed", "dismissed")


class Server:
    """A server under a root URL, one of its processes, and a key if that one needs it."""

    def __init__(self, root: str, process: str, key: str | None = None) -> None:
        self.root = root.rstrip("/")
        self.process = process
        self._session = requests.Session()
        self._session.trust_env = False
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def ask(self, method: str, place: str, **options: Any) -> requests.Response:
        """Send a request to a path below the root, or to a URL. JSON is accepted, unless ``headers`` say otherwise."""
        url = place if "://" in place else self.root + place
        headers = {"Accept": JSON} | self._headers | options.pop("headers", {})
        return self._session.request(
            method, url, headers=headers, timeout=SECONDS, allow_redirects=method != "HEAD", **options
        )

    def get(self, place: str, **options: Any) -> requests.Response:
        """Send a GET."""
        return self.ask("GET", place, **options)

    def read(self, place: str, schema: schemas.Schema | None = None, **options: Any) -> Any:
        """Return the JSON document at a place, held against its schema."""
        response = self.get(place, **options)
        assert response.status_code == 200, f"GET {place} is {said(response)}, and should be 200"
        require_json(response)
        if schema is not None:
            schemas.require(response.json(), schema, f"GET {place}")
        return response.json()

    @property
    def landing_page(self) -> dict[str, Any]:
        """The landing page."""
        return self.read("/")

    def process_ids(self) -> list[str]:
        """Return the ids of all processes."""
        return [each["id"] for page in self.pages("/processes") for each in page["processes"]]

    def pages(self, place: str) -> list[dict[str, Any]]:
        """Return all pages of a list, by its ``next`` links."""
        pages = [self.read(place)]
        while following := hrefs(pages[-1], "next"):
            assert len(pages) < 200, f"{place} goes on for ever"
            pages.append(self.read(following[0]))
        return pages

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """The process's description."""
        return dict(self.read(f"/processes/{self.process}"))

    def offers(self, option: str) -> bool:
        """Return whether the process can be executed so: ``sync-execute``, ``async-execute``, ``dismiss``."""
        return option in self.description.get("jobControlOptions", ["sync-execute"])

    def execute(
        self, inputs: dict[str, Any] | None = None, *, prefer: str = "", accept: str = JSON, **members: Any
    ) -> requests.Response:
        """Execute the process."""
        headers = {"Accept": accept} | ({"Prefer": prefer} if prefer else {})
        body = {"inputs": inputs or {}} | members
        return self.ask("POST", f"/processes/{self.process}/execution", json=body, headers=headers)

    def start(self, inputs: dict[str, Any], **members: Any) -> str:
        """Execute the process without waiting for it; return the job's address."""
        response = self.execute(inputs, prefer="respond-async", **members)
        assert response.status_code == 201, f"an asynchronous execution is {said(response)}, and should be 201"
        assert "Location" in response.headers, "the answer to an asynchronous execution has no Location"
        return response.headers["Location"]

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """Return a job's status document once it is in one of these states; by default, over."""
        deadline = time.monotonic() + SECONDS
        while (status := self.read(job, schemas.STATUS))["status"] not in (states or OVER):
            assert status["status"] not in OVER, f"{job} is {status['status']}: {status.get('message')}"
            assert time.monotonic() < deadline, f"{job} is {status['status']} after {SECONDS} s"
            time.sleep(0.1)
        return dict(status)

    def run(self, inputs: dict[str, Any], **members: Any) -> str:
        """Execute the process and wait for its success; return the job's address."""
        job = self.start(inputs, **members)
        status = self.wait(job)
        assert status["status"] == "successful", f"{job} is {status['status']}: {status.get('message')}"
        return job


def hrefs(document: dict[str, Any], *relations: str) -> list[str]:
    """Return where the links of some relations lead."""
    return [link["href"] for link in document.get("links", []) if link.get("rel") in relations]


def link_headers(response: requests.Response) -> dict[str, str]:
    """Return relation → address of an answer's Link headers."""
    parsed = requests.utils.parse_header_links(response.headers.get("Link", ""))
    return {link.get("rel", ""): urljoin(response.url, link["url"]) for link in parsed}


def media_type(response: requests.Response) -> str:
    """Return the media type of an answer, without parameters."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def said(response: requests.Response) -> str:
    """Return what an answer was, in short."""
    return f"{response.status_code} ({response.text[:200]!r})"


def require_json(response: requests.Response) -> None:
    """Assert that an answer is JSON, and said to be."""
    assert media_type(response) == JSON, f"{response.url} is {media_type(response) or 'of no type'}, not {JSON}"


def require_exception(response: requests.Response, *statuses: int, kind: str = "") -> None:
    """Assert that an answer is an exception document with one of these statuses, and of a kind."""
    request = f"{response.request.method} {response.request.path_url[:200]}"
    assert response.status_code in statuses, f"{request} is {said(response)}, and should be {statuses}"
    assert media_type(response) == JSON, f"{request}: the exception is {media_type(response)}, not {JSON}"
    document = response.json()
    schemas.require(document, schemas.EXCEPTION, f"the exception of {request}")
    assert document.get("status", response.status_code) == response.status_code, f"{request}: status differs in body"
    if kind:
        assert document["type"] == EXCEPTIONS + kind, f"{request}: its type is {document['type']}, not …/{kind}"
