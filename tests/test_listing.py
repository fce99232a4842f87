"""What does a page of a list hold, and where does it go on?  Pages as the providers document them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rulesfiles import ROOT

from relay.errors import Unfit
from relay.event import Json
from relay.listing import MOST_PAGES, Page, own, query, read, since
from relay.load import load
from relay.match import Pattern
from relay.provider import Listing, Paging, Reply, Shape
from relay.render import checked

NOW = 1_700_000_000_000
PROVIDERS = load(ROOT / "rules.toml", {}, secrets=False).providers
WATCHES = {provider.name: next(iter(provider.listings.values())) for provider in PROVIDERS.values()}


def listing(**keys: Any) -> Listing:
    """Return a plain list of things."""
    plain: dict[str, Any] = {
        "name": "things",
        "title": "Things",
        "shape": Shape(method="GET", path="/things"),
        "values": {},
        "items": "data",
        "id": "{id}",
    }
    return Listing(**plain | keys)


def reply(body: Json, *, whole: bool = True) -> Reply:
    return Reply(status=200, headers={}, body=orjson.dumps(body), whole=whole)


def page(one: Listing, body: Json, values: Mapping[str, Json] = {}) -> Page:
    return read(one, reply(body), values)


def ids(found: Page) -> list[str]:
    return [item.id for item in found.items]


# -- the four providers --


def test_writer_failed_files() -> None:
    """Of the documents' sample the one failed file counts, and the list goes on after its last id."""
    sample: Json = {
        "data": [
            {"id": "7c36a365", "name": "example.pdf", "graph_ids": ["31a8b75a"], "status": "in_progress"},
            {"id": "4bbe6207", "name": "image.jpg", "graph_ids": [], "status": "completed"},
            {"id": "efc86bb4", "name": "document.txt", "graph_ids": [], "status": "failed"},
        ],
        "has_more": True,
        "first_id": "7c36a365",
        "last_id": "efc86bb4",
    }
    found = page(WATCHES["writer"], sample)

    assert [("efc86bb4", b'{"file_id":"efc86bb4","type":"file.failed"}')] == [
        (item.id, item.event) for item in found.items
    ]
    assert found.next is not None
    assert {"after": "efc86bb4"} == query(WATCHES["writer"], found.next)
    assert ((), "") == (found.flaws, found.cut)


def test_docflow_failed_tasks() -> None:
    """Failed regular and parent tasks count; children, deleted tasks and other states do not."""

    def task(task_id: str, **facts: Json) -> Json:
        return {
            "task_id": task_id,
            "task_type": 1,
            "recognition_status": 2,
            "verification_status": 0,
            **facts,
        }

    files = [
        task("1978297791713619968"),
        task("2", task_type=2, child_files=[task("21", task_type=0)]),
        task("3", task_type=0),
        task("4", task_type=3),
        task("5", verification_status=4),
        task("6", recognition_status=1),
    ]
    found = page(WATCHES["docflow"], {"code": 200, "msg": "success", "result": {"total": 6, "files": files}})

    assert ["1978297791713619968", "2"] == ids(found)
    assert b'{"status":"failed","task_id":"1978297791713619968"}' == found.items[0].event
    assert found.next is not None
    assert {"page": "2"} == query(WATCHES["docflow"], found.next)


def test_xpkg_failed_versions() -> None:
    """A version takes its package's id from around it; only what an identical upload can heal counts."""
    packages: Json = [
        {
            "packageId": "example.package1",
            "packageType": "aircraft",
            "versions": [
                {"packageVersion": "1.3.0", "status": "failed_server"},
                {"packageVersion": "1.4.0", "status": "processed"},
            ],
        },
        {"packageId": "example.package2", "versions": []},
        {
            "packageId": "example.package3",
            "versions": [
                {"packageVersion": "2.0.0", "status": "aborted"},
                {"packageVersion": "2.0.1", "status": "failed_macosx"},
            ],
        },
    ]
    found = page(WATCHES["xpkg"], {"packages": packages})

    assert ["example.package1@1.3.0", "example.package3@2.0.0"] == ids(found)
    assert {
        "package_id": "example.package3",
        "package_version": "2.0.0",
        "status": "aborted",
    } == orjson.loads(found.items[1].event)
    assert (None, (), {}) == (found.next, found.flaws, query(WATCHES["xpkg"], {}))


def test_flatfile_failed_jobs() -> None:
    """The event itself is the item, nothing added: it has the id under which the forwarder posts it."""
    event: dict[str, Json] = {
        "id": "us_evt_1",
        "topic": "job:failed",
        "context": {"jobId": "us_jb_1"},
        "payload": {"isPart": False},
    }
    found = page(
        WATCHES["flatfile"],
        {"region": "eu", "data": [event, event | {"id": "us_evt_2", "topic": "job:updated"}]},
    )

    assert ["us_evt_1"] == ids(found)
    assert event == orjson.loads(found.items[0].event)


def test_a_value_of_a_watch_is_checked() -> None:
    """A watch's values are held to what its provider says of them."""
    assert {"workspace_id": "1"} == checked(WATCHES["docflow"], {"workspace_id": "1"})
    with pytest.raises(Unfit):
        checked(WATCHES["docflow"], {"workspace_id": "../other"})


# -- items --


def test_an_items_own_values_win() -> None:
    """An item inherits plain values from the tables it stands in, the inner first, its own before all."""
    one = listing(items="a.b", event={"id": "{id}", "x": "{x}", "y": "{y}", "z": "{z}", "n": "{n}"})
    body: Json = {"x": 0, "y": 0, "z": 0, "a": [{"y": 1, "z": 1, "n": None, "b": [{"id": "i", "z": 2}]}]}

    assert {"id": "i", "x": 0, "y": 1, "z": 2, "n": None} == orjson.loads(page(one, body).items[0].event)


@pytest.mark.parametrize(
    ("item", "flaw"),
    [
        ({}, "data[1]: id is missing"),
        ({"id": None}, "data[1]: id is null, expected text"),
        ({"id": [1]}, "data[1]: id is a list, expected text"),
        ({"id": " "}, "data[1]: its id is empty"),
        ({"id": "x"}, "data[1]: job is missing"),
        ("x", "data[1] is text, expected a table"),
        (None, "data[1] is null, expected a table"),
        ([], "data[1] is a list, expected a table"),
        ({"id": "b", "job": 1}, "data[1]: another one on this page has the id b"),
    ],
)
def test_what_can_not_be_read_is_said(item: Json, flaw: str) -> None:
    """An item without an id or an event is a flaw with its place; the items around it come all the same."""
    one = listing(event={"job": "{job}"})
    found = page(one, {"data": [{"id": "b", "job": 2}, item, {"id": "c", "job": 3}]})

    assert (["b", "c"], (flaw,)) == (ids(found), found.flaws)


def test_one_odd_element_does_not_hide_the_others() -> None:
    """A list on the way may have an element without the inner list: that is a flaw, not the end."""
    one = listing(items="packages.versions")
    body: Json = {"packages": [{"versions": [{"id": 1}]}, {"name": "odd"}, {"versions": [{"id": 2}]}]}
    found = page(one, body)

    assert (["1", "2"], ("packages[1].versions is missing",)) == (ids(found), found.flaws)


def test_an_item_that_stands_twice_is_one() -> None:
    """The same item twice on one page is one, and nothing to complain about."""
    found = page(listing(), {"data": [{"id": 1}, {"id": 1}]})

    assert (["1"], ()) == (ids(found), found.flaws)


def test_an_id_is_fit_for_a_database() -> None:
    """Control characters and long ids are replaced, and two ids never become one."""
    first, second = ids(page(listing(), {"data": [{"id": "a\0" + "b" * 999}, {"id": "a\0" + "b" * 998}]}))

    assert first != second
    assert "\0" not in first + second
    assert max(len(first), len(second)) <= 200


def test_equal_events_have_equal_bytes() -> None:
    """In whatever order a provider writes an item, its event's bytes are the same: it can be known again."""
    first = page(listing(), {"data": [{"id": 1, "a": {"x": 1, "y": 2}}]})
    again = page(listing(), {"data": [{"a": {"y": 2, "x": 1}, "id": 1}]})

    assert first == again


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply({}), "data is missing"),
        (reply({"data": {"id": 1}}), "data is a table, expected a list"),
        (reply({"data": "none"}), "data is text, expected a list"),
        (reply("data"), "the answer is not JSON that can be read"),
        (replace(reply(None), body=b"<html>"), "the answer is not JSON that can be read"),
        (reply({"data": []}, whole=False), "the answer broke off, or is too long"),
    ],
)
def test_what_is_no_page_is_no_empty_page(answer: Reply, why: str) -> None:
    """An answer without the list is refused: taken for an empty list, everything in it would seem well."""
    with pytest.raises(Unfit) as error:
        read(listing(), answer, {})

    assert why == str(error.value)


def test_null_is_an_empty_list() -> None:
    """Some write null for a list without elements."""
    assert Page(items=()) == page(listing(), {"data": None})


# -- where it goes on --

CURSOR = Paging(query="after", cursor="at.last")
MORE = replace(CURSOR, more=Pattern({"body": {"more": [True]}}))
NUMBERS = Paging(query="page")


@pytest.mark.parametrize(
    ("paging", "body", "values", "then", "cut"),
    [
        (None, {"data": [{"id": 1}]}, {}, None, ""),
        (NUMBERS, {"data": [{"id": 1}]}, {}, {"page": "2"}, ""),
        (NUMBERS, {"data": [{"id": 1}]}, {"@page": 7}, {"page": "8"}, ""),
        (NUMBERS, {"data": []}, {"@page": 7}, None, ""),
        (NUMBERS, {"data": [{"id": 1}]}, {"@page": MOST_PAGES}, None, "it goes on after 10,000 pages"),
        (CURSOR, {"data": [{"id": 1}], "at": {"last": "a"}}, {}, {"after": "a"}, ""),
        (CURSOR, {"data": [{"id": 1}], "at": {"last": 5}}, {"@cursor": "a"}, {"after": "5"}, ""),
        (
            CURSOR,
            {"data": [{"id": 1}], "at": {"last": "a"}},
            {"@cursor": "a"},
            None,
            "at.last does not move on",
        ),
        (CURSOR, {"data": [], "at": {"last": "a"}}, {"@cursor": "a"}, None, ""),
        (CURSOR, {"data": [{"id": 1}], "at": {"last": None}}, {}, None, ""),
        (CURSOR, {"data": [{"id": 1}], "at": {"last": ""}}, {}, None, ""),
        (CURSOR, {"data": [{"id": 1}]}, {}, None, ""),
        (MORE, {"data": [], "more": True, "at": {"last": "a"}}, {}, {"after": "a"}, ""),
        (MORE, {"data": [{"id": 1}], "more": False, "at": {"last": "a"}}, {}, None, ""),
        (
            MORE,
            {"data": [{"id": 1}], "more": True},
            {},
            None,
            "there is more, but at.last does not say where",
        ),
        (
            MORE,
            {"data": [{"id": 1}], "more": True, "at": {"last": "a"}},
            {"@cursor": "a"},
            None,
            "at.last does not move on",
        ),
    ],
)
def test_where_a_list_goes_on(
    paging: Paging | None, body: Json, values: dict[str, Json], then: dict[str, str] | None, cut: str
) -> None:
    """A run goes on while there is more and it knows where; one that ends too early says so."""
    one = listing(paging=paging)
    found = page(one, body, values)

    assert then == (None if found.next is None else query(one, found.next))
    assert cut == found.cut


def test_a_page_of_others_is_not_the_last() -> None:
    """A page is empty when it holds nothing, not when nothing on it has failed."""
    one = listing(paging=NUMBERS, failed=Pattern({"status": ["failed"]}))
    found = page(one, {"data": [{"id": 1, "status": "well"}]})

    assert ((), {"@page": 2}) == (found.items, found.next)
    nested = listing(paging=NUMBERS, items="data.versions")
    assert page(nested, {"data": [{"versions": []}]}).next is not None


def test_a_run_starts_at_the_first_page() -> None:
    """Numbered pages are asked for by number from the first on; a cursor is not made up."""
    assert {"page": "1"} == query(listing(paging=NUMBERS), {})
    assert {} == query(listing(paging=CURSOR), {}) == query(listing(), {})


def test_where_a_run_stands_is_no_value_of_the_list() -> None:
    """A listing may have values called page and cursor; what a run keeps beside them can be told apart."""
    one = listing(paging=CURSOR)
    values: dict[str, Json] = {"page": "mine", "cursor": "mine", "after": "mine"}
    then = page(one, {"data": [{"id": 1}], "at": {"last": "a"}}, values).next
    assert then is not None

    assert values == own({**values, **then})


@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from(["numbers", "cursor", "more"]))
def test_every_item_is_on_some_page(total: int, size: int, way: str) -> None:
    """However many items come in pages of whatever size: a run sees each once, in order, and ends."""
    keys = [f"k{number}" for number in range(total)]
    one = listing(paging={"numbers": NUMBERS, "cursor": CURSOR, "more": MORE}[way])
    values: Mapping[str, Json] | None = {}
    seen: list[str] = []
    asked = 0
    while values is not None:
        where = query(one, values)
        start = (int(where["page"]) - 1) * size if way == "numbers" else 0
        if "after" in where:
            start = keys.index(where["after"]) + 1
        part = keys[start : start + size]
        last = part[-1] if part else None
        more = start + size < total
        found = page(one, {"data": [{"id": key} for key in part], "at": {"last": last}, "more": more}, values)
        assert ((), "") == (found.flaws, found.cut)
        seen += ids(found)
        values = found.next
        asked += 1

    assert keys == seen
    assert asked <= total // size + 2


# -- logs --


def test_a_log_is_read_from_before_the_last_run() -> None:
    """Ten minutes before the last complete run began, or before the first start; never a time before 1970."""
    log = listing(log=True)

    assert "2023-11-14T22:03:20.000Z" == since(log, NOW, 5)
    assert "2023-11-14T22:03:20.000Z" == since(log, None, NOW)
    assert "1970-01-01T00:00:00.000Z" == since(log, 1, NOW)


def test_a_list_of_now_is_always_read_whole() -> None:
    """What fails since long ago must be in each run, or it would seem to have recovered."""
    assert since(listing(), None, NOW) == since(listing(), NOW + 86_400_000, NOW)
