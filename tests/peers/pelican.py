"""A server that answers as Pelican's frontend did until 2024. A dataset appears some time after it was asked for."""

import json
import re

from tests.peers.web import Web

COUNTS = {
    "parties": 6,
    "plannings": 1,
    "tenders": 3,
    "tenderers": 2,
    "tenders_items": 4,
    "awards": 5,
    "awards_items": None,
    "awards_suppliers": 5,
    "contracts": 2,
    "contracts_items": 0,
    "contracts_transactions": 7,
    "documents": 9,
    "milestones": 8,
    "amendments": 10,
}


class Pelican(Web):
    def __init__(self):
        self.asked = []  # what was posted
        self.datasets = {}  # id → name
        self.stages = [
            {},
            {"phase": "CONTRACTING_PROCESS", "state": "IN_PROGRESS"},
            {"phase": "CHECKED", "state": "OK"},
        ]
        self.deleted = []
        super().__init__()

    def begin(self):
        """Make the datasets that were asked for."""
        for number, wanted in enumerate(self.asked, 1):
            if number not in self.deleted:
                self.datasets[number] = wanted["name"]

    def answer(self, method, path, query, body):
        if path == "/api/datasets/" and method == "POST":
            self.asked.append(json.loads(body))
            return 200, {"status": "ok", "data": self.asked[-1]}
        if path == "/api/datasets/find_by_name/":
            found = next((number for number, name in self.datasets.items() if name == query["name"][0]), None)
            return 200, {} if found is None else {"id": found}
        match = re.fullmatch(r"/api/datasets/(\d+)/(?:(status|coverage)/)?", path)
        number = int(match[1]) if match else 0
        if number not in self.datasets:
            return 404, {"detail": "Not found."}
        if method == "DELETE":
            del self.datasets[number]
            self.deleted.append(number)
            return 200, None
        if match[2] == "status":
            return 200, self.stages.pop(0) if len(self.stages) > 1 else self.stages[0]
        return 200, COUNTS
