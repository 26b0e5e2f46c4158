"""What a document is, which records it holds, and what is said about documents that hold none."""

import itertools
import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.formats import Documents, Finding, Options, Tally
from services.collector.slices import Slicer
from shared.errors import PermanentError
from shared.worker.context import copy_field

LIMIT = 1 << 20

ONE = '{"ocid": "ocds-1", "date": "2020-01-01T00:00:00Z", "tag": ["tender"], "amount": 1234567890.10}'
TWO = '{"tag": ["award", "compiled"], "ocid": "ocds-2", "date": "2021-01-01"}'
LINKED = '{"url": "https://example.org/1.json", "date": "2020-01-01", "tag": ["tender"]}'
VERSIONED = '{"ocid": "ocds-3", "tag": [{"releaseID": "1", "value": ["tender"]}]}'


class Result:
    """The records of one stream, and what was tallied."""

    def __init__(self, text, *, limit=LIMIT, sizes=(1 << 30,), tally=None, **options):
        data, at, sizes = text if isinstance(text, bytes) else text.encode(), 0, itertools.cycle(sizes)

        def read(size):
            nonlocal at
            piece = data[at : at + min(size, next(sizes))]
            at += len(piece)
            return piece

        self.tally = tally or Tally()
        slicer = Slicer("file.json", read, limit)
        self.records = list(Documents(slicer, Options.of(options), self.tally).records())
        self.data = [record.data.decode() for record in self.records]
        self.kinds = [record.kind for record in self.records]
        self.keys = [record.key for record in self.records]
        self.dates = [record.date for record in self.records]
        self.found = {finding: count for finding, count in self.tally.findings.items() if count}


def attempt(text, **options):
    """Return the result, or the text of the error."""
    try:
        return Result(text, **options)
    except PermanentError as error:
        return str(error)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"uri": "x", "releases": [{ONE}, {TWO}], "license": "L"}}',
        f'{{"releases": [{ONE}]}}\n{{"releases": [{TWO}]}}\n',
        f'{{"releases": null}}{{"releases": []}}{{"releases": [{ONE}]}} {{"releases": [{TWO}]}}',
        f"[{ONE}, {TWO}]",
        f'[{{"releases": [{ONE}]}}, {{"releases": [{TWO}]}}]',
        f"{ONE}\n{TWO}\n",
        f"{ONE}\r\n\r\n  {TWO}  \r\n",
        f"{ONE}\n{TWO}",
        f"{ONE}{TWO}",
        f"\n\n{ONE} {TWO}",
        f"[{ONE}]\n[{TWO}]",
        f"[]\n{ONE}\n{TWO}\n[]",
        f'{{"records": [{{"ocid": "ocds-1", "releases": [{ONE}]}}, {{"ocid": "ocds-2", "compiledRelease": {TWO}}}]}}',
        f'{{"ocid": "ocds-1", "releases": [{ONE}]}}\n{{"ocid": "ocds-2", "compiledRelease": {TWO}}}\n',
        f'{{"compiledRelease": {{}}, "releases": [{ONE}]}}\n{{"releases": [], "compiledRelease": {TWO}}}',
        "\ufeff" + ONE + TWO,
        "\ufeff\n" + ONE + "\n" + TWO,
    ],
)
@pytest.mark.parametrize("sizes", [(1,), (1 << 20,)])
def test_the_same_records_are_found_in_every_format(text, sizes):
    result = Result(text, sizes=sizes)
    assert result.data == [ONE, TWO]
    assert result.kinds == ["release", "compiled"]
    assert result.keys == [b"ocds-1", b"ocds-2"]
    assert result.dates == [b"2020-01-01T00:00:00Z", b"2021-01-01"]
    assert result.tally.kinds == {"release": 1, "compiled": 1, "json": 0}


def test_pretty_printed_releases_are_put_on_one_line():
    value = json.loads(ONE)
    result = Result("\n".join(json.dumps(value, indent=indent) for indent in (2, "\t", None)))
    assert result.data == [json.dumps(value, separators=(",", ":"))] * 2 + [json.dumps(value)]


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ('["compiled"]', "compiled"),
        ('["tender", "compiled"]', "compiled"),
        ('"compiled"', "compiled"),
        (r'["comp\u0069led"]', "compiled"),
        ('["tender"]', "release"),
        ("null", "release"),
        ("[]", "release"),
        ("1e999", "release"),
        ('["notcompiled"]', "release"),
    ],
)
def test_the_tag_decides_whether_a_release_is_compiled(tag, kind):
    assert Result(f'{{"ocid": "ocds-1", "tag": {tag}}}').kinds == [kind]


@pytest.mark.parametrize("date", ["null", '""', "20200101", "{}", '["2020"]', "true", r'"2020\u0000"'])
def test_a_date_that_is_no_text_is_unknown(date):
    assert Result(f'{{"ocid": "ocds-1", "date": {date}}}').dates == [None]


def test_escapes_in_ocid_and_date_are_decoded_and_the_text_keeps_them():
    text = r'{"ocid": "ocds\u002d1\t\\", "date": "2020\/01"}'
    result = Result(text)
    assert result.keys == [copy_field(b"ocds-1\t\\")]
    assert result.dates == [b"2020/01"]
    assert result.data == [text]


def test_of_equal_names_the_last_counts_and_all_are_kept():
    text = '{"ocid": "ocds-1", "ocid": "ocds-2", "x": 1, "x": 2}'
    result = Result(text)
    assert (result.keys, result.data) == ([b"ocds-2"], [text])


def test_packages_say_what_they_are_wherever_they_say_it():
    first = f'{{"license": "", "publisher": {{"name": "P"}}, "releases": [{ONE}], "publicationPolicy": "https://p"}}'
    second = f'{{"license": "L", "publisher": "Q", "publicationPolicy": null, "releases": [{TWO}]}}'
    about = {"publisher": "P", "publicationPolicy": "https://p", "license": "L"}
    assert Result(f"{first}\n{second}").tally.about == about


@pytest.mark.parametrize("odd", ["null", "1", "{}", "[]", '{"name": null}', '{"name": ["x"]}', r'"\u0000"'])
def test_what_a_package_says_oddly_is_as_if_it_said_nothing(odd):
    text = f'{{"license": {odd}, "publisher": {odd}, "releases": [{ONE}]}}'
    assert Result(text).tally.about == {}


# Records


def record(**members):
    return "{" + ", ".join(f'"{name}": {value}' for name, value in ({"ocid": '"ocds-1"'} | members).items()) + "}"


def package(*records):
    return f'{{"records": [{", ".join(records)}]}}'


def test_full_releases_of_a_record_come_before_its_compiled_release():
    result = Result(package(record(releases=f"[{ONE}, {ONE}]", compiledRelease=TWO)))
    assert (result.data, result.kinds, result.found) == ([ONE, ONE], ["release"] * 2, {})


@pytest.mark.parametrize("releases", ["[]", "null", f"[{LINKED}]", f"[{ONE}, {LINKED}]"])
def test_a_record_without_all_its_releases_gives_its_compiled_release(releases):
    result = Result(package(record(releases=releases, compiledRelease=ONE)))
    assert (result.data, result.kinds, result.found) == ([ONE], ["compiled"], {})


def test_linked_releases_are_counted_where_nothing_else_is_there():
    records = [record(releases=f"[{LINKED}, {LINKED}]"), record(releases=f"[{LINKED}, {ONE}]")]
    result = Result(package(*records))
    assert (result.data, result.found) == ([ONE], {Finding.LINKED: 3})


def test_versioned_releases_and_bare_records_are_counted():
    result = Result(package(record(versionedRelease=VERSIONED), record(), record(releases="[]"), "{}"))
    assert (result.data, result.found) == ([], {Finding.VERSIONED: 1, Finding.NO_RELEASES: 3})


def test_linked_and_versioned_releases_by_themselves_are_counted():
    result = Result(f'{{"releases": [{LINKED}, {ONE}, {VERSIONED}]}}\n{VERSIONED}\n')
    assert (result.data, result.found) == ([ONE], {Finding.LINKED: 1, Finding.VERSIONED: 2})


# Plain records


def test_plain_records_have_id_and_date_at_the_given_paths():
    lines = [
        '{"item": {"id": "a", "when": "2020-01-01"}}',
        '{"item": {"id": 7, "when": 2021}, "x": 1.50}',
        r'{"item": {"id": "\u0061\n", "when": -1.5}}',
    ]
    result = Result("\n".join(lines), id_field="item.id", date_field="item.when")
    assert result.kinds == ["json"] * 3
    assert result.keys == [b"a", b"7", copy_field(b"a\n")]
    assert result.dates == [b"2020-01-01", b"2021", b"-1.5"]
    assert result.data == lines
    assert result.found == {}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"item": null}',
        '{"item": [1]}',
        '{"item": "id"}',
        '{"item": {"id": null}}',
        '{"item": {"id": ""}}',
        '{"item": {"id": [1]}}',
        '{"item": {"id": true}}',
        r'{"item": {"id": "\u0000"}}',
    ],
)
def test_plain_records_without_the_id_are_counted(text):
    result = Result(text, id_field="item.id", date_field="item.id")
    assert (result.keys, result.dates, result.found) == ([None], [None], {Finding.NO_ID: 1})


def test_without_options_plain_records_have_neither_id_nor_date():
    result = Result('[{"id": 1, "date": "2020"}, {"results": [{"id": 2}]}]')
    assert (result.kinds, result.keys, result.dates, result.found) == (["json"] * 2, [None] * 2, [None] * 2, {})


@pytest.mark.parametrize("sizes", [(1,), (1 << 20,)])
def test_records_can_be_in_an_array_at_a_path(sizes):
    page = '{"page": 1, "data": {"n": [9], "items": [{"id": 1}, {"id": 2}]}, "next": null}'
    text = f'{page}\n[{page}]\n{{"data": {{"items": []}}}}'
    result = Result(text, sizes=sizes, records_path="data.items", id_field="id")
    assert (result.data, result.keys) == (['{"id": 1}', '{"id": 2}'] * 2, [b"1", b"2"] * 2)


def test_releases_can_be_in_an_array_at_a_path():
    assert Result(f'{{"hits": [{ONE}, {TWO}]}}', records_path="hits").kinds == ["release", "compiled"]


@pytest.mark.parametrize(("name", "path"), [("records", "records"), ("releases", "releases")])
def test_plain_records_in_an_array_that_looks_like_a_packages_need_the_path(name, path):
    text = f'{{"{name}": [{{"a": 1}}]}}'
    assert Result(text, records_path=path).data == ['{"a": 1}']


def test_documents_that_look_like_packages_can_be_declared_records():
    lines = ['{"name": "x", "releases": [{"version": 1}]}', '{"name": "y", "releases": []}']
    assert Result("\n".join(lines), records_path=".").data == lines


@pytest.mark.parametrize(
    "text", ['{"data": {}}', '{"data": []}', '{"data": {"items": 1}}', "{}", '{"data": {"items": {}}}']
)
def test_a_document_without_the_array_is_refused(text):
    with pytest.raises(PermanentError, match=r"no array at data\.items .* option records_path"):
        Result(text, records_path="data.items")


def test_two_arrays_at_the_path_are_refused():
    with pytest.raises(PermanentError, match="two members of one object are called items"):
        Result('{"items": [{"id": 1}], "items": [{"id": 2}]}', records_path="items")


@pytest.mark.parametrize("path", ["a..b", ".a", "a.", 7, ["a"]])
@pytest.mark.parametrize("name", ["id_field", "date_field", "records_path"])
def test_an_option_that_is_no_path_is_refused(name, path):
    with pytest.raises(PermanentError, match=f"The option {name} is"):
        Options.of({name: path})


def test_empty_options_and_those_of_others_are_left_alone():
    assert Options.of({"id_field": None, "date_field": "", "other": 1}) == Options()


# What is refused


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "nothing but white space"),
        (" \n ", "nothing but white space"),
        ("\ufeff", "nothing but white space"),
        ("<!DOCTYPE html><p>Too busy", "looks like an HTML page"),
        ("  <!-- x --><HTML>", "looks like an HTML page"),
        ('<?xml version="1.0"?><a/>', "looks like XML"),
        ("ocid,date\n1,2\n", r"no JSON object or array, but begins with b'ocid,date"),
        ("12", "no JSON object or array"),
        ('"text"', "no JSON object or array"),
        ("null", "no JSON object or array"),
        ("\0\0\0\0", "UTF-16 or UTF-32"),
        ("x\0\0\0\0", "UTF-16 or UTF-32"),
        (ONE.encode("utf-16"), "UTF-16 or UTF-32"),
        (ONE.encode("utf-16-le"), "UTF-16 or UTF-32"),
        (ONE.encode("utf-16-be"), "UTF-16 or UTF-32"),
        (ONE.encode("utf-32"), "UTF-16 or UTF-32"),
        (b"\x89PNG\r\n", "no JSON object or array"),
        (f"{ONE}\n,{TWO}", r"begins with b',"),
        (f"[{ONE}, [{TWO}]]", "an array in an array"),
        (f"[{ONE}, 1]", "no JSON object or array, but begins with b'1"),
        (f"{ONE}\n1\n", "no JSON object or array, but begins with b'1"),
        (f'{{"releases": [{ONE}, 7]}}', "not an object, where a release or record is expected"),
        (f'{{"releases": [{ONE}], "records": []}}', "a package with releases and records"),
        (f'{{"releases": [{ONE}], "releases": []}}', "a package with releases and releases"),
        ('{"releases": [{"id": "1"}]}', r"without an ocid .* set the option records_path"),
        ('{"releases": [{"ocid": ""}]}', "without an ocid"),
        ('{"releases": [{"ocid": 5}]}', "without an ocid"),
        (r'{"releases": [{"ocid": "a\u0000"}]}', "without an ocid"),
        ('{"records": [{"ocid": "1", "compiledRelease": {}}]}', "without an ocid"),
        ('{"records": [{"ocid": "1", "releases": [{}]}]}', "without an ocid"),
        ('{"records": [{"ocid": "1", "releases": {}}]}', "the releases of a record are no array"),
        ('{"records": [{"ocid": "1", "releases": [1]}]}', "not an object"),
        (f'{ONE}\n{{"error": "try later"}}', "neither a release nor a package, though other documents"),
        (f'{{"a": 1}}\n{ONE}', "OCDS data, though other documents"),
        (b'{"ocid": "1", "x": "caf\xe9"}', "not UTF-8"),
        (b'{"ocid": "1", "caf\xe9": 1}\n', "not UTF-8"),
        (b'{"ocid": "1", "x": "\xed\xa0\x80"}\n', "not UTF-8"),
        (b'{"releases": [{"ocid": "1", "x": "\xff"}]}', "not UTF-8"),
        (b'{"license": "\xff", "releases": []}', "not UTF-8"),
        (b'{"ocid": "1", "x": "a\0b"}', "malformed JSON: invalid character"),
        (f"{ONE}\n" + '{"ocid": "ocds-1", "x": NaN}\n', "malformed JSON: invalid character"),
        (f"{ONE}\n{ONE[:-5]}\n{TWO}", "malformed JSON"),
        (f"{ONE}\n{ONE[:-1]}", "ends in the middle of the value"),
        ('{"ocid": "1", "x": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
    ],
)
@pytest.mark.parametrize("sizes", [(3,), (1 << 20,)])
def test_what_holds_no_records_is_refused_with_its_place(text, what, sizes):
    with pytest.raises(PermanentError, match=what) as caught:
        Result(text, sizes=sizes)
    assert str(caught.value).startswith("file.json, record ")


def test_the_record_is_counted_and_the_place_exact():
    lines = [ONE] * 41
    with pytest.raises(PermanentError, match=r"file\.json, record 42 \(line 42, column 8, byte offset \d+\)"):
        Result("\n".join([*lines, '{"a": "\x01"}']))
    with pytest.raises(
        PermanentError, match=r"record 3 \(line 2, column 21, byte offset \d+\): bytes that are not UTF-8"
    ):
        Result(f'{{"releases": [{ONE},{ONE},\n'.encode() + b'{"ocid": "1", "x": "\xff"}]}')


def test_a_mixture_is_noticed_across_the_files_of_a_source():
    tally = Result(ONE).tally
    with pytest.raises(PermanentError, match="neither a release nor a package"):
        Result('{"error": 1}', tally=tally)


def test_an_empty_package_is_no_mistake_by_itself():
    assert Result('{"releases": []}').records == []


# Records and packages of any size


def test_a_record_that_is_too_long_is_refused_and_a_package_is_not():
    long = '{"ocid": "ocds-1", "x": "' + "x" * 100 + '"}'
    for text in (long, f"{long}\n", f"[{long}]", f'{{"releases": [{long}]}}', f'{{"x": "{"x" * 100}"}}'):
        with pytest.raises(PermanentError, match=r"longer than .*BOWERBIRD_MAX_RECORD_BYTES"):
            Result(text, limit=100)
    short = '{"ocid": "ocds-1"}'
    assert Result(f'{{"releases": [{", ".join([short] * 20)}]}}', limit=100).data == [short] * 20


def test_a_package_too_long_to_be_looked_at_whole_must_show_that_it_is_one():
    releases = f'"releases": [{", ".join([ONE] * 20)}]'
    for member in ('"ocid": "ocds-1"', f'"compiledRelease": {TWO}'):
        for text in (f"{{{member}, {releases}}}", f"{{{releases}, {member}}}"):
            with pytest.raises(PermanentError, match="a record longer than"):
                Result(text, limit=200)
    with pytest.raises(PermanentError, match="longer than 200 bytes"):
        Result(f"{{{releases}}}", limit=200, records_path=".")


texts = st.sampled_from(["", '"', "\\", "{[", "]}", ",:", "\n\t", "\0", "é", "€😀", "\u2028", "releases", "ocid"])
values = st.recursive(
    texts | st.integers() | st.booleans() | st.none() | st.sampled_from([-0.0, 1e300, 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def releases(draw):
    members = [("ocid", draw(st.sampled_from(["ocds-1", "ocds-2", "ocds-é"])))]
    members += draw(st.lists(st.tuples(st.sampled_from(["date", "x", "tags", "parties"]), values), max_size=4))
    if draw(st.booleans()):
        members.append(("tag", draw(st.sampled_from([["compiled"], ["tender"], [], None]))))
    return dict(draw(st.permutations(members)))


layouts = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, None, 0, 2, "\t"])})


@st.composite
def documents(draw):
    """Return the text of a stream, and the releases in it."""
    held, parts = [], []
    for _ in range(draw(st.integers(1, 4))):
        some = draw(st.lists(releases(), max_size=3))
        about = draw(st.dictionaries(st.sampled_from(["uri", "extensions", "z"]), values, max_size=3))
        shape = draw(st.sampled_from(["package", "record package", "array", "values"]))
        members = {
            "package": {"releases": some},
            "record package": {"records": [{"ocid": release["ocid"], "releases": [release]} for release in some]},
        }.get(shape)
        layout = draw(layouts)
        if members is not None:
            whole = dict(draw(st.permutations([*members.items(), *about.items()])))
            parts.append(json.dumps(whole, **layout))
        elif shape == "array":
            parts.append(json.dumps(some, **layout))
        else:
            parts.extend(json.dumps(release, **layout) for release in some)
        held += some
    return draw(st.sampled_from(["\n", "\r\n", " "])).join(parts), held


@given(documents(), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_every_release_is_found_whatever_holds_it_and_however_it_is_read(document, sizes):
    text, held = document
    if not text.strip():
        return
    result = Result(text, sizes=sizes)
    assert [json.loads(data) for data in result.data] == held
    for record, release in zip(result.records, held, strict=True):
        assert record.key == release["ocid"].encode()
        assert record.kind == ("compiled" if release.get("tag") == ["compiled"] else "release")


@given(documents(), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_what_is_too_long_to_be_held_gives_the_same_records(document, sizes):
    text, _ = document
    if not text.strip():
        return
    whole = Result(text)
    longest = max((len(data) for data in text.encode().split(b"\n")), default=0)
    for limit in sorted({longest // 3, longest // 2, len(text) // 2} - {0}):
        streamed = attempt(text, limit=limit, sizes=sizes)
        if isinstance(streamed, str):
            assert "longer than" in streamed
        else:
            assert (streamed.records, streamed.tally) == (whole.records, whole.tally)


@given(documents(), st.randoms(use_true_random=False), st.integers(1, 50))
def test_damaged_text_gives_valid_records_or_a_clear_error_and_nothing_else(document, chance: random.Random, size):
    data = bytearray(document[0].encode())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.choice([0, 1, 4])] = chance.choice(
            [b"", b"{", b"}", b'"', b"\\", b",", b"]", rb"\ud800", rb"\u12", b"NaN", b"\xc3", b"\0", b"\n", b"1"]
        )
    result = attempt(bytes(data), sizes=(size,))
    if isinstance(result, str):
        assert result.startswith("file.json, record ")
        return
    for text in result.data:
        assert not set(text) & set("\n\r\t")
        msgspec.json.decode(text, type=msgspec.Raw)


def test_half_a_surrogate_pair_anywhere_is_replaced_and_counted_once():
    half, other = ONE[:-1] + r', "x": "cut \ud83d"}', TWO
    mended = half.replace(r"\ud83d", r"\ufffd")
    for text in (
        f"{other}\n{half}\n{other}\n",
        f"[{other}, {half}, {other}]",
        f'{{"releases": [{other}, {half}, {other}]}}',
        f'{{"records": [{record(releases=f"[{other}, {half}, {other}]")}]}}',
    ):
        result = Result(text)
        assert result.data == [other, mended, other]
        assert result.found == {Finding.HALF_PAIR: 1}
