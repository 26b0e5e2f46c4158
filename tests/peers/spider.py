"""A Scrapy project of one spider, which behaves as those of Kingfisher Collect: it runs in Scrapyd, not in the tests.

It makes a collection in Kingfisher Process and says so in its log, follows the pages of a site, logs each file as an
item, keeps it in the files store, sends it on, and closes the collection. What goes wrong is asked for by settings.
"""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import requests
import scrapy
from scrapy.exceptions import DropItem


class MissingNextLinkError(Exception):
    """As in Kingfisher Collect, under whose name it is logged."""


MissingNextLinkError.__module__ = "kingfisher_scrapy.exceptions"


class Drop:
    """An item pipeline: drops what is asked for."""

    def process_item(self, item):
        if item.get("file_name", "").startswith("drop"):
            raise DropItem(f"Duplicate File: {item['file_name']!r}")
        return item


class Spider(scrapy.Spider):
    name = "test_spider"
    custom_settings = {  # noqa: RUF012
        "TELNETCONSOLE_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
        "RETRY_ENABLED": False,
        "DOWNLOAD_TIMEOUT": 90,
        "ITEM_PIPELINES": {Drop: 100},
    }

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.opened, scrapy.signals.spider_opened)
        crawler.signals.connect(spider.closed_collection, scrapy.signals.spider_closed)
        return spider

    def opened(self):
        self.crawl_time = datetime.now(UTC).replace(microsecond=0)
        self.collection = None
        if self.settings.get("NO_COLLECTION"):
            return
        version = self.crawl_time.strftime("%Y-%m-%d %H:%M:%S")
        answer = requests.post(
            f"{self.settings['KINGFISHER_API2_URL']}/api/collections/",
            json={"source_id": self.name, "data_version": version, "compile": True},
            timeout=10,
        )
        if answer.ok:
            self.collection = answer.json()["collection_id"]
            self.logger.info("Created collection %s in Kingfisher Process (%s)", self.collection, version)
        else:
            self.logger.critical("Failed to create collection: HTTP %s", answer.status_code)

    def closed_collection(self, reason):
        if self.collection:
            requests.post(
                f"{self.settings['KINGFISHER_API2_URL']}/api/collections/{self.collection}/close/",
                json={"reason": reason},
                timeout=10,
            )

    async def start(self):
        logging.getLogger("yapw.clients").warning(
            "Channel 1 was closed: ChannelClosedByClient: (200) 'Normal shutdown'"
        )
        if self.settings.get("SLOW"):
            yield scrapy.Request(f"{self.settings['SITE']}/slow", callback=self.parse_slow)
        yield scrapy.Request(f"{self.settings['SITE']}/page/0", errback=self.failed, cb_kwargs={"number": 0})
        for number in self.settings.getlist("EXTRA_PAGES"):
            yield scrapy.Request(
                f"{self.settings['SITE']}/page/{number}", errback=self.failed, cb_kwargs={"number": int(number)}
            )

    def parse_slow(self, response):
        pass

    def failed(self, failure):
        response = failure.value.response
        self.logger.error("status=%d message=%r request=%s", response.status, "", response.request.url)

    def parse(self, response, number):
        package = response.json()
        for index, release in enumerate(package["releases"]):
            text = json.dumps(release)
            name = f"page-{number}-{index}.json"
            if store := self.settings.get("FILES_STORE"):
                path = Path(store, self.name, self.crawl_time.strftime("%Y%m%d_%H%M%S"), name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            requests.post(
                f"{self.settings['KINGFISHER_API2_URL']}/files/{self.collection}", data=text.encode(), timeout=10
            )
            yield {"file_name": name, "url": response.url, "data_type": "release"}
        if self.settings.get("DROP") and number == 0:
            yield {"file_name": "drop.json", "url": response.url, "data_type": "release"}
        if following := package["links"].get("next"):
            if self.settings.get("NO_NEXT_LINK"):
                raise MissingNextLinkError(f"next link not found on {response.url}")
            yield response.follow(following, errback=self.failed, cb_kwargs={"number": number + 1})
