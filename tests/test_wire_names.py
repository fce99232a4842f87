"""What a connection to a checked address still says and asks for: the name."""

import ssl

import httpx
import pytest
from wires import Book, Server, Shot, Trust, answers, request, run, serving, shoot

from relay.wire import AiohttpTransport, system_trust


def test_the_name_is_shown_and_asked_for() -> None:
    """The connection goes to the address; TLS and Host speak of the name, which the certificate shows."""
    trust = Trust()
    seen: list[str | None] = []

    async def work() -> tuple[Shot, Server]:
        theirs = trust.server("api.example.com")
        theirs.sni_callback = lambda _socket, name, _context: seen.append(name)
        async with serving(answers, theirs) as server:
            transport = AiohttpTransport(
                tls=trust.client(),
                resolver=Book(lambda host: ["127.0.0.1"] if host == "api.example.com" else []),
            )
            try:
                return await shoot(transport, request(f"https://api.example.com:{server.port}/")), server
            finally:
                await transport.aclose()

    shot, server = run(work())

    assert (None, 200) == (shot.error, shot.status)
    assert ["api.example.com"] == seen
    assert f"\r\nHost: api.example.com:{server.port}\r\n".encode() in server.got


@pytest.mark.parametrize("what", ["expired", "another name", "a stranger", "TLS 1.1"])
def test_who_can_not_show_the_name_gets_nothing(what: str) -> None:
    """A pinned address is no proof: the certificate is checked as ever, and old TLS is not spoken."""
    trust = Trust()
    theirs = trust.server(
        "other.example" if what == "another name" else "api.example.com", expired=what == "expired"
    )
    if what == "TLS 1.1":
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            theirs.maximum_version = ssl.TLSVersion.TLSv1_1
        theirs.set_ciphers("ALL:@SECLEVEL=0")

    async def work() -> tuple[Shot, Server]:
        async with serving(answers, theirs) as server:
            ours = (Trust() if what == "a stranger" else trust).client()
            transport = AiohttpTransport(tls=ours, resolver=Book(lambda _: ["127.0.0.1"]))
            try:
                return await shoot(transport, request(f"https://api.example.com:{server.port}/")), server
            finally:
                await transport.aclose()

    shot, server = run(work())

    assert (httpx.ConnectError, False, 0) == (shot.error, shot.sent, server.got.count(b"POST"))
    assert what == "TLS 1.1" or shot.why.startswith("certificate: ")


def test_our_own_settings_speak_no_old_tls() -> None:
    """TLS 1.2 is the oldest, names are checked, and a certificate has to be there."""
    ours = system_trust()

    assert ours.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert (True, ssl.CERT_REQUIRED) == (ours.check_hostname, ours.verify_mode)
