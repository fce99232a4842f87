"""What goes out for several calls at once, for a page of a list, and with the id of the call in it."""

import hashlib
from pathlib import Path
from urllib.parse import parse_qsl

import orjson
import pytest
from build import NOW, action, listing, provider
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Unfit
from relay.event import Json
from relay.provider import Auth, Request, Shape, Value
from relay.render import batched, checked, listing_request, request

# -- the call's own id --


def test_a_call_says_its_id() -> None:
    """A header or a leaf of the body may hold the id of the call: the same each time that it is made."""
    shape = Shape(
        method="POST", path="/x", headers={"Idempotency-Key": "relay-{call.id}"}, json={"key": ["{call.id}"]}
    )
    for now in (NOW, NOW + 86_400_000):
        made = request(provider(), shape, action(), {"job_id": "us_jb_1"}, now, "call_7")
        assert "relay-call_7" == dict(made.headers)["Idempotency-Key"]
        assert b'{"key":["call_7"]}' == made.body


@pytest.mark.parametrize(
    "shape",
    [
        Shape(method="POST", path="/x/{call.id}"),
        Shape(method="POST", path="/x", multipart={"key": "{call.id}"}),
    ],
)
def test_the_calls_id_is_no_value(shape: Shape) -> None:
    """It moves no path and no form: only headers and JSON have it."""
    with pytest.raises(Unfit, match=r"^call\.id is missing$"):
        request(provider(files=Path("/x")), shape, action(), {"job_id": "us_jb_1"}, NOW, "call_7")


def test_a_query_leaves_the_calls_id_out() -> None:
    """What no value fills is left out of a query."""
    shape = Shape(method="GET", path="/x", query={"key": "{call.id}"})
    made = request(provider(), shape, action(), {"job_id": "us_jb_1"}, NOW, "call_7")
    assert "https://api.example.com/x" == made.url


# -- batches --

FILES = Shape(
    method="POST",
    path="/v1/{team}/retry",
    query={"q": "{q}"},
    headers={"X-H": "{h}"},
    json={"deep": {"n": "{n}"}, "ids": ["{id}"], "kind": "file"},
)
ALIKE: dict[str, Json] = {"team": "t", "q": "a b", "h": "h", "n": 1, "id": "x"}


def files(*values: dict[str, Json], shape: Shape = FILES, field: str = "ids") -> Request:
    """Join calls that differ from ALIKE by *values*."""
    return batched(provider(), shape, action(name="retry"), [ALIKE | one for one in values], field, NOW)


@given(st.lists(st.text() | st.integers(0, 99), min_size=1, max_size=5))
def test_a_batch_is_one_request(ids: list[Json]) -> None:
    """The lists are joined in their order, and all else is what each call alone would say."""
    made = files(*({"id": one} for one in ids))
    alone = request(provider(), FILES, action(), ALIKE | {"id": ids[0]}, NOW)

    assert isinstance(made.body, bytes)
    assert isinstance(alone.body, bytes)
    assert orjson.loads(alone.body) | {"ids": ids} == orjson.loads(made.body)
    assert (alone.method, alone.url, alone.headers) == (made.method, made.url, made.headers)


def test_the_signature_covers_the_whole_batch() -> None:
    """A batch is signed as the one body that goes out."""
    auth = Auth(headers={"X-Hash": "{body_sha256}"})
    made = batched(provider(auth=auth), FILES, action(), [ALIKE, ALIKE | {"id": "y"}], "ids", NOW)
    assert isinstance(made.body, bytes)
    assert hashlib.sha256(made.body).hexdigest() == dict(made.headers)["X-Hash"]


@pytest.mark.parametrize("other", [{"team": "u"}, {"q": "b"}, {"h": "i"}, {"n": 2}, {"n": True}, {"n": "1"}])
def test_what_differs_is_no_batch(other: dict[str, Json]) -> None:
    """Calls that differ in more than the list are not sent as one: nobody's value is lost."""
    with pytest.raises(Unfit, match="differ in more than ids"):
        files({}, other)


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("kind", FILES.json),
        ("none", FILES.json),
        ("deep.n", FILES.json),
        ("ids", ["{id}"]),
        ("ids", None),
        ("ids", {"ids": "{id}"}),
    ],
)
def test_only_a_list_is_joined(field: str, body: Json) -> None:
    """The field has to be a list at the top of a JSON body."""
    with pytest.raises(Unfit, match=f"^{field} in the body of retry is .*, expected a list$"):
        files({}, {}, shape=Shape(method="POST", path="/x", json=body), field=field)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(method="POST", path="/x", headers={"Idempotency-Key": "{call.id}"}, json=FILES.json),
        Shape(method="POST", path="/x", json={"ids": ["{id}"], "key": "{call.id}"}),
    ],
)
def test_a_batch_has_no_key(shape: Shape) -> None:
    """A key belongs to one call: what says it goes alone."""
    with pytest.raises(Unfit, match="a batch is several calls"):
        files({}, {}, shape=shape)


# -- lists --


def test_a_page_of_a_list() -> None:
    """The list's own query, what its values fill, and which page: each once, encoded, and signed."""
    one = listing(
        shape=Shape(
            method="GET",
            path="/v1/{team}/events",
            query={"topic": "job:failed", "since": "{since}", "page": 1, "gone": "{gone}"},
            headers={"X-Hooks": "true"},
        )
    )
    seen = provider(auth=Auth(headers={"X-Signed": "{params}"}))
    values: dict[str, Json] = {"team": "a b", "since": "2024-01-15T09:30:00Z"}

    made = listing_request(seen, one, values, {"page": "2", "after": "x&y"}, NOW)

    assert ("GET", b"") == (made.method, made.body)
    path, _, query = made.url.partition("?")
    assert "https://api.example.com/v1/a%20b/events" == path
    assert [
        ("topic", "job:failed"),
        ("since", "2024-01-15T09:30:00Z"),
        ("page", "2"),
        ("after", "x&y"),
    ] == parse_qsl(query)
    headers = dict(made.headers)
    assert "after=x&y&page=2&since=2024-01-15T09:30:00Z&topic=job:failed" == headers["X-Signed"]
    assert "true" == headers["X-Hooks"]


def test_a_lists_values_are_checked() -> None:
    """What a watch gives to a list is read like what a rule gives to an action."""
    one = listing(values={"team": Value(), "n": Value(type="integer", optional=True)})
    assert {"team": "7"} == checked(one, {"team": 7})
    with pytest.raises(Unfit, match="team is missing"):
        checked(one, {})
    with pytest.raises(Unfit, match="x is no value of failed_jobs"):
        checked(one, {"team": "t", "x": 1})


def test_a_list_has_no_call_id() -> None:
    """Pages are reads: no key is theirs."""
    one = listing(shape=Shape(method="GET", path="/x", headers={"X": "{call.id}"}))
    with pytest.raises(Unfit, match=r"^call\.id is missing$"):
        listing_request(provider(), one, {}, {}, NOW)
