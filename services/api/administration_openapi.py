"""The description of administration: an example for every body and answer, and the refusals that are its own."""

from typing import Any

from services.api import administration_schemas as shapes
from services.api import openapi
from services.api.bodies import Body
from services.api.openapi import problem
from services.api.schemas import PROBLEMS

_CHANGES = {"frozen": {"from": False, "to": True}}

EXAMPLES: dict[str, Any] = {
    "addCollection": openapi.OPERATOR_COLLECTION,
    "changeCollection": {
        "dry_run": False,
        "changes": _CHANGES,
        "collection": openapi.OPERATOR_COLLECTION | {"frozen": True},
    },
    "changeCollections": {"dry_run": True, "collections": [{"source_id": "river_works", "changes": _CHANGES}]},
    "removeCollection": {
        "source_id": "river_works",
        "dry_run": False,
        "jobs": 3,
        "files": 12,
        "bytes": 8_401_233,
        "published": True,
    },
    "listNotes": {
        "links": [openapi.link("self", "/jobs/7/notes"), openapi.link("job", "/jobs/7")],
        "items": [
            {
                "task": "process",
                "level": "WARNING",
                "type": "undated",
                "count": 3,
                "notes": [{"note": "A release has no date.", "count": 3}],
            }
        ],
    },
    "restartTask": openapi.OPERATOR_JOB,
}
"""The example of each operation's success."""

BODIES: dict[type[Body], dict[str, Any]] = {
    shapes.NewCollection: {
        "name": "river_works",
        "source": "https://rivers.example/open-contracting/releases.jsonl",
        "country": "Moldova",
        "frequency": "monthly",
    },
    shapes.CollectionChange: {"frozen": True, "translations": {"es": {"title": "Obras fluviales"}}},
    shapes.CollectionsChange: {"where": ["public", "not-licence"], "change": {"frozen": True}, "dry_run": True},
    shapes.TaskRestart: {"only": ["failed"]},
}
"""An example of each body."""

INVALID_COLLECTION = problem(
    422,
    "The body has a member that is not known, or a value that is not possible; the detail says what is.",
    "'HOURLY' is no frequency. Known: WEEKLY, BIWEEKLY, MONTHLY, HALF_YEARLY, ANNUALLY, NEVER.",
    "/collections/river_works",
    f"{PROBLEMS}invalid-body",
)
NAME_TAKEN = problem(
    409,
    "The name is taken.",
    "There is a collection 'river_works' already; it reads https://rivers.example/releases.jsonl. Choose another name.",
    "/collections",
    f"{PROBLEMS}state-conflict",
)
CHANGED_MEANWHILE = problem(
    412,
    "`If-Match` names another version than the present one, whose `ETag` the answer has. Nothing is changed.",
    "The collection has changed since you read it, or was read without a key. Read it again with your key, and send "
    "its ETag as If-Match.",
    "/collections/river_works",
)
NOT_REMOVABLE = problem(
    409,
    "A job of the collection is not completed.",
    "Job 8 of river_works is not completed. Wait for its end, or cancel it: bowerbird job cancel 8",
    "/collections/river_works",
    f"{PROBLEMS}state-conflict",
)
