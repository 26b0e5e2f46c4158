"""A server that answers as Kingfisher Process does, with a database of the same tables.

What is stood in for is its work: releases come over HTTP instead of RabbitMQ (``POST /files/{id}``), and each is a
compiled release as it is. How it answers was seen on a real one (2026): statuses, shapes, final slashes.
"""

import json
import re
from datetime import UTC, datetime
from hashlib import md5

import psycopg2

from tests.peers.web import Web

SCHEMA = """
    CREATE TABLE IF NOT EXISTS data (
        id serial PRIMARY KEY, hash_md5 text NOT NULL, data jsonb NOT NULL
    );
    CREATE UNIQUE INDEX IF NOT EXISTS unique_data_hash_md5 ON data (hash_md5) WHERE hash_md5 <> '';
    CREATE TABLE IF NOT EXISTS compiled_release (
        id serial PRIMARY KEY, collection_id integer NOT NULL, collection_file_id integer NOT NULL DEFAULT 1,
        ocid text NOT NULL, release_date text NOT NULL, data_id integer NOT NULL REFERENCES data
    );
    CREATE INDEX IF NOT EXISTS compiled_release_collection_id_idx ON compiled_release (collection_id);
"""
LEVELS = ("INFO", "ERROR", "WARNING")


class KingfisherProcess(Web):
    def __init__(self, database_url):
        self.connection = psycopg2.connect(database_url)
        self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute(SCHEMA)
        self.collections = {}  # id → row
        self.releases = {}  # root id → JSON texts
        self.notes = {}  # root id → level → [note, data]
        self.metadata = {}  # compiled id → what overrides the usual
        self.deleted = []
        self.looks = 0
        self.looks_until_compiled = 2
        self.broken = 0  # how many requests are answered with 500
        super().__init__()

    def close(self):
        super().close()
        self.connection.close()

    # What it is asked

    def answer(self, method, path, query, body):
        if self.broken:
            self.broken -= 1
            return 500, b"<h1>Server Error (500)</h1>"
        if match := re.fullmatch(r"/files/(\d+)", path):
            self.releases[int(match[1])].append(body.decode())
            return 200, None
        if path == "/api/collections/" and method == "POST":
            return self.create(json.loads(body))
        match = re.fullmatch(r"/api/collections/(\d+)/(?:(tree|metadata|notes|close)/)?", path)
        if match is None:
            return (301, None) if not path.endswith("/") else (404, b"<h1>Not Found</h1>")
        row = self.collections.get(int(match[1]))
        if method == "DELETE":
            self.delete(int(match[1]))
            return 202, None
        if row is None:
            return 404, {"detail": "No Collection matches the given query."}
        return getattr(self, f"_{match[2]}")(row, query)

    def create(self, wanted):
        if not re.fullmatch(r"([a-z]+_)*[a-z]+", wanted["source_id"]):
            return 400, {"source_id": ["This value does not match the required pattern."]}
        same = [
            row
            for row in self.collections.values()
            if (row["source_id"], row["data_version"]) == (wanted["source_id"], wanted["data_version"])
        ]
        if same:
            return 500, b"<h1>Server Error (500)</h1>"
        root = self.row("", None, wanted)
        compiled = self.row("compile-releases", root["id"], wanted)
        self.releases[root["id"]] = []
        self.notes[root["id"]] = {level: [] for level in LEVELS}
        return 200, {"collection_id": root["id"], "compiled_collection_id": compiled["id"]}

    def row(self, transform_type, parent, wanted):
        row = {
            "id": len(self.collections) + 1,
            "source_id": wanted["source_id"],
            "data_version": wanted["data_version"].replace(" ", "T"),
            "sample": False,
            "steps": ["compile"] if parent is None else [],
            "options": {},
            "expected_files_count": None,
            "compilation_started": False,
            "transform_from_collection_id": parent,
            "transform_type": transform_type,
            "scrapyd_job": wanted.get("job", ""),
            "store_start_at": datetime.now(UTC).isoformat(),
            "store_end_at": None,
            "deleted_at": None,
            "completed_at": None,
        }
        self.collections[row["id"]] = row
        return row

    def child(self, root):
        return next(row for row in self.collections.values() if row["transform_from_collection_id"] == root["id"])

    def _close(self, root, _query):
        root["store_end_at"] = datetime.now(UTC).isoformat()
        root["expected_files_count"] = len(self.releases[root["id"]])
        for text in self.releases[root["id"]]:
            self.store(self.child(root)["id"], text)
        return 202, None

    def store(self, compiled_id, text):
        """Insert a compiled release; equal texts share a row of ``data``."""
        digest = md5(text.encode()).hexdigest()
        release = json.loads(text)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT id FROM data WHERE hash_md5 = %s", (digest,))
            found = cursor.fetchone()
            if found is None:
                cursor.execute("INSERT INTO data (hash_md5, data) VALUES (%s, %s) RETURNING id", (digest, text))
                found = cursor.fetchone()
            cursor.execute(
                "INSERT INTO compiled_release (collection_id, ocid, release_date, data_id) VALUES (%s, %s, %s, %s)",
                (compiled_id, str(release.get("ocid", "")), str(release.get("date", "")), found[0]),
            )

    def _tree(self, row, _query):
        if row["transform_type"]:
            return 404, {"detail": "No Collection matches the given query."}
        child = self.child(row)
        if row["store_end_at"]:
            self.looks += 1
            now, empty = datetime.now(UTC).isoformat(), not row["expected_files_count"]
            if empty or self.looks >= self.looks_until_compiled - 1:
                row["completed_at"] = row["completed_at"] or now
            if empty or self.looks >= self.looks_until_compiled:
                child["completed_at"] = child["completed_at"] or now
        return 200, [row, child]

    def _metadata(self, row, _query):
        if not row["transform_type"]:
            return 400, "The collection must be a compiled collection"
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT left(max(ocid), 11), min(release_date), max(release_date) FROM compiled_release "
                "WHERE collection_id = %s AND release_date > '1970-01-01'",
                (row["id"],),
            )
            prefix, first, last = cursor.fetchone()
        found = {"ocid_prefix": prefix, "published_from": first, "published_to": last}
        if prefix is not None:
            found |= {"license": "https://example.com/license", "publication_policy": None}
        return 200, found | self.metadata.get(row["id"], {})

    def _notes(self, row, query):
        if row["transform_type"]:
            return 400, "The collection must be a root collection"
        wanted = [level for level in LEVELS if level in query.get("level", LEVELS)]
        return 200, {level: self.notes[row["id"]][level] for level in wanted}

    def delete(self, collection):
        self.deleted.append(collection)
        self.collections.pop(collection, None)
