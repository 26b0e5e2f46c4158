"""A publisher's website: pages of release packages, each with a link to the next. It can keep a crawler waiting."""

import threading

from tests.peers.web import Web


class Site(Web):
    def __init__(self, releases, pages=3):
        self.pages = [releases[number::pages] for number in range(pages)]
        self.missing = set()  # pages answered with 404
        self.gate = threading.Event()  # closed: /slow does not answer
        self.gate.set()
        super().__init__()

    def answer(self, _method, path, _query, _body):
        if path == "/slow":
            self.gate.wait(60)
            return 200, {}
        if path == "/robots.txt":
            return 404, None
        number = int(path.rpartition("/")[2])
        if number in self.missing or number >= len(self.pages):
            return 404, {"error": "no such page"}
        links = {"next": f"{self.url}/page/{number + 1}"} if number + 1 < len(self.pages) else {}
        return 200, {"releases": self.pages[number], "links": links}

    def close(self):
        self.gate.set()
        super().close()
