"""What goes out: every value through the encoder of its place, and nothing where it must not be."""

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import orjson
import pytest
from build import JOB, KEY, NOW, action, docflow, provider, rendered, unfit
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from relay.errors import Unfit
from relay.event import Json
from relay.provider import Auth, Provider, Shape, Sign, Upload, Value
from relay.render import request

VECTOR_BODY = b'{"workspace_id":"1234567890","task_id":"1978297791713619968"}'
ANY = Value(type="any")


# -- the path --


def test_a_request_without_a_body() -> None:
    """Flatfile's: an id in the path, the header that it wants, credentials, and no content type."""
    shape = Shape(method="POST", path="/v1/jobs/{job_id}/retry", headers={"X-Disable-Hooks": "true"})
    made = request(provider(), shape, action(), {"job_id": "us_jb_1"}, NOW)

    assert ("POST", "https://api.example.com/v1/jobs/us_jb_1/retry", b"") == (
        made.method,
        made.url,
        made.body,
    )
    assert {
        "Accept": "application/json",
        "X-Disable-Hooks": "true",
        "Authorization": f"Bearer {KEY.reveal()}",
    } == dict(made.headers)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("us_jb_1", "us_jb_1"),
        ("a%20b", "a b"),
        ("a%3Fb%23c%26d%3Be%3Df", "a?b#c&d;e=f"),
        ("%252e%252E", "%2e%2E"),
        ("%40evil.example%3A80", "@evil.example:80"),
        ("%C3%A9%F0%9F%98%80", "é😀"),
        ("...", "..."),
        (".a", ".a"),
        ("~-_.", "~-_."),
        ("12", 12),
        ("%EF%BC%8F", "\uff0f"),
    ],
)
def test_a_segment_is_encoded(expected: str, value: Json) -> None:
    """What is not plain in a path is percent-encoded (RFC 3986 2.3)."""
    assert f"https://api.example.com/v1/jobs/{expected}/retry" == rendered(provider(), {"job_id": value})[0]


@pytest.mark.parametrize(
    "value",
    ["", " ", "\u2003 ", ".", "..", "/", "a/b", "../x", "\\", "a\\b", "a\rb", "a\nb", "a\x00b", "\x7f", "\t"],
)
@pytest.mark.parametrize("spec", [Value(), ANY])
def test_what_is_no_segment_is_refused(value: str, spec: Value) -> None:
    """One value is one segment: never two, never none, never a way up, whatever the value's type."""
    assert unfit(action(values={"job_id": spec}), {"job_id": value})


SHAPES = [
    "/v1/jobs/{job_id}/retry",
    "/{job_id}",
    "/a/{job_id}:retry",
    "/a/.{job_id}",
    "/a/{job_id}.zip/b",
    "/{job_id}/{job_id}",
]


@given(st.text() | st.text(alphabet="./\\%2eEfF@:?#;&= ab\r\n\0"), st.sampled_from(SHAPES))
@example("%2e%2e", "/{job_id}")
@example("..", "/a/.{job_id}")
def test_no_value_moves_the_request(value: str, path: str) -> None:
    """Whatever the value, host and segments are the template's, for both URL libraries that read them."""
    one = action(shape=Shape(method="POST", path=path), values={"job_id": ANY})
    try:
        url = rendered(provider(one), {"job_id": value})[0]
    except Unfit:
        return
    ours = urlsplit(url)
    assert ("https", "api.example.com", "", "") == (ours.scheme, ours.netloc, ours.query, ours.fragment)
    assert [part.replace("{job_id}", value) for part in path.split("/")] == [
        unquote(part) for part in ours.path.split("/")
    ]
    for read in (httpx.URL(url), httpx.URL(str(URL(url, encoded=True)))):
        assert ("api.example.com", ours.path.encode()) == (read.host, read.raw_path)


def test_the_base_url_may_have_a_path() -> None:
    """A provider behind a prefix keeps it, with or without a slash at its end."""
    for base in ("https://h.example/api", "https://h.example/api/"):
        where = provider(base_url=base)
        assert "https://h.example/api/v1/jobs/x/retry" == rendered(where, {"job_id": "x"})[0]


# -- query, headers, bodies --


@given(st.text(), st.booleans(), st.integers(-(1 << 53) + 1, (1 << 53) - 1))
def test_a_query_says_what_was_said(said: str, on: bool, n: int) -> None:
    """Names and values come out of the query as they went in; one without its optional value is left out."""
    query: dict[str, Json] = {"a&b": "x {said}", "on": "{on}", "n": "{n}", "page": 1, "gone": "{gone}"}
    one = action(
        shape=Shape(method="GET", path="/x", query=query),
        values={"said": ANY, "on": ANY, "n": ANY, "gone": Value(optional=True)},
    )
    url = rendered(provider(one), {"said": said, "on": on, "n": n})[0]
    expected = [("a&b", f"x {said}"), ("on", "true" if on else "false"), ("n", str(n)), ("page", "1")]

    assert expected == parse_qsl(url.partition("?")[2], keep_blank_values=True)
    assert "#" not in url


def test_a_provider_speaks_the_same_templates() -> None:
    """Filters and defaults work in requests, too; a default is sent where an optional value is missing."""
    query: dict[str, Json] = {"size": "{size|10}", "to": "{to|upper}", "by": '{to|lower|"us"}'}
    one = action(
        shape=Shape(method="GET", path='/{id|lower}/{to|"us"}', query=query),
        values={"id": Value(), "size": Value(type="integer", optional=True), "to": Value(optional=True)},
    )
    assert "https://api.example.com/ab/us?size=10&by=us" == rendered(provider(one), {"id": "Ab"})[0]
    assert (
        "https://api.example.com/a/Eu?size=5&to=EU&by=eu"
        == (rendered(provider(one), {"id": "a", "size": 5, "to": "Eu"})[0])
    )


@pytest.mark.parametrize("template", ['{v|""}', "{v|trim}", '{v|join:" "}'])
def test_no_filter_makes_an_empty_segment(template: str) -> None:
    """What filters and defaults make is looked at like any other value: never an empty id."""
    values = {"v": Value(type="any", optional=True)}
    one = action(shape=Shape(method="GET", path=f"/x/{template}"), values=values)
    given: dict[str, dict[str, Json]] = {
        '{v|""}': {},
        "{v|trim}": {"v": " "},
        '{v|join:" "}': {"v": ["", ""]},
    }
    assert unfit(one, given[template]).endswith("can't stand in a path")


def test_a_body_has_an_end() -> None:
    """No value makes a request longer than a template may become."""
    one = action(shape=Shape(method="POST", path="/x", json={"v": "{v}"}), values={"v": ANY})
    assert "v is longer than 65536 bytes" == unfit(one, {"v": ["x" * 65_536]})


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nX-Evil: 1", "a\x00b", "é", "\x7f", "\x1b"])
def test_a_header_takes_visible_ascii_only(value: str) -> None:
    """No value begins another header, and none that failed is repeated in the reason."""
    one = action(shape=Shape(method="POST", path="/x", headers={"X-Id": "id {v}"}), values={"v": ANY})
    assert "a header's value holds characters that no header can carry" == unfit(one, {"v": value})
    assert "id a b~" == rendered(provider(one), {"v": "a b~"})[1]["X-Id"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    )
)
def test_json_is_a_tree_and_values_are_its_leaves(value: Json) -> None:
    """A value can't change the structure around it, and keeps its type."""
    one = action(shape=Shape(method="POST", path="/x", json={"ids": ["{v}"], "n": 1}), values={"v": ANY})
    _, headers, body = rendered(provider(one), {"v": value})

    assert "application/json" == headers["Content-Type"]
    assert isinstance(body, bytes)
    assert {"ids": [value], "n": 1} == orjson.loads(body)


def test_writers_body() -> None:
    """Byte for byte what writer-sdk sends."""
    one = action(
        shape=Shape(method="POST", path="/v1/files/retry", json={"file_ids": ["{file_id}"]}),
        values={"file_id": Value(format="uuid")},
    )
    body = rendered(provider(one), {"file_id": "1862f090-a281-48f3-8838-26c1e78b605e"})[2]
    assert b'{"file_ids":["1862f090-a281-48f3-8838-26c1e78b605e"]}' == body


def test_a_body_that_no_json_holds() -> None:
    """A number in a provider's file that is longer than JSON's is a reason, not an error."""
    assert "the body holds what can be no part of JSON" == unfit(
        action(shape=Shape(method="POST", path="/x", json={"n": 1 << 64})), {"job_id": "x"}
    )


def upload(folder: Path | None = Path("/packages")) -> Provider:
    shape = Shape(
        method="POST",
        path="/packages/retry",
        multipart={
            "packageId": "{id}",
            "packageVersion": "v{version}",
            "file": {"file": "{file}", "type": "application/zip"},
            "raw": {"file": "{file}"},
        },
    )
    one = action(shape=shape, values={"id": Value(), "version": Value(), "file": Value(type="file")})
    return provider(one, files=folder)


def test_a_form_with_files() -> None:
    """X-Pkg's: text fields, and files by their place in the provider's folder, not yet opened."""
    _, headers, body = rendered(upload(), {"id": "a&b", "version": 13, "file": "x/a b.zip"})

    path = Path("/packages/x/a b.zip")
    assert (
        Upload(
            fields=(("packageId", "a&b"), ("packageVersion", "v13")),
            files=(("file", path, "application/zip"), ("raw", path, "application/octet-stream")),
            root=Path("/packages"),
        )
        == body
    )
    assert "Content-Type" not in headers  # it holds the boundary, which the client makes


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "..",
        "a//b",
        "a/",
        "/",
        "a\\b",
        "..\\x",
        "./a",
        "a/./b",
        "a\x00b",
        " ",
    ],
)
def test_a_path_never_leaves_the_folder(file: str) -> None:
    """Absolute paths, ways up and empty parts are refused before anything is opened."""
    with pytest.raises(Unfit, match=r"^file "):
        rendered(upload(), {"id": "a", "version": "1", "file": file})


def test_an_upload_needs_a_folder() -> None:
    """Without `files` there is nowhere to upload from."""
    with pytest.raises(Unfit, match="no `files` folder"):
        rendered(upload(None), {"id": "a", "version": "1", "file": "a.zip"})


# -- credentials --


def test_the_documented_signature() -> None:
    """DocFlow's signature of its own example, with the key of the second it is made in."""
    shape = Shape(
        method="POST",
        path="/api/app-api/sip/platform/v2/file/retry",
        json={"workspace_id": "{workspace_id}", "task_id": "{task_id}"},
    )
    one = action(shape=shape, values={"workspace_id": Value(), "task_id": Value()})
    values = {"workspace_id": "1234567890", "task_id": "1978297791713619968"}
    _, headers, body = rendered(docflow(one), values, now=1_700_000_000_999)

    assert VECTOR_BODY == body
    assert "test_app" == headers["x-ti-app-id"]
    assert "1700000000" == headers["x-ti-timestamp"]
    assert "c3e2d3e88867f4f31079a06fa420fa51879d716e44eebf881f546f484a76fff9" == headers["x-ti-signature"]


def test_a_signature_covers_the_parameters_as_they_are_meant() -> None:
    """Parameters are signed sorted by name and not URL-encoded; the path as it is sent."""
    look = Shape(method="GET", path="/a/{v}", query={"z": "1", "b": "x y", "c": "{v}"})
    one = action(shape=look, values={"v": Value()})
    seen = Auth(headers={"X-Signed": "{method} {path} {params} {signature}"}, sign=Sign(key="k", text="t"))
    url, headers, _ = rendered(provider(one, auth=seen), {"v": "a b"})

    assert "https://api.example.com/a/a%20b?z=1&b=x%20y&c=a%20b" == url
    assert headers["X-Signed"].startswith("GET /a/a%20b b=x y&c=a b&z=1 ")


def test_a_raw_token() -> None:
    """X-Pkg's token stands in its header as it is."""
    where = provider(auth=Auth(headers={"Authorization": "{secret.token}"}))
    assert KEY.reveal() == rendered(where, {"job_id": "x"})[1]["Authorization"]


@pytest.mark.parametrize("value", ["{secret.none}", "{job_id}", "{secret.token}\n", "{secret.token} é"])
def test_no_secret_is_in_a_reason(value: str) -> None:
    """Credentials that can't be made say so without showing any."""
    where = provider(auth=Auth(headers={"Authorization": value}))
    with pytest.raises(Unfit) as caught:
        rendered(where, {"job_id": "x"})
    assert KEY.reveal() not in str(caught.value)


def test_values_can_not_ask_for_secrets() -> None:
    """A value is never read as a template: what looks like a placeholder goes out as text."""
    one = action(shape=Shape(method="POST", path=JOB.path, json={"v": "{job_id}"}))
    url, _, body = rendered(provider(one), {"job_id": "{secret.token}"})
    assert "https://api.example.com/v1/jobs/%7Bsecret.token%7D/retry" == url
    assert b'{"v":"{secret.token}"}' == body
