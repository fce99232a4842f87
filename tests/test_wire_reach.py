"""Where connections go: to addresses that were checked, whatever a name server says, and nowhere else."""

import errno
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from build import trial
from wires import (
    HERE,
    LOOPS,
    SHORT,
    Book,
    Server,
    Shot,
    answers,
    call,
    listener,
    request,
    run,
    says,
    serving,
    shoot,
)

from relay.call import Dead, Retry
from relay.judge import judge
from relay.provider import Answer, Fault, Reply, Request
from relay.reach import ANYWHERE, Reach, denied
from relay.send import Sender
from relay.wire import REACH, AiohttpTransport

CASES: dict[str, list[str]] = json.loads((Path(__file__).parent / "data" / "ssrf.json").read_text())
PUBLIC = Reach()
GOOD, OTHER = "140.82.112.3", "1.1.1.1"
ONCE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Dials:
    """Every connect of this process; a public address is stood in for by *provider*, a port of ours."""

    def __init__(self, provider: int | None = None) -> None:
        self.provider = provider
        self.addresses: list[str] = []

    def denied(self) -> list[str]:
        """Return the connects that no call to a public provider may make."""
        return [one for one in self.addresses if denied(one, PUBLIC)]


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Dials:
    """Write down each connect, below asyncio and uvloop; none leaves this machine."""
    it = Dials()
    connect = socket.socket.connect

    def dial(self: socket.socket, address: Any) -> None:
        it.addresses.append(address[0])
        if not ip_address(address[0]).is_loopback:
            if it.provider is None:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            address = ("127.0.0.1", it.provider)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", dial)
    return it


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """Listen on loopback, where nobody may come; at the end nobody has."""
    with closing(listener(100)) as bird:
        yield bird
        bird.setblocking(False)
        with pytest.raises(BlockingIOError):
            bird.accept()


def port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def machine(host: str) -> Sequence[str]:
    """Say what a cloud machine's own getaddrinfo would say, without asking a name server."""
    name = host.lower().rstrip(".")
    known = {
        "localhost": ("127.0.0.1", "::1"),
        "ip6-localhost": ("::1",),
        "metadata.google.internal": ("169.254.169.254",),
        "instance-data": ("169.254.169.254",),
    }
    if name in known:
        return known[name]
    try:
        return [
            str(socket.getaddrinfo(name, 0, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)[0][4][0])
        ]
    except OSError:
        return [OTHER]


def public(url: str) -> httpx.Request:
    """Return a request of a provider without `allow_networks`."""
    wanted = request(url)
    wanted.extensions[REACH] = PUBLIC
    return wanted


async def shot(wanted: httpx.Request, resolver: Book) -> Shot:
    """Send one request of its own."""
    transport = AiohttpTransport(resolver=resolver)
    try:
        return await shoot(transport, wanted)
    finally:
        await transport.aclose()


# -- addresses in the URL, and names for them --


@pytest.mark.parametrize("address", [one for one in CASES["deny"] if "%" not in one])
def test_no_connection_to_a_denied_address(address: str, dials: Dials, canary: socket.socket) -> None:
    """It may stand in the URL, for which no resolver is asked, or come from one: nothing is opened."""
    host = f"[{address}]" if ":" in address else address

    literal = run(shot(public(f"http://{host}:{port(canary)}/"), Book(lambda _: [])))
    named = run(shot(public(f"http://api.example.com:{port(canary)}/"), Book(lambda _: [address])))

    assert (httpx.ConnectError, False) == (named.error, named.sent)
    assert f"address refused: api.example.com is {address}, {denied(address, PUBLIC)}" == named.why
    assert (httpx.ConnectError, False) == (literal.error, literal.sent)
    assert literal.why.startswith("address refused: ")
    assert [] == dials.addresses


def test_a_zone_is_denied_as_a_name_server_says_it(dials: Dials) -> None:
    """Not even a provider on the local link is reached by it."""
    wanted = public("http://api.example.com/")
    wanted.extensions[REACH] = Reach(networks=(ip_network("fe80::/10"),))

    found = run(shot(wanted, Book(lambda _: ["fe80::1%lo"])))

    assert "address refused: api.example.com is fe80::1%lo, an address with a zone" == found.why
    assert [] == dials.addresses


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("host", CASES["hostnames_must_not_reach_loopback"])
def test_no_spelling_reaches_loopback(host: str, loop: str, dials: Dials, canary: socket.socket) -> None:
    """However this machine is called, a call does not get there: no connect, and nobody at the door."""

    async def work() -> Answer:
        sender = Sender(AiohttpTransport(resolver=Book(machine)))
        try:
            return await sender(
                Request(method="POST", url=f"http://{host}:{port(canary)}/", headers=(), timeouts=SHORT)
            )
        finally:
            await sender.close()

    answer = run(work(), loop)

    assert isinstance(answer, Fault)
    assert not answer.sent
    assert [] == dials.addresses


@pytest.mark.parametrize("url", CASES["urls_must_be_rejected_or_stay_on_host"])
def test_no_url_leads_elsewhere(url: str, dials: Dials, canary: socket.socket) -> None:
    """A URL that would get past the check of files reaches nothing but public addresses."""

    async def work() -> None:
        sender = Sender(AiohttpTransport(resolver=Book(machine)))
        try:
            for each in (
                url,
                url.replace("https://", "http://").replace("127.0.0.1", f"127.0.0.1:{port(canary)}"),
            ):
                answer = await sender(Request(method="POST", url=each, headers=(), timeouts=SHORT))
                assert isinstance(answer, Fault)
                assert not answer.sent
        finally:
            await sender.close()

    run(work())

    assert [] == dials.denied()


# -- a name server that lies --


@pytest.mark.parametrize("bad", ["127.0.0.1", "::1", "10.0.0.5", "169.254.169.254", "::ffff:127.0.0.1", "gw"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_bad_address_refuses_all(bad: str, at: int, dials: Dials, canary: socket.socket) -> None:
    """Nobody picks the good ones out of an answer in which somebody has put a bad one."""
    answer = [GOOD, OTHER]
    answer.insert(at, bad)

    found = run(shot(public(f"http://api.example.com:{port(canary)}/"), Book(lambda _: answer)))

    assert found.why.startswith(f"address refused: api.example.com is {bad}, ")
    assert [] == dials.addresses


@pytest.mark.parametrize("loop", LOOPS)
def test_a_name_that_changes_reaches_only_what_was_checked(
    loop: str, dials: Dials, canary: socket.socket
) -> None:
    """1,200 calls, an answer that is good, bad or mixed each time it is given: no connect to a bad one."""
    turns = [[GOOD], ["127.0.0.1"], [GOOD, "127.0.0.1"], ["::1", OTHER], [OTHER, GOOD], ["169.254.169.254"]]
    good = [one for one in turns if not any(denied(each, PUBLIC) for each in one)]

    def lies(_host: str) -> Sequence[str]:
        return turns[len(book.asked) % len(turns)]

    book = Book(lies)

    async def work() -> list[Shot]:
        async with serving(says(ONCE)) as server:
            dials.provider = server.port
            transport = AiohttpTransport(resolver=book)
            try:
                # Half of them under one name, whose answers are kept for a while; half each under its own.
                return [
                    await shoot(transport, public(f"http://{name}.example.com:{port(canary)}/"))
                    for number in range(600)
                    for name in (f"a{number}", "api")
                ]
            finally:
                await transport.aclose()

    shots = run(work(), loop, within_s=120)

    assert [] == dials.denied()
    assert 1_200 == len(shots)
    assert 600 <= len(book.asked)
    went = [one for one in shots if one.error is None]
    assert len(went) == len(dials.addresses) >= 600 * len(good) // len(turns)
    assert all(one.why.startswith("address refused: ") and not one.sent for one in shots if one.error)


def test_what_was_checked_is_what_is_dialled(dials: Dials, canary: socket.socket) -> None:
    """A name is asked for once a connection: no second answer can come between check and use."""
    book = Book(lambda _: [GOOD] if len(book.asked) == 1 else ["127.0.0.1"])

    async def work() -> Shot:
        async with serving(answers) as server:
            dials.provider = server.port
            return await shot(public(f"http://api.example.com:{port(canary)}/"), book)

    assert None is run(work()).error
    assert (["api.example.com"], [GOOD]) == (book.asked, dials.addresses)


# -- a provider's own networks --


def test_a_connection_is_shared_only_by_those_who_may_make_it(dials: Dials) -> None:
    """What one provider's networks let in is in no pool of another's, though host and port are the same."""

    async def work() -> tuple[list[Shot], Server]:
        async with serving(answers) as server:
            transport = AiohttpTransport()
            try:
                return [
                    await shoot(transport, wanted)
                    for wanted in (request(server.url), public(server.url), request(server.url))
                ], server
            finally:
                await transport.aclose()

    (first, second, third), server = run(work())

    assert (None, None) == (first.error, third.error)
    assert (False, "address refused: 127.0.0.1 is this machine itself (allow_networks)") == (
        second.sent,
        second.why,
    )
    assert (1, ["127.0.0.1"]) == (len(server.peers), dials.addresses)


def test_who_does_not_say_reaches_public_addresses() -> None:
    """A request that names no reach has the strictest."""

    async def work() -> Shot:
        async with serving(answers) as server:
            return await shot(httpx.Request("POST", server.url), Book(machine))

    assert "address refused: 127.0.0.1 is this machine itself (allow_networks)" == run(work()).why


@pytest.mark.parametrize("reach", [HERE, ANYWHERE])
def test_a_name_inside_is_reached_where_that_is_allowed(reach: Reach) -> None:
    """Who has a provider in a network of their own says so, and its name is then as good as any."""

    async def work() -> Answer:
        async with serving(answers) as server:
            sender = Sender(AiohttpTransport(resolver=Book(lambda _: ["127.0.0.1"])))
            url = f"http://builds.corp.example:{server.port}/"
            try:
                return await sender(Request(method="POST", url=url, headers=(), timeouts=SHORT, reach=reach))
            finally:
                await sender.close()

    assert isinstance(run(work()), Reply)


def test_a_refused_address_costs_no_try_and_says_why() -> None:
    """It may be the name server's mistake, or ours: the call waits, and a person reads what is missing."""

    async def work() -> Answer:
        sender = Sender(AiohttpTransport(resolver=Book(lambda _: ["10.0.0.5"])))
        try:
            return await sender(
                Request(method="POST", url="https://api.example.com/", headers=(), timeouts=SHORT)
            )
        finally:
            await sender.close()

    answer = run(work())
    outcome = judge(trial(), answer).outcome

    why = "address refused: api.example.com is 10.0.0.5, inside a private network (allow_networks)"
    assert Fault(why=why, sent=False) == answer
    assert isinstance(outcome, Retry)
    assert (why, False) == (outcome.why, outcome.spent)


# -- answers that point elsewhere --


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
@pytest.mark.parametrize(
    "to", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:{port}/", "//[::1]/", "/x"]
)
def test_no_redirect_is_followed(status: int, to: str, dials: Dials, canary: socket.socket) -> None:
    """A 3xx is an answer, and a final one: wherever it points, the credentials don't go there."""
    where = to.format(port=port(canary))
    answer = (
        f"HTTP/1.1 {status} Go\r\nLocation: {where}\r\nRefresh: 0; url={where}\r\nContent-Length: 0\r\n\r\n"
    )

    async def work() -> tuple[Answer, Server]:
        async with serving(says(answer.encode())) as server:
            sender = Sender()
            try:
                return await sender(call(server.url)), server
            finally:
                await sender.close()

    reply, server = run(work())

    assert isinstance(reply, Reply)
    assert (status, 1, ["127.0.0.1"]) == (reply.status, server.got.count(b"POST"), dials.addresses)
    assert Dead(f"{status}: redirects are not followed") == judge(trial(), reply).outcome
