"""Crawls' logs, read as text: what is counted, what is noted, and what a log cannot do to its reader."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector import scrapylog
from services.collector.scrapylog import (
    DATA_LOSS,
    DOWNLOADS,
    ERROR,
    IGNORED,
    KEPT_MESSAGES,
    MAX_DICT_BYTES,
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    RABBITMQ,
    RETRIES,
    WARNING,
    find_collection,
    is_closed,
    literal_dict,
    read_log,
    split_lines,
)
from shared.db.models import NoteLevel

ROOT = Path(__file__).parents[2]
TIME = "2026-08-20 14:41:04"


def said(level, text, logger="scrapy.core.engine"):
    return f"{TIME} [{logger}] {level}: {text}\n"


def item(**fields):
    return said("DEBUG", "Scraped from <200 https://example.com/1>", "scrapy.core.scraper") + f"{fields}\n"


def items(number):
    return "".join(item(file_name=f"{index}.json", data_type="release_package") for index in range(number))


def stats(**values):
    values = {"finish_reason": "finished", **values}
    lines = ",\n ".join(f"{name!r}: {value!r}" for name, value in values.items())
    time = "'finish_time': datetime.datetime(2026, 8, 20, 14, 41, 4, tzinfo=datetime.timezone.utc)"
    return said("INFO", "Dumping Scrapy stats:", "scrapy.statscollectors") + f"{{{time},\n {lines}}}\n"


def read(*parts):
    return read_log([("".join(parts)).encode()])


def http_error(status=500):
    return said("ERROR", f"status={status} message='' request=https://example.com/2", "moldova")


def types(reading):
    _, counts = reading.noteworthy()
    return {kind: count for (_, kind), count in counts.items()}


CREATED = said("INFO", "Created collection 1234 in Kingfisher Process (2026-08-20 14:41:00)", "moldova")
CLOSED = said("INFO", "Spider closed (finished)")


def test_a_good_crawl():
    reading = read(CREATED, items(3), stats(item_scraped_count=3), CLOSED)
    assert (reading.process_id, reading.data_version) == ("1234", "2026-08-20 14:41:00")
    assert (reading.items, reading.error_count, reading.error_rate) == (3, 0, 0.0)
    assert reading.finish_reason == "finished"
    assert reading.stats["item_scraped_count"] == 3
    assert reading.stats["finish_time"] is None, "what is no literal is not run"
    assert reading.noteworthy() == ([], {})


def test_a_clean_crawl_without_items_has_collected_nothing():
    assert read(CREATED, stats(), CLOSED).error_rate == 1.0
    assert read("").error_rate == 1.0


def test_files_of_parts_count_as_items_and_other_dictionaries_do_not():
    text = item(number=1, data="x") + item(error="x") + said("INFO", "Overridden settings:") + "{'BOT_NAME': 'x'}\n"
    assert read(text, stats(number=7)).items == 1


def test_items_over_several_lines_and_with_dates_are_counted():
    text = item(a=1).replace("{'a': 1}", "{'data_type': 'x',\n 'inner': {'b': 1},\n 'date': datetime.date(2020, 1, 1)}")
    assert read(text, items(1)).items == 2


def test_the_statistics_count_of_errors_goes_before_what_was_seen():
    assert read(items(9), http_error()).error_rate == 0.1
    assert read(items(9), http_error(), stats(**{"log_count/ERROR": 3})).error_rate == 0.25
    assert read(items(8), stats(**{"log_count/ERROR": 1, "invalid_json_count": 1})).error_rate == 0.2
    assert read(items(1), stats(**{"log_count/ERROR": "many", "invalid_json_count": True})).error_rate == 0


def test_a_crawl_that_was_cut_off_has_no_finish_reason():
    assert read(CREATED, items(2)).finish_reason == ""
    assert read(items(1), said("INFO", "Dumping Scrapy stats:"), "{'finish_reason': 'fini").finish_reason == ""
    assert read(items(1), stats(finish_reason="shutdown")).finish_reason == "shutdown"
    assert read(items(1), CLOSED.replace("finished", "memusage_exceeded")).finish_reason == "memusage_exceeded"


def test_a_missing_next_link_is_found_wherever_it_is():
    trace = "Traceback:\nkingfisher_scrapy.exceptions.MissingNextLinkError: next link not found\n"
    assert read(said("ERROR", "Spider error processing <GET https://example.com>"), trace).missing_next_link
    assert not read(items(1)).missing_next_link


def test_messages_have_types_and_levels_and_keep_their_tracebacks():
    reading = read(
        said("CRITICAL", "gone", "pika.adapters"),
        said("ERROR", "closed", "yapw.clients"),
        http_error(404),
        said("WARNING", "Got data loss in https://example.com", "scrapy.core.downloader.handlers.http11"),
        said("ERROR", "Gave up retrying <GET https://example.com> (failed 3 times): 503"),
        said("ERROR", "Error downloading <GET https://example.com>") + "Traceback (most recent call last):\n  oops\n",
        said("ERROR", "Error downloading <GET https://example.com/2>"),
        said("INFO", "Ignoring response <403 https://example.com>: HTTP status code is not handled"),
        said("INFO", "Ignoring response <403 https://example.com>: HTTP status code is not handled"),
        said("WARNING", "odd"),
        said("ERROR", "odd"),
        said("DEBUG", "Retrying <GET https://example.com> (failed 1 times): 503"),
        said("DEBUG", "Redirecting (302) to <GET https://example.com> from <GET http://example.com>"),
    )
    assert types(reading) == {
        RABBITMQ: 1,
        "HTTP 404": 1,
        DATA_LOSS: 1,
        RETRIES: 1,
        DOWNLOADS: 2,
        IGNORED: 2,
        WARNING: 1,
        ERROR: 1,
    }
    messages, _ = reading.noteworthy()
    assert {message.level for message in messages if message.type == RABBITMQ} == {NoteLevel.CRITICAL, NoteLevel.ERROR}
    assert {message.level for message in messages if message.type == IGNORED} == {NoteLevel.UNKNOWN}
    assert next(message.text for message in messages if message.type == DOWNLOADS).endswith("  oops")


def test_what_only_repeats_other_messages_is_left_out():
    ignored = said("INFO", "Ignoring response <500 https://example.com>: HTTP status code is not handled")
    gave_up = said("ERROR", "Gave up retrying <GET https://example.com> (failed 3 times): 500")
    download = said("ERROR", "Error downloading <GET https://example.com>")
    dropped = said("WARNING", "Dropped: Invalid JSON")
    assert types(read(http_error(), ignored)) == {"HTTP 500": 1}
    assert types(read(http_error(), ignored, ignored)) == {"HTTP 500": 1, IGNORED: 2}
    assert types(read(ignored)) == {IGNORED: 1}
    assert types(read(gave_up, download)) == {DOWNLOADS: 1}
    assert types(read(gave_up, http_error())) == {"HTTP 500": 1}
    assert types(read(gave_up, download, http_error())) == {RETRIES: 1, DOWNLOADS: 1, "HTTP 500": 1}
    assert types(read(gave_up, download, download)) == {RETRIES: 1, DOWNLOADS: 2}
    assert types(read(dropped, stats(invalid_json_count=1))) == {}
    assert types(read(dropped, dropped, stats(invalid_json_count=1))) == {WARNING: 2}


def test_two_warnings_of_every_crawl_are_left_out():
    assert (
        types(
            read(
                said("WARNING", "Channel 1 was closed: ChannelClosedByClient: (200) 'Normal shutdown'", "yapw.clients"),
                said(
                    "WARNING",
                    "Disabled kingfisher_scrapy.extensions.DatabaseStore: DATABASE_URL is not set.",
                    "scrapy.middleware",
                ),
            )
        )
        == {}
    )


def test_passwords_in_messages_are_masked():
    messages, _ = read(said("ERROR", "refused: https://user:s3cret@example.com/?page=1")).noteworthy()
    assert "s3cret" not in messages[0].text


def test_each_type_keeps_some_messages_and_counts_all():
    messages, counts = read(http_error() * (KEPT_MESSAGES + 5)).noteworthy()
    assert len(messages) == KEPT_MESSAGES
    assert counts[ERROR, "HTTP 500"] == KEPT_MESSAGES + 5


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').abort()",
        "{'a': __import__('os').abort()}",
        "{**__import__('os').abort()}",
        "{" * 5000,
        "{'a': " + "[" * 5000 + "}",
        "{1: 2, 'a'}",
        "{x: 1}",
        "{'a': 1} + {}",
        "{\0}",
        "{'\\ud800': '\\N{nothing}'}",
        "",
    ],
)
def test_what_is_no_dictionary_of_literals_is_none_or_has_nothing_run(text):
    found = literal_dict(text)
    assert found in (None, {}, {"a": None})


def test_a_message_in_the_middle_of_a_dictionary_ends_it():
    text = said("DEBUG", "Scraped") + "{'data_type': 'x',\n" + items(2)
    assert read(text).items == 2


def test_very_long_lines_messages_and_dictionaries_are_bounded():
    long_item = item(data_type="x", data="y" * MAX_DICT_BYTES)
    trace = said("ERROR", "x") + "line\n" * 100_000
    reading = read(long_item, trace, items(1))
    assert reading.items == 2
    assert all(len(message.text) <= MAX_MESSAGE_BYTES for message in reading.messages)
    assert max(map(len, split_lines([b"x" * 10_000] * 100))) == MAX_LINE_BYTES


@given(st.binary(max_size=400), st.integers(1, 50))
def test_blocks_of_any_size_give_the_same_lines(data, size):
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    expected = [line.rstrip(b"\r") for line in data.split(b"\n")]
    assert list(split_lines(blocks)) == (expected[:-1] if data.endswith(b"\n") or not data else expected)


ODD = ["{\n", "}\n", "{'data_type': 1}\n", "\0\xff\n", "[x] ERROR: \n"]


@given(st.lists(st.sampled_from([CREATED, CLOSED, items(1), http_error(), stats(), *ODD])))
def test_no_log_breaks_the_reader(parts):
    reading = read(*parts)
    assert 0 <= reading.error_rate <= 1


def test_the_collection_and_the_end_are_found_in_parts_of_a_log():
    assert find_collection(CREATED.encode()) == ("1234", "2026-08-20 14:41:00")
    assert find_collection(b"Created collection in Kingfisher Process") is None
    assert is_closed(CLOSED.encode())
    assert not is_closed(items(1).encode())


MEGABYTES = 1024
MEASURE = f"""
import resource
from services.collector.scrapylog import read_log
from tests.unit.test_scrapy_log import endless

read_log(endless(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reading = read_log(endless({MEGABYTES}))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(reading.items, reading.error_count, grown)
"""


def endless(megabytes):
    """Yield a log of so many megabytes: items, errors with tracebacks, lines without end, dictionaries without end."""
    usual = (items(40) + http_error() + "Traceback\n" * 10 + said("WARNING", "odd" * 50)).encode() * 20
    odd = b"x" * (1 << 20) + b"\n{'data_type': " + b"[\n" * 10_000 + said("ERROR", "y" * (1 << 20)).encode()
    whole = (said("DEBUG", "Crawled (200) <GET https://example.com> " + "z" * 8_000) * 128).encode()
    size = 0
    dictionary = [b"{'data_type': [\n", *[(b"'" + b"z" * 1000 + b"',\n") * 1000] * 64]
    for block in itertools.chain(dictionary, itertools.cycle([usual, odd, *[whole] * 14])):
        yield block
        size += len(block)
        if size > megabytes << 20:
            return


def test_memory_does_not_grow_with_the_log():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=250
    )
    found, errors, grown = map(int, done.stdout.split())
    assert found > 40_000
    assert errors > 1000
    assert grown < 32 * 1024, f"{grown} KiB for {MEGABYTES} MiB of log"


def test_the_bounds_are_of_one_line():
    assert MAX_MESSAGE_BYTES < MAX_LINE_BYTES <= scrapylog.MAX_ITEM_BYTES < MAX_DICT_BYTES
