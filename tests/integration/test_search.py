"""Finding collections: words, filters, facets, orders and pages."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import literal, select

from shared.db.folding import folded
from shared.db.models import Collection
from shared.search import SORTS, Order, Search, count_facets, find_collections
from tests.factories import make_collection, make_job
from tests.statements import statements


@pytest.fixture
def session(sessions):
    with sessions() as session:
        yield session


def make(session, source_id, *, job=None, **fields):
    """Insert a collection; with ``job``, the fields of its active job."""
    collection = make_collection(session, source_id, **fields)
    if job is not None:
        collection.active_job_id = make_job(session, collection, status="COMPLETED", tasks=(), **job).id
    session.flush()
    return collection


def found(session, search=None, **options):
    page = find_collections(session, search or Search(), limit=options.pop("limit", 100), **options)
    return [view.source_id for view in page.items]


def counts(values):
    return {value.value: value.count for value in values}


# Words


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("São Tomé", "sao tome"),
        ("ŁÓDŹ", "lodz"),
        ("Кыргызская Республика", "кыргызская республика"),
        ("Ñandú", "nandu"),
        ("ﬁscal", "fiscal"),
        ("Moldova", "moldova"),
    ],
)
def test_texts_are_compared_without_accents_and_case(session, text, plain):
    assert session.scalar(select(folded(literal(text)))) == session.scalar(select(folded(literal(plain)))) == plain


@pytest.mark.parametrize(
    "words",
    [
        "rios",
        "RÍOS",
        "works",
        "river_works",
        "rio ruritania",
        "fleuves",
        "dredging",
        "  works   rios ",
        "since 2024",
        "milestones",
    ],
)
def test_words_are_found_in_every_text_and_language(session, words):
    make(
        session,
        "river_works",
        title="Obras en ríos",
        country="Ruritania",
        description="Contracts for dredging.",
        description_long="Published since 2024.",
        additional_data="With milestones.",
        translations={"fr": {"title": "Fleuves"}},
    )
    make(session, "roads", title="Roads")
    assert found(session, Search(text=words)) == ["river_works"]


@pytest.mark.parametrize("words", ["rios lagos", "%", "_", "'", "\\", "title", "fr"])
def test_words_that_are_nowhere_find_nothing(session, words):
    make(session, "works", title="Obras en ríos", translations={"fr": {"title": "Obras"}})
    assert found(session, Search(text=words)) == []


def test_a_character_that_means_something_to_a_pattern_means_itself(session):
    make(session, "share", title="100% of_it")
    make(session, "other", title="100 of it")
    assert found(session, Search(text="100%")) == ["share"]
    assert found(session, Search(text="of_it")) == ["share"]


# Filters


def test_each_filter_finds_what_it_says(session):
    first = {"country": "México", "region": "LAC", "update_frequency": "DAILY", "retrieval_frequency": "WEEKLY"}
    make(session, "a", **first, language="Spanish, English", frozen=True, job={"tenders_count": 2, "awards_count": 1})
    make(session, "b", country="Kenya", region="MEA", language="English", job={"tenders_count": 1})
    make(session, "c", translations={"es": {"country": "Francia"}}, country="France", language="French")
    for search, expected in (
        (Search(country=["mexico"]), ["a"]),
        (Search(country=["Kenya", "MÉXICO"]), ["a", "b"]),
        (Search(country=["francia"], language="es"), ["c"]),
        (Search(country=["france"], language="es"), ["c"]),
        (Search(country=["francia"]), []),
        (Search(region=["LAC", "MEA"]), ["a", "b"]),
        (Search(update_frequency=["DAILY"]), ["a"]),
        (Search(retrieval_frequency=["WEEKLY", "MONTHLY"]), ["a"]),
        (Search(data_language=["english"]), ["a", "b"]),
        (Search(data_language=["eng"]), []),
        (Search(has=["tenders"]), ["a", "b"]),
        (Search(has=["tenders", "awards"]), ["a"]),
        (Search(has=["contracts"]), []),
        (Search(published=True), ["a", "b"]),
        (Search(published=False), ["c"]),
        (Search(frozen=True), ["a"]),
        (Search(frozen=False), ["b", "c"]),
        (Search(region=["LAC"], has=["tenders"], text="mexico"), ["a"]),
        (Search(region=["LAC"], country=["Kenya"]), []),
    ):
        assert found(session, search) == expected, search


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ((None, None), ["job", "own", "open", "none"]),
        (("2021-01-01", None), ["job", "open"]),
        (("2020-12-31", None), ["job", "own", "open"]),
        (("2022-01-01", None), []),
        ((None, "2019-12-31"), []),
        ((None, "2020-06-01"), ["job", "own"]),
        (("2020-07-01", "2020-08-01"), ["job", "own"]),
    ],
)
def test_a_period_finds_what_it_overlaps(session, period, expected):
    dates = {"date_from": date(2020, 6, 1), "date_to": date(2021, 12, 31)}
    make(session, "job", job=dates)
    make(session, "own", job=dates, date_to=date(2020, 12, 31))
    make(session, "open", date_from=date(2021, 5, 1))
    make(session, "none", job={})
    begin, end = (text and date.fromisoformat(text) for text in period)
    assert found(session, Search(date_from=begin, date_to=end)) == expected


def test_only_operators_find_what_is_not_public(session):
    make(session, "open", title="Works")
    make(session, "closed", title="Works", public=False)
    search = Search(text="works")
    assert found(session, search) == ["open"]
    assert found(session, search, public_only=False) == ["open", "closed"]
    assert count_facets(session, search).total == 1
    assert count_facets(session, search, public_only=False).total == 2


def test_further_conditions_narrow_page_and_facets(session):
    make(session, "a", country="A")
    make(session, "b", country="B")
    where = [Collection.source_id == "b"]
    assert found(session, where=where) == ["b"]
    assert counts(count_facets(session, Search(), where=where).country) == {"B": 1}


# Facets


def make_some(session):
    make(session, "a", country="Kenya", region="MEA", language="English, Swahili", job={"tenders_count": 1})
    make(session, "b", country="Kenya", region="MEA", language="English", frozen=True)
    make(session, "c", country="Chile", region="LAC", update_frequency="DAILY", job={"awards_count": 1})
    make(session, "d", translations={"es": {"country": "Islandia"}}, country="Iceland", region="EU")


def test_facets_count_what_each_value_would_find(session):
    make_some(session)
    facets = count_facets(session, Search())
    assert facets.total == 4
    assert counts(facets.country) == {"Kenya": 2, "Chile": 1, "Iceland": 1}
    assert counts(facets.region) == {"MEA": 2, "EU": 1, "LAC": 1}
    assert counts(facets.update_frequency) == {"UNKNOWN": 3, "DAILY": 1}
    assert counts(facets.retrieval_frequency) == {}
    assert counts(facets.data_language) == {"English": 2, "Swahili": 1}
    assert counts(facets.published) == {"true": 2, "false": 2}
    assert counts(facets.frozen) == {"false": 3, "true": 1}
    assert counts(facets.has) == {"tenders": 1, "awards": 1}
    assert [value.value for value in facets.country] == ["Kenya", "Chile", "Iceland"]


def test_a_facet_is_counted_without_its_own_filter_and_with_all_others(session):
    make_some(session)
    facets = count_facets(session, Search(region=["MEA"], frozen=False))
    assert facets.total == 1
    assert counts(facets.region) == {"MEA": 1, "LAC": 1, "EU": 1}
    assert counts(facets.country) == {"Kenya": 1}
    assert counts(facets.frozen) == {"false": 1, "true": 1}


def test_counts_are_counted_within_what_was_found(session):
    make(session, "a", job={"tenders_count": 1, "awards_count": 1})
    make(session, "b", job={"awards_count": 1})
    assert counts(count_facets(session, Search(has=["tenders"])).has) == {"tenders": 1, "awards": 1}


def test_a_facets_label_is_in_the_language_asked_for_and_its_value_finds_in_any(session):
    make_some(session)
    (value,) = count_facets(session, Search(text="iceland", language="es")).country
    assert (value.value, value.label) == ("Iceland", "Islandia")
    assert found(session, Search(country=[value.value], language="es")) == ["d"]


def test_every_value_of_a_facet_finds_as_many_as_it_says(session):
    make_some(session)
    facets = count_facets(session, Search())
    for name in set(type(facets).model_fields) - {"total", "published", "frozen"}:
        for value in getattr(facets, name):
            assert len(found(session, Search(**{name: [value.value]}))) == value.count, (name, value)


# Orders and pages

TIMES = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]


def make_sortable(session):
    """Insert collections of which every order has ties and blanks."""
    days = [date(2026, 1, 1), None, date(2025, 1, 1), date(2026, 1, 1), None]
    titles = ["Ábaco", "zoo", "Aab", "abaco", "Я"]
    countries = ["", "Chile", "Austria", "chile", ""]
    for number, (day, title, country) in enumerate(zip(days, titles, countries, strict=True)):
        job = {"end": TIMES[number % 3]} if number < 4 else None
        dates = {"last_retrieved": day, "date_from": day, "date_to": day}
        make(session, f"c{4 - number}", title=title, country=country, job=job, **dates)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by", ["id", *SORTS])
def test_pages_of_every_order_together_are_the_whole_in_that_order(session, by, descending):
    make_sortable(session)
    order = Order(by, descending)
    whole = found(session, order=order)
    assert sorted(whole) == ["c0", "c1", "c2", "c3", "c4"]
    paged, after = [], None
    for _ in range(5):
        page = find_collections(session, order=order, after=after, limit=1)
        paged += [view.source_id for view in page.items]
        after = page.following
    assert paged == whole
    assert after is None


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order("id"), ["c4", "c3", "c2", "c1", "c0"]),
        (Order("id", descending=True), ["c0", "c1", "c2", "c3", "c4"]),
        (Order("title"), ["c2", "c4", "c1", "c3", "c0"]),
        (Order("country"), ["c2", "c1", "c3", "c4", "c0"]),
        (Order("source_id"), ["c0", "c1", "c2", "c3", "c4"]),
        (Order("last_retrieved"), ["c2", "c4", "c1", "c3", "c0"]),
        (Order("last_retrieved", descending=True), ["c1", "c4", "c2", "c0", "c3"]),
        (Order("published", descending=True), ["c2", "c3", "c1", "c4", "c0"]),
    ],
)
def test_orders_ignore_accents_and_case_and_put_what_is_not_known_last(session, order, expected):
    make_sortable(session)
    assert found(session, order=order) == expected


def test_the_order_by_title_is_that_of_the_language_asked_for(session):
    make(session, "a", title="A", translations={"es": {"title": "Z"}})
    make(session, "b", title="B", translations={"pt": {"title": "A"}})
    assert found(session, Search(), order=Order("title")) == ["a", "b"]
    assert found(session, Search(language="es"), order=Order("title")) == ["b", "a"]
    assert found(session, Search(language="pt-br"), order=Order("title")) == ["a", "b"]


def test_what_is_added_while_pages_are_read_is_neither_skipped_nor_shown_twice(session):
    for name in ("b", "d"):
        make(session, name)
    first = find_collections(session, order=Order("title"), limit=1)
    for name in ("a", "c"):
        make(session, name)
    rest = find_collections(session, order=Order("title"), after=first.following, limit=9)
    assert [view.source_id for view in rest.items] == ["c", "d"]


@pytest.mark.parametrize("number", [1, 7])
def test_a_page_and_its_facets_are_a_statement_each(session, number):
    for index in range(number):
        make(session, f"c{index}", job={"tenders_count": 1}, country="A")
    with statements(session) as sent:
        assert len(found(session, Search(text="c", has=["tenders"]), order=Order("country"))) == number
    assert len(sent) == 1
    with statements(session) as sent:
        assert count_facets(session, Search(text="c")).total == number
    assert len(sent) == 1
