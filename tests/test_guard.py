"""Which heads of requests are let in?  The judgement alone, without a socket."""

import pytest

from relay.errors import Rejected
from relay.web.guard import Asked, check, oddity

HOST = (b"host", b"relay.example.com")


def status(
    *,
    target: bytes = b"/livez",
    method: str = "GET",
    hosts: tuple[str, ...] = (),
    headers: list[tuple[bytes, bytes]] | None = None,
) -> int:
    """Return what a request would be refused with; 0: nothing."""
    try:
        check(Asked(method=method, target=target, headers=[HOST] if headers is None else headers), hosts)
    except Rejected as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/livez",
        b"/hooks/writer",
        b"/hooks/writer/",
        b"/hooks/writer?x=//../%00",
        b"/hooks/docflow/to-ken_1.2~3",
        b"/hooks/x/a%20b",
        b"/hooks/x/%C3%A4",
        b"/hooks/x/a:b@c;d=1,$&'()*+!",
        b"/hooks/...",
        b"/hooks/.well-known",
        b"/hooks/a..b",
        b"/hooks/%25",
        b"/hooks/%2525",
        b"/api/v1/cases/..%2F..%2Fv1%2Ffiles/retry",
        b"/api/v1/cases/C%3A%5Cfiles",
    ],
)
def test_a_path_in_normal_form_is_let_in(target: bytes) -> None:
    """Whatever a path may say, as long as it says it in one way."""
    assert "" == oddity(target)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"livez",
        b"@google.com/livez",
        b"relay:443",
        b"?x",
        b"//livez",
        b"//evil.example/livez",
        b"/livez//",
        b"///",
        b"/hooks//writer",
        b"/.",
        b"/..",
        b"/./livez",
        b"/../livez",
        b"/hooks/../api/v1/cases",
        b"/hooks/..",
        b"/hooks/.",
        b"/..;/api/v1/cases",
        b"/hooks/..;a=1/api",
        b"/.;/api",
        b"/%2e/api",
        b"/%2E%2E/api",
        b"/.%2e/api",
        b"/%2e./api",
        b"/hooks/%2e%2e%2fapi",
        b"/hooks/..%2fapi/v1/cases",
        b"/hooks%2f..%2fapi/v1/cases",
        b"/api%2fv1%2fcases",
        b"/api%2Fv1/cases",
        b"/%61pi/v1/cases",
        b"/ap%69/v1/cases",
        b"/hooks/%77riter",
        b"/hooks/a%2Db",
        b"/hooks/a%5F",
        b"/hooks/a%7E",
        b"/hooks/writer%00",
        b"/%00",
        b"/hooks/a%0d%0aX-A:b",
        b"/hooks/a%09",
        b"/hooks/a%1f",
        b"/hooks/a%7f",
        b"/hooks/a%5cb",
        b"/hooks/..%5c..%5capi",
        b"/hooks\\..\\api",
        b"\\livez",
        b"/\\evil.example",
        b"/hooks/a\\",
        b"/hooks/a%",
        b"/hooks/a%4",
        b"/hooks/%zz",
        b"/hooks/%u0041",
        b"/hooks/a b",
        b"/hooks/a\tb",
        b"/hooks/a\x00",
        b"/hooks/a\x7f",
        b"/hooks/\xc3\xa4",
        b"/hooks/a#b",
        b"/#",
        b"/api/v1/cases/../retry",
        b"/api/v1/cases/%2e%2e/retry",
        b"/api/v1/cases/a%00",
        b"/api/v1/cases//retry",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(target: bytes) -> None:
    """A front end that guards some paths must not see another one than the routes do."""
    assert oddity(target)
    assert 400 == status(target=target)


@pytest.mark.parametrize(
    "target", [b"http://relay.example.com/livez", b"HTTPS://Relay.Example.com/livez?a=b"]
)
def test_the_absolute_form_may_name_the_same_host(target: bytes) -> None:
    """RFC 9112 3.2.2: a server takes it, though only proxies send it."""
    assert 0 == status(target=target)


@pytest.mark.parametrize(
    "target",
    [
        b"http://other.example/livez",
        b"http://relay.example.com:81/livez",
        b"http://a@relay.example.com/livez",
        b"http:///livez",
        b"http://relay.example.com//livez",
        b"http://relay.example.com",
        b"ftp://relay.example.com/livez",
    ],
)
def test_the_absolute_form_may_name_no_other(target: bytes) -> None:
    """One request, one host."""
    assert 400 == status(target=target)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], 400),
        ([b"a", b"b"], 400),
        ([b"a", b"a"], 400),
        ([b""], 400),
        ([b"a, b"], 400),
        ([b"a/b"], 400),
        ([b"u@a"], 400),
        ([b"a:b"], 400),
        ([b"a b"], 400),
        ([b"\xe4"], 400),
        ([b"a"], 0),
        ([b"a.example:8080"], 0),
        ([b"10.0.0.1:80"], 0),
        ([b"[::1]:8080"], 0),
    ],
)
def test_there_is_one_host(hosts: list[bytes], expected: int) -> None:
    """Neither none nor two, and a host's name (RFC 9112 3.2)."""
    assert expected == status(headers=[(b"host", host) for host in hosts])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"relay.example.com", 0),
        (b"RELAY.example.com:8443", 0),
        (b"other.example", 421),
        (b"relay.example.com.evil.example", 421),
        (b"127.0.0.1:8080", 0),
        (b"localhost:8080", 0),
        (b"[::1]", 0),
    ],
)
def test_only_the_names_that_are_allowed_are_answered(host: bytes, expected: int) -> None:
    """If there are any; relay's own machine always reaches it: the shell, and the health check."""
    assert expected == status(headers=[(b"host", host)], hosts=("relay.example.com",))


def test_headers_are_few_and_small() -> None:
    """A hundred, and 32 KiB: both limits are exact."""
    few = [HOST, *[(b"x-%d" % number, b"") for number in range(99)]]
    left = 32 * 1024 - len(b"host: relay.example.com\r\n") - len(b"x: \r\n")

    assert (0, 431) == (status(headers=few), status(headers=[*few, (b"x", b"")]))
    assert [0, 431] == [status(headers=[HOST, (b"x", bytes(left + more))]) for more in (0, 1)]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", 0),
        ("HEAD", 0),
        ("POST", 0),
        ("OPTIONS", 0),
        ("TRACE", 405),
        ("CONNECT", 405),
        ("PROPFIND", 405),
    ],
)
def test_only_plain_methods_pass(method: str, expected: int) -> None:
    """What a route might do with the rest nobody needs to know."""
    assert expected == status(method=method)


@pytest.mark.parametrize(
    ("codings", "expected"),
    [
        ([], 0),
        ([b"chunked"], 0),
        ([b"Chunked"], 0),
        ([b"gzip, chunked"], 501),
        ([b"gzip"], 501),
        ([b"chunked"] * 2, 501),
    ],
)
def test_chunked_is_the_only_transfer_coding(codings: list[bytes], expected: int) -> None:
    """What is sent in another one would be kept as it came, and read by nobody (RFC 9112 6.1)."""
    assert expected == status(headers=[HOST, *((b"transfer-encoding", one) for one in codings)])
