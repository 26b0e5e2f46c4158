"""What somebody outside named is fetched from the internet only: real sockets, and a resolver that can lie."""

import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from services.collector.handlers import collect
from shared import failures, outbound
from shared.errors import PermanentError, TemporaryError
from shared.outbound import ForbiddenAddressError, Rules, check_url
from shared.settings import Settings
from tests.factories import make_collection, make_job, make_work

PUBLIC = "93.184.215.14"
BODY = b'{"ocid": "ocds-1"}'


class Site:
    """A web server on the loopback interface: ``/`` answers, ``/to/URL`` redirects there."""

    def __init__(self, host="127.0.0.1", tls=None):
        self.asked = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.asked.append((self.headers["Host"], self.path))
                target = self.path.partition("/to/")[2]
                self.send_response(302 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.end_headers()
                self.wfile.write(b"" if target else BODY)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.stop()


class Names:
    """A resolver with addresses of its own for some names: each question gets the next answer, the last for ever."""

    def __init__(self):
        self.answers = {}
        self.questions = []
        self.real = socket.getaddrinfo

    def __call__(self, host, port, *args, **options):
        if host not in self.answers:
            return self.real(host, port, *args, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        self.questions.append(host)
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [place for address in addresses for place in self.real(address, port, type=socket.SOCK_STREAM)]


@pytest.fixture
def names(monkeypatch):
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


def settings(*allowed, **others):
    return Settings(allowed_networks=allowed, http_timeout_seconds=5, **others)


def get(url, *allowed, **others):
    with outbound.session(settings(*allowed, **others)) as session:
        return session.get(url)


INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::",
    "::1",
    "::2",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001::7f00:1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
    "100::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_on_the_internet_is_refused(address):
    with pytest.raises(ForbiddenAddressError, match=r"BOWERBIRD_ALLOWED_NETWORKS=") as caught:
        Rules().check("data.example", address)
    assert f"data.example ({address})" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "100.63.255.255", "172.32.0.1", "223.255.255.255", "2606:2800::1", f"::ffff:{PUBLIC}", "64:ff9b::808:808"],
)
def test_what_is_on_the_internet_is_allowed(address):
    Rules().check("data.example", address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "2130706433",
        "0",
        "localhost",
        "LocalHost.",
        "a.localhost",
        "[::1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "169.254.169.254",
        "127。0。0。1",
        "①②⑦.0.0.1",
    ],
)
def test_loopback_is_refused_however_it_is_written(host, site):
    url = f"http://{host}:{site.port}/"
    with pytest.raises((ForbiddenAddressError, requests.exceptions.InvalidURL)):
        get(url)
    assert site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost/",
        "http://x.localhost./",
        "http://user@127.1/",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
def test_a_url_that_plainly_leads_inside_is_refused_when_it_is_given(url):
    with pytest.raises(ForbiddenAddressError, match="BOWERBIRD_ALLOWED_NETWORKS"):
        check_url(url, settings())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://data.example/",
        "file:///etc/passwd",
        "gopher://data.example/",
        "//data.example/",
        "data.example",
        "http://",
        "http:///x",
        "http://[::1",
        "http://data.example:0/",
        "http://data.example:65536/",
        "http://data.example:-1/",
        "http://data.example:6379/",
        "http://data.example:25/",
        "http://data.example\\@127.0.0.1/",
        "http://data.example@x@127.0.0.1/",
        "http://data.example/a b",
        "http://data.example/\r\nX: y",
        "http://data.example/\x00",
        "http://exa\tmple/",
        "",
    ],
)
def test_what_is_no_plain_web_address_is_refused_when_it_is_given(url):
    with pytest.raises(ForbiddenAddressError):
        check_url(url, settings())


@pytest.mark.parametrize(
    "url",
    [
        "https://data.example/releases.json?page=1#top",
        "HTTP://DATA.EXAMPLE:8080",
        "https://user:secret@data.example/",
        "https://bücher.example/",
        f"http://{PUBLIC}/",
        "http://[2606:2800::1]:443/",
    ],
)
def test_other_addresses_are_taken_without_asking_the_dns(url, names):
    names.answers = {"data.example": [["127.0.0.1"]], "DATA.EXAMPLE": [["127.0.0.1"]]}
    check_url(url, settings())
    assert names.questions == []


def test_nothing_secret_of_a_url_is_in_what_is_said_of_it():
    for url in ("ftp://u:sesame@data.example/?k=sesame", "http://u:sesame@127.0.0.1/?k=sesame"):
        with pytest.raises(ForbiddenAddressError) as caught:
            check_url(url, settings())
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "127.0.0.1", "site.example", "0.0.0.0/0"])
def test_what_the_setting_names_is_allowed(allowed, site, names):
    names.answers["site.example"] = [["127.0.0.1"]]
    assert get(f"http://site.example:{site.port}/", allowed).content == BODY
    assert site.asked == [(f"site.example:{site.port}", "/")]


@pytest.mark.parametrize("allowed", ["127.0.0.2", "example", "other.site.example", "::1"])
def test_what_the_setting_does_not_name_is_not(allowed, site, names):
    names.answers["site.example"] = [["127.0.0.1"]]
    with pytest.raises(ForbiddenAddressError, match=r"site\.example \(127\.0\.0\.1\): it is a loopback address"):
        get(f"http://site.example:{site.port}/", allowed)
    assert site.asked == []


def test_an_allowed_network_is_allowed_as_ipv6_writes_it_too():
    rules = Rules.of(settings("127.0.0.0/8"))
    rules.check("x", "::ffff:127.0.0.1")
    rules.check("x", "64:ff9b::7f00:1")


def test_one_address_of_several_that_is_inside_is_enough_to_refuse(site, names):
    names.answers["site.example"] = [[PUBLIC, "127.0.0.1"]]
    with pytest.raises(ForbiddenAddressError):
        get(f"http://site.example:{site.port}/")
    assert site.asked == []


def test_the_connection_goes_to_the_address_that_was_checked(site, names):
    names.answers["site.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    assert get(f"http://site.example:{site.port}/", "127.0.0.1").content == BODY
    assert names.questions == ["site.example"]


def test_a_name_that_changes_between_two_requests_is_refused_the_second_time(site, names):
    names.answers["site.example"] = [["127.0.0.2"], ["127.0.0.1"]]
    other = Site("127.0.0.2")
    try:
        url = f"http://site.example:{other.port}/"
        with outbound.session(settings("127.0.0.2")) as session:
            assert session.get(url).content == BODY
            with pytest.raises(ForbiddenAddressError):
                session.get(url)
    finally:
        other.stop()


def test_the_next_address_is_tried_when_one_does_not_answer(site, names):
    names.answers["site.example"] = [["127.0.0.2", "127.0.0.1"]]
    assert get(f"http://site.example:{site.port}/", "127.0.0.0/8").content == BODY


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/", "//127.1:{port}/", "http://inside.example:{port}/"])
def test_a_redirect_inside_is_refused(target, site, names):
    names.answers["inside.example"] = [["127.0.0.1"]]
    names.answers["site.example"] = [["127.0.0.1"]]
    with pytest.raises(ForbiddenAddressError):
        get(f"http://site.example:{site.port}/to/{target.format(port=site.port)}", "site.example")
    assert len(site.asked) == 1


def test_a_redirect_to_what_is_allowed_is_followed(site):
    assert get(f"http://127.0.0.1:{site.port}/to/http://127.0.0.1:{site.port}/", "127.0.0.0/8").content == BODY


def test_a_name_without_an_address_is_tried_again_and_a_forbidden_one_is_not(names):
    with pytest.raises(requests.ConnectionError) as unknown:
        get("http://nowhere.invalid/")
    assert failures.is_temporary(unknown.value)
    with pytest.raises(ForbiddenAddressError) as forbidden:
        get("http://127.0.0.1/")
    assert not failures.is_temporary(forbidden.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_certificates_are_checked_by_name(names, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate),
            *("-subj", "/CN=site.example", "-addext", "subjectAltName=DNS:site.example"),
        ],
        check=True,
        capture_output=True,
    )
    asked_for = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    names.answers = {"site.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    site = Site(tls=tls)
    try:
        assert get(f"https://site.example:{site.port}/", "127.0.0.0/8").content == BODY
        with pytest.raises(requests.exceptions.SSLError):
            get(f"https://other.example:{site.port}/", "127.0.0.0/8")
    finally:
        site.stop()
    assert asked_for[0] == "site.example"


def test_proxies_and_passwords_of_the_environment_are_not_used(site, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password sesame\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    answer = get(f"http://127.0.0.1:{site.port}/", "127.0.0.1")
    assert answer.content == BODY
    assert "Authorization" not in answer.request.headers


def test_the_operators_proxy_is_asked_for_names_and_never_for_addresses_inside(site):
    proxy = f"http://127.0.0.1:{site.port}"
    assert get("http://data.example/x", outbound_proxy=proxy).content == BODY
    assert site.asked == [("data.example", "http://data.example/x")]
    for url in ("http://169.254.169.254/", "http://localhost/", "http://0x7f.1/"):
        with pytest.raises(ForbiddenAddressError):
            get(url, outbound_proxy=proxy)
    assert len(site.asked) == 1


def test_the_collector_reads_nothing_inside(site, names, sessions, settings):
    names.answers["site.example"] = [["127.0.0.1"]]
    inside = settings.model_copy(update={"allowed_networks": ()})
    with sessions() as session:
        for number, host in enumerate(["127.0.0.1", "site.example", "localhost"]):
            collection = make_collection(session, f"c{number}", source=f"http://u:sesame@{host}:{site.port}/?k=sesame")
            work = make_work(session, inside, make_job(session, collection), "collect")
            with pytest.raises(PermanentError, match="BOWERBIRD_ALLOWED_NETWORKS") as caught:
                collect(work)
            assert host in str(caught.value)
            assert "sesame" not in str(caught.value)
    assert site.asked == []
    assert not isinstance(caught.value, TemporaryError)
