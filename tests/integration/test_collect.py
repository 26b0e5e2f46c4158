"""The collect unit against PostgreSQL: what is in the source is in the table ``record``, all of it or nothing."""

import contextlib
import functools
import gzip
import json
import threading
import time
import zipfile
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select
from urllib3.connection import HTTPConnection

from services.collector.handlers import collect
from shared import sample
from shared.db.models import NoteLevel, Record
from shared.errors import BowerbirdError, PermanentError, TemporaryError
from tests.factories import make_collection, make_job, make_work

pack = functools.partial(gzip.compress, mtime=0)  # the same bytes every time: they are in names of tests

DATA = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="there are no published packages beside the repository")

RELEASE = '{"ocid": "ocds-1", "date": "2020-01-01T00:00:00Z", "tag": ["tender"], "amount": 1234567890.10}'
COMPILED = '{"ocid": "ocds-2", "date": "2021-01-01T00:00:00Z", "tag": ["compiled"]}'


class Collector:
    """Runs the unit on a source, and reads what it stored."""

    def __init__(self, session, settings):
        self.session, self.settings = session, settings
        self.works = 0

    def prepare(self, source, **options):
        self.works += 1
        collection = make_collection(self.session, f"c{self.works}", source=str(source), options=options)
        return make_work(self.session, self.settings, make_job(self.session, collection), "collect")

    def run(self, source, **options):
        work = self.prepare(source, **options)
        try:
            return work, collect(work)
        except BowerbirdError:
            self.session.rollback()
            raise

    def rows(self, work):
        columns = select(Record.kind, Record.key, Record.date, Record.data)
        query = columns.where(Record.job_id == work.job_id).order_by(Record.id)
        return [tuple(row) for row in self.session.execute(query)]

    def notes(self, work):
        return [(note.level, note.note) for note in work.notes]


@pytest.fixture
def collector(sessions, settings):
    with sessions() as session:
        yield Collector(session, settings)


@pytest.fixture
def place(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(name, data):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def test_a_package_is_stored_word_for_word_with_what_it_says_of_itself(collector, place):
    odd = r'{"tag":["award"], "ocid": "ocds-2\u00e9\\", "n": -0.0, "t": "\ttab\\N \u0000 €😀", "date": null}'
    path = place(
        "package.json",
        f'{{"publisher": {{"name": "P"}}, "license": "L", "releases": [{RELEASE}, {odd}, {COMPILED}],'
        ' "publicationPolicy": "https://p", "extensions": ["https://e/1", 2, "https://e/1"]}\n',
    )
    work, output = collector.run(path)
    assert output == {
        "records": 3,
        "kinds": {"release": 2, "compiled": 1, "json": 0},
        "files": 1,
        "bytes": path.stat().st_size,
        "license": "L",
        "publication_policy": "https://p",
        "publisher": "P",
        "extensions": ["https://e/1"],
    }
    assert collector.rows(work) == [
        ("release", "ocds-1", "2020-01-01T00:00:00Z", RELEASE),
        ("release", "ocds-2é\\", None, odd),
        ("compiled", "ocds-2", "2021-01-01T00:00:00Z", COMPILED),
    ]
    assert collector.notes(work) == []
    assert work.reports == [("progress", {"done": 3, "of": "records", "total": 3})]


def test_what_the_handler_returns_can_be_stored_as_json(collector, place):
    _, output = collector.run(place("a.jsonl", RELEASE))
    assert json.loads(json.dumps(output)) == output


def test_plain_records_are_stored_with_id_and_date(collector, place):
    path = place("a.jsonl", '{"item": {"id": "a\\tb"}, "when": 2020}\n{"item": {"id": 7}}\n{"x": "\\\\"}\n')
    work, output = collector.run(path, id_field="item.id", date_field="when")
    assert collector.rows(work) == [
        ("json", "a\tb", "2020", '{"item": {"id": "a\\tb"}, "when": 2020}'),
        ("json", "7", None, '{"item": {"id": 7}}'),
        ("json", None, None, '{"x": "\\\\"}'),
    ]
    assert output["kinds"] == {"release": 0, "compiled": 0, "json": 3}
    assert collector.notes(work) == [
        (NoteLevel.WARNING, "1 records have no text or number at the collection's id_field.")
    ]


def test_a_directory_is_stored_in_order_of_names_and_the_rest_is_noted(collector, place):
    lines = [f'{{"ocid": "ocds-{number}"}}' for number in range(6)]
    place("d/b.json", f"[{lines[2]}]")
    place("d/a.jsonl.gz", pack("\n".join(lines[:2]).encode()))
    place("d/c/x.json", f'{{"releases": [{lines[3]}, {{"url": "https://example.org"}}]}}')
    place("d/readme.txt", "x")
    with zipfile.ZipFile(place("d/d.zip", b""), "w") as archive:
        archive.writestr("y.json", lines[5])
        archive.writestr("x.json", lines[4])
    work, output = collector.run(place("d/.hidden.json", "x").parent)
    assert [data for *_, data in collector.rows(work)] == lines
    assert (output["records"], output["files"]) == (6, 5)
    (_, linked), (level, aside) = collector.notes(work)
    assert linked.startswith("1 linked releases")
    assert level == NoteLevel.INFO
    assert aside.startswith("1 files are no JSON by their names, and were left aside: ")
    assert aside.endswith("/d/readme.txt.")


def test_repeating_the_unit_replaces_the_jobs_records_and_no_others(collector, place):
    path = place("a.jsonl", RELEASE)
    other, _ = collector.run(path)
    work, _ = collector.run(path)
    path.write_text(f"{RELEASE}\n{COMPILED}")
    assert collect(work)["records"] == 2
    assert len(collector.rows(work)) == 2
    assert len(collector.rows(other)) == 1


def test_blocks_of_many_records_arrive_whole_and_in_order(collector, place):
    lines = [f'{{"ocid":"ocds-{number}","text":"{"é" * (number % 300)}"}}' for number in range(20_000)]
    work, output = collector.run(place("a.jsonl", "\n".join(lines)))
    assert output["records"] == len(lines)
    assert [data for *_, data in collector.rows(work)] == lines
    assert work.reports[-1] == ("progress", {"done": 20_000, "of": "records", "total": 20_000})


def test_one_wrong_file_of_many_fails_all(collector, place, sessions):
    place("d/a.json", RELEASE)
    place("d/b.json", f'{{"releases": [{RELEASE}, {{"ocid": "ocds-2", }}]}}')
    work = collector.prepare(place("d/c.json", RELEASE).parent)
    with pytest.raises(
        PermanentError, match=r"/d/b\.json, record 1 \(line 1, column \d+, byte offset \d+\): malformed"
    ):
        collect(work)
    collector.session.rollback()
    with sessions() as session:
        assert session.scalars(select(Record)).all() == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("[]", r"a\.json is empty: it has no record to publish\. Correct the source\."),
        ('{"releases": [{"url": "x"}, {"url": "y"}]}', r"is empty: .* 2 linked releases .* were skipped"),
        ("", "nothing but white space"),
        ("<html>", r"a\.json, record 1 .* looks like an HTML page"),
        (pack(RELEASE.encode())[:-4], "is cut short"),
        (b'{"ocid": "1", "x": "\xff"}', "not UTF-8"),
    ],
)
def test_a_source_without_records_fails_with_the_reason(collector, place, data, what):
    with pytest.raises(PermanentError, match=what):
        collector.run(place("a.json", data))


def test_a_record_longer_than_the_setting_fails(collector, place):
    collector.settings = collector.settings.model_copy(update={"max_record_bytes": 1000})
    path = place("a.jsonl", f'{RELEASE}\n{{"ocid": "ocds-2", "x": "{"x" * 1000}"}}\n')
    with pytest.raises(PermanentError, match=r"a\.jsonl, record 2 \(line 2, .*longer than BOWERBIRD_MAX_RECORD_BYTES"):
        collector.run(path)


def test_the_sample_publication_is_stored_whole(collector):
    work, output = collector.run(sample.PACKAGES)
    facts = sample.facts()
    assert output["kinds"] == {"release": facts.releases, "compiled": 0, "json": 0}
    rows = collector.rows(work)
    assert [json.loads(data) for *_, data in rows] == list(sample.releases())
    assert len({key for _, key, _, _ in rows}) == facts.ocids


@real_data
def test_published_packages_are_stored_whole(collector):
    work, output = collector.run(DATA)
    expected = []
    for path in sorted(DATA.glob("*.json")):
        package = json.loads(path.read_bytes())
        expected += package.get("releases") or [r for record in package["records"] for r in record["releases"]]
    rows = collector.rows(work)
    assert [json.loads(data) for *_, data in rows] == expected
    assert [(key, date) for _, key, date, _ in rows] == [(release["ocid"], release["date"]) for release in expected]
    assert output["license"]
    assert output["publisher"]


# The web


class Site:
    """A web server on the loopback interface; ``answers`` is called with each request's handler."""

    def __init__(self):
        self.requests = []
        self.sends()
        self.stopping = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.requests.append((self.path, dict(self.headers)))
                with contextlib.suppress(ConnectionError):
                    site.answer(self)
                self.close_connection = True

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/data.json"

    def sends(self, body=b"", status=200, **headers):
        body = body if isinstance(body, bytes) else body.encode()
        headers = {"Content_Length": str(len(body)), "Connection": "close"} | headers

        def answer(request):
            request.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(body)

        self.answer = answer

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.stop()


@pytest.mark.parametrize("body", [RELEASE.encode(), pack(RELEASE.encode())], ids=["plain", "gzip file"])
def test_a_url_is_downloaded_then_read_like_a_file(collector, site, body):
    site.sends(body)
    collector.settings = collector.settings.model_copy(update={"public_url": "https://data.example.org"})
    work, output = collector.run(f"{site.url}?page=1")
    assert [data for *_, data in collector.rows(work)] == [RELEASE]
    assert (output["files"], output["bytes"]) == (1, len(RELEASE))
    ((path, headers),) = site.requests
    assert path == "/data.json?page=1"
    assert headers["User-Agent"].startswith("bowerbird/")
    assert headers["User-Agent"].endswith("(+https://data.example.org)")
    assert ("progress", {"done": len(body), "total": len(body), "of": "bytes"}) in work.reports
    work.remove_directories()
    assert list(collector.settings.scratch.iterdir()) == []


def test_an_archive_at_a_url_is_read_by_its_members(collector, site, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", RELEASE)
    site.sends((tmp_path / "a.zip").read_bytes())
    _, output = collector.run(site.url.replace("data.json", "download"))
    assert output["records"] == 1


def test_a_body_compressed_for_transfer_is_read(collector, site):
    site.sends(pack(RELEASE.encode()), Content_Encoding="gzip")
    assert collector.run(site.url)[1]["bytes"] == len(RELEASE)


def test_a_body_of_unknown_length_is_read(collector, site):
    site.sends(RELEASE, Content_Length=None)
    assert collector.run(site.url)[1]["records"] == 1


def test_redirects_are_followed_five_times(collector, site):
    def redirect(request):
        step = int(request.path.rpartition("/")[2])
        if step < 5:
            site.sends(status=302, Location=f"/{step + 1}")
        else:
            site.sends(RELEASE)
        answer, site.answer = site.answer, redirect  # before the next request comes
        answer(request)

    site.answer = redirect
    assert collector.run(f"http://{site.host}/0")[1]["records"] == 1


def test_a_loop_of_redirects_fails_for_good(collector, site):
    site.sends(status=302, Location="/again")
    with pytest.raises(PermanentError, match="redirects more than 5 times"):
        collector.run(site.url)
    assert len(site.requests) == 6


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://example.org/x"])
def test_a_redirect_to_elsewhere_than_the_web_fails_for_good(collector, site, place):
    site.sends(status=302, Location=place)
    with pytest.raises(PermanentError, match=r"no http\(s\) URL, or redirects to none"):
        collector.run(site.url)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 304])
def test_a_refusal_fails_for_good_and_names_url_and_status(collector, site, status):
    site.sends(status=status, Content_Length="0")
    with pytest.raises(PermanentError, match=rf"http://{site.host}/data\.json answered {status} "):
        collector.run(site.url)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_tried_again_later(collector, site, status):
    site.sends("<html>busy</html>", status=status)
    with pytest.raises(TemporaryError, match=f"answered {status}") as caught:
        collector.run(site.url)
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (lambda: "120", 120, 120),
        (lambda: formatdate(time.time() + 3600, usegmt=True), 3000, 3600),
        (lambda: formatdate(time.time() - 3600, usegmt=True), 0, 0),
        (lambda: formatdate(time.time() + 3600), 3000, 3600),
    ],
    ids=["seconds", "date", "past", "without-zone"],
)
def test_a_server_says_when_to_come_back(collector, site, value, low, high):
    site.sends(status=429, Retry_After=value())
    with pytest.raises(TemporaryError) as caught:
        collector.run(site.url)
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-5", ""])
def test_a_server_that_says_it_oddly_is_tried_as_usual(collector, site, value):
    site.sends(status=503, Retry_After=value)
    with pytest.raises(TemporaryError) as caught:
        collector.run(site.url)
    assert caught.value.retry_after is None


def test_a_short_body_is_noticed_even_if_the_http_library_does_not_count(collector, site, monkeypatch):
    request = HTTPConnection.request
    monkeypatch.setattr(
        HTTPConnection,
        "request",
        lambda *args, **options: request(*args, **options | {"enforce_content_length": False}),
    )
    site.sends(RELEASE, Content_Length=str(len(RELEASE) + 10))
    with pytest.raises(TemporaryError, match=rf"sent {len(RELEASE)} of {len(RELEASE) + 10} bytes"):
        collector.run(site.url)


@pytest.mark.parametrize("body", [RELEASE.encode(), pack(RELEASE.encode())])
def test_a_body_that_is_cut_short_is_tried_again(collector, site, body):
    site.sends(body, Content_Length=str(len(body) + 10))
    with pytest.raises(TemporaryError, match=r"data\.json could not be downloaded"):
        collector.run(site.url)


def test_chunks_that_break_off_are_tried_again(collector, site):
    def answer(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"100\r\n{")

    site.answer = answer
    with pytest.raises(TemporaryError, match="could not be downloaded"):
        collector.run(site.url)


@pytest.mark.parametrize("begin", [True, False], ids=["in the body", "before the answer"])
def test_a_server_that_falls_silent_is_tried_again(collector, site, begin):
    def answer(request):
        if begin:
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"{")
        site.stopping.wait(60)

    site.answer = answer
    collector.settings = collector.settings.model_copy(update={"http_timeout_seconds": 0.2})
    with pytest.raises(TemporaryError, match=r"did not answer within 0\.2 s|Read timed out"):
        collector.run(site.url)


def test_nobody_listening_is_tried_again(collector, site):
    site.stop()
    with pytest.raises(TemporaryError, match=r"could not be downloaded: .*refused"):
        collector.run(site.url)


@pytest.mark.parametrize("announced", [True, False])
def test_a_download_that_is_too_long_fails_for_good(collector, site, announced):
    site.sends(b" " * 1001, **({} if announced else {"Content_Length": None}))
    collector.settings = collector.settings.model_copy(update={"max_download_bytes": 1000})
    with pytest.raises(PermanentError, match=r"longer than 1,000 bytes.*BOWERBIRD_MAX_DOWNLOAD_BYTES"):
        collector.run(site.url)


def test_a_page_in_place_of_data_fails_with_the_url(collector, site):
    site.sends("<!doctype html><title>Log in</title>")
    with pytest.raises(PermanentError, match=rf"^http://{site.host}/data\.json, record 1 .*HTML page"):
        collector.run(site.url)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_secrets_in_a_url_are_used_and_never_shown(collector, site, status):
    site.sends("<html>", status=status)
    url = f"http://user:sesame@{site.host}/data.json?key=sesame"
    with pytest.raises((PermanentError, TemporaryError)) as caught:
        collector.run(url)
    assert "sesame" not in str(caught.value)
    ((path, headers),) = site.requests
    assert "sesame" in path
    assert headers["Authorization"].startswith("Basic ")
    site.stop()
    with pytest.raises(TemporaryError) as caught:
        collector.run(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["http://", "https:///x", "http://[::1", "http://exa mple.org/"])
def test_a_url_that_is_none_fails_for_good(collector, url):
    with pytest.raises(PermanentError, match=r"no http\(s\) URL"):
        collector.run(url)
