"""Collect by Scrapyd: a spider of Kingfisher Collect crawls the source, into Kingfisher Process."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.scheduler.managers import UnitTaskManager
from shared import errands
from shared.catalogue import settings_of
from shared.db.models import Collection, Unit
from shared.errors import PermanentError

SPIDER = re.compile(r"[A-Za-z0-9_-]{1,100}")
SETTING = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
KEPT = (
    "spider",
    "job_id",
    "scrapy_log",
    "process_id",
    "data_version",
    "finish_reason",
    "items",
    "errors",
    "dropped_items",
    "invalid_items",
    "error_rate",
)


def scrapy_settings(session: Session, collection: Collection) -> dict[str, str]:
    """Return the Scrapy settings that a collection adds to those of the project: its bundle's, then its own."""
    own = collection.options.get("scrapy_settings", {}).items()
    return dict(settings_of(session, collection)) | {name: str(value) for name, value in own}


def spider_of(collection: Collection) -> str:
    """Return the spider that crawls a collection: named by its options, else called like the collection."""
    return str(collection.options.get("spider") or collection.source_id)


class Scrapyd(UnitTaskManager):
    """One unit, called again and again until the crawl is over. What it leaves elsewhere is wiped by errands."""

    final_output = False

    def plan(self) -> Sequence[dict[str, Any]]:
        """Make the job id that Scrapyd is given, new for each restart, and by no other suite that uses this Scrapyd."""
        spider, settings = spider_of(self.collection), scrapy_settings(self.session, self.collection)
        if SPIDER.fullmatch(spider) is None:
            raise PermanentError(
                f"{spider!r} cannot be the name of a spider. Correct the collection's option `spider`."
            )
        for name in settings:
            if SETTING.fullmatch(name) is None:
                raise PermanentError(f"{name!r} cannot be a setting of Scrapy. Correct the collection's settings.")
        job = f"bowerbird-{self.job.id}-{secrets.token_hex(4)}"
        return [{"spider": spider, "job": job, "settings": [list(pair) for pair in sorted(settings.items())]}]

    def run(self) -> None:
        """Plan the unit; after a restart, what the earlier crawl left is deleted."""
        self.wipe()
        collections = sorted({each["process_id"] for each in crawls_of(self._rows()) if each.get("process_id")})
        if collections:
            self._plan_errand("process", "kingfisher-process", {"collections": collections})
        super().run()

    def finish(self, outputs: Sequence[dict[str, Any]]) -> None:
        """Keep where it is, and how it went."""
        (output,) = outputs
        self._remember({name: output[name] for name in KEPT})

    def failure(self, outputs: Sequence[dict[str, Any]]) -> str:
        """Return what was wrong with the crawl."""
        return str(outputs[0]["failure"])

    def wipe(self) -> bool:
        """Have the crawls stopped and their files deleted, once."""
        for unit in self._rows():
            if unit.start is not None and not unit.state.get("wiped"):
                state = {"crawls": crawls_of([unit])}
                self._plan_errand(self.task.type, self.task.backend, {"params": unit.params, "state": state})
                unit.state = {**unit.state, "wiped": True}
        return True

    def _rows(self) -> Sequence[Unit]:
        return self.session.scalars(select(Unit).where(Unit.task_id == self.task.id).order_by(Unit.id)).all()

    def _plan_errand(self, task_type: str, backend: str, params: dict[str, Any]) -> None:
        errands.plan(
            self.session,
            task_type,
            backend,
            "wipe",
            job_id=self.job.id,
            source_id=self.collection.source_id,
            params=params,
        )


def crawls_of(rows: Sequence[Unit]) -> list[dict[str, Any]]:
    """Return the crawls of units: as they were when it was over, else as far as they are known."""
    return [crawl for unit in rows for crawl in unit.output.get("crawls") or unit.state.get("crawls", [])]
