"""Are keys fetched when they are needed, and no oftener?  Against an HTTPS server of our own."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from build import incoming, source
from keyserver import JWKS, KEY, refused, world
from process import Relay, until
from wires import run

from relay import mint
from relay.clock import now_ms
from relay.event import Trust as Known
from relay.load import load
from relay.reach import Reach
from relay.ring import FILE_MS, LARGEST, LEAST_MS, MINUTE_MS, MOST_MS, USUAL_MS
from relay.sign import sign
from relay.verify import verify


def test_keys_are_fetched_once_and_kept() -> None:
    """Believed as soon as they are here; within a minute they are not fetched again, nor said to be new."""

    async def work() -> None:
        async with world() as on:
            assert {} == on.ring.keys
            assert await on.ring.fetch(on.at())
            assert {on.at(): JWKS} == on.ring.keys
            on.now += MINUTE_MS - 1
            assert not await on.ring.fetch(on.at())
            assert ["/certs"] == on.asked
            on.now += 1
            assert await on.ring.fetch(on.at())
            assert ["/certs", "/certs"] == on.asked

    run(work())


def test_a_thousand_unknown_keys_are_one_fetch_a_minute() -> None:
    """Whoever makes up a kid is refused; the first one that is really new is found when its minute comes."""

    async def work() -> None:
        async with world() as on:
            jwt = source(
                name="push", verify="jwt", secrets=(), header="authorization", prefix="Bearer ", keys=on.at(),
                issuers=("x",), audience="y",
            )  # fmt: skip
            now = now_ms()
            stranger = sign(jwt, incoming(b"{}"), now, mint.fresh("ecdsa-p256"))
            for _ in range(1000):
                proof = verify(jwt, stranger, now, on.ring.keys)
                assert on.at() == proof.wants
                await on.ring.fetch(proof.wants)
            assert Known.FAILED is verify(jwt, stranger, now, on.ring.keys).trust
            assert 1 == len(on.asked)
            ours = sign(jwt, incoming(b"{}"), now, KEY)
            assert Known.AUTHENTICATED is verify(jwt, ours, now, on.ring.keys).trust

    run(work())


def test_who_asks_at_the_same_time_shares_one_fetch() -> None:
    """And one that hangs up takes nothing from the others."""

    async def work() -> None:
        async with world() as on:
            on.held = asyncio.Event()
            asking = [asyncio.create_task(on.ring.fetch(on.at())) for _ in range(100)]
            await on.arrived.wait()
            asking[0].cancel()
            on.held.set()
            found = await asyncio.gather(*asking, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert [True] * 99 == found[1:]
            assert ["/certs"] == on.asked

    run(work())


@pytest.mark.parametrize(
    ("headers", "lasts"),
    [
        ([], USUAL_MS),
        (["Cache-Control: public, max-age=19800, must-revalidate"], 19_800_000),
        (["Cache-Control: max-age=19800", "Age: 800"], 19_000_000),
        (["Cache-Control: max-age=19800", "Age: x"], 19_800_000),
        (["Cache-Control: max-age=1"], LEAST_MS),
        (["Cache-Control: max-age=0"], LEAST_MS),
        (["Cache-Control: no-store"], LEAST_MS),
        (["Cache-Control: max-age=999999999"], MOST_MS),
        (["Cache-Control: max-age=99999999999999999999"], USUAL_MS),
        (["Cache-Control: max-age=-1"], USUAL_MS),
        (["Cache-Control: s-maxage=1"], USUAL_MS),
    ],
)
def test_keys_last_as_long_as_is_said(headers: list[str], lasts: int) -> None:
    """Between five minutes and a day, and an hour where nothing is said."""

    async def work() -> None:
        async with world() as on:
            on.headers = headers
            await on.ring.fetch(on.at())
            on.now += lasts - 1
            assert on.at() in on.ring.keys
            on.now += 1
            assert on.at() not in on.ring.keys

    run(work())


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        ("404 Not Found", JWKS, "answered 404"),
        ("301 Moved Permanently", JWKS, "answered 301"),
        ("200 OK", b"<html>sign in</html>", "neither a JWKS nor a certificate in PEM"),
        ("200 OK", b"", "neither a JWKS nor a certificate in PEM"),
        ("200 OK", b"{" + b" " * LARGEST, f"more than {LARGEST} bytes"),
        ("200 OK", b"{" + b" " * (1 << 21), f"more than {LARGEST} bytes"),
    ],
)
def test_what_can_not_be_had_is_503_and_said_once(status: str, answer: bytes, why: str) -> None:
    """The delivery may be genuine; the next try is a minute later, and nothing is asked or said meanwhile."""

    async def work() -> None:
        async with world() as on:
            on.status, on.answer = status, answer
            assert why == await refused(on, on.at())
            assert "" == await refused(on, on.at())
            assert (1, {}) == (len(on.asked), on.ring.keys)
            on.status, on.answer, on.now = "200 OK", JWKS, on.now + MINUTE_MS
            assert await on.ring.fetch(on.at())

    run(work())


def test_the_largest_list_is_taken() -> None:
    """As long as the limit, and not one byte more."""

    async def work() -> None:
        async with world() as on:
            on.answer = JWKS + b" " * (LARGEST - len(JWKS))
            assert await on.ring.fetch(on.at())

    run(work())


def test_keys_that_are_held_stay_when_a_fetch_fails() -> None:
    """They are believed for their time; who brings an unknown one is told to come again."""

    async def work() -> None:
        async with world() as on:
            await on.ring.fetch(on.at())
            on.status, on.now = "500 Oops", on.now + MINUTE_MS
            assert "answered 500" == await refused(on, on.at())
            assert {on.at(): JWKS} == on.ring.keys

    run(work())


def test_only_https_to_public_addresses_by_their_names() -> None:
    """No plain HTTP, no host of one's own network, no certificate of another name, no redirect."""

    async def work() -> None:
        async with world(Reach()) as on:
            assert "127.0.0.1" in await refused(on, on.at())
            assert [] == on.asked
        async with world() as on:
            assert "not an https address" == await refused(on, on.at().replace("https", "http"))
            assert "not an https address" == await refused(on, "ftp://keys.example/certs")
            assert "certificate" in await refused(on, on.at(host="other.example"))
            assert [] == on.asked

    run(work())


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """It is read again when it may have changed, and does not count as a fetch."""
    file = tmp_path / "keys.json"

    async def work() -> None:
        async with world() as on:
            assert "no such file or directory" == await refused(on, f"file:{file}")
            file.write_bytes(JWKS)
            on.now += FILE_MS
            assert await on.ring.fetch(f"file:{file}")
            assert {f"file:{file}": JWKS} == on.ring.keys
            assert not await on.ring.fetch(f"file:{file}")
            file.write_text(json.dumps({"keys": []}))
            on.now += FILE_MS
            assert {} == on.ring.keys
            assert await on.ring.fetch(f"file:{file}")
            assert [] == json.loads(on.ring.keys[f"file:{file}"])["keys"]
            assert {} == on.ring._spent
            file.unlink()
            on.now += FILE_MS
            # Who takes a file away means it.
            assert "no such file or directory" == await refused(on, f"file:{file}")
            assert {} == on.ring.keys

    run(work())


def test_a_relay_without_the_keys_asks_to_come_again(tmp_path: Path) -> None:
    """503 with Retry-After, and a line that says why; as soon as the keys are there, the same is taken."""
    address = f"file:{tmp_path / 'keys.json'}"
    (tmp_path / "rules.toml").write_text(
        f'[source.push]\nverify = "jwt"\nkeys = "{address}"\nissuer = "x"\naudience = "y"\n'
    )
    push = load(tmp_path / "rules.toml", {}).sources["push"]
    relay = Relay(tmp_path, {}, "--port", "0", "--grace", "1")
    try:
        url = f"{relay.url}/hooks/push"

        def posted(key: bytes) -> httpx.Response:
            shown = sign(push, incoming(b"{}"), now_ms(), key)
            headers = {name: values[0] for name, values in shown.headers.items()}
            return httpx.post(url, content=b"{}", headers=headers, trust_env=False, timeout=10)

        early = posted(KEY)
        assert (503, True) == (early.status_code, "retry-after" in early.headers)
        assert "no such file or directory" == relay.heard("keys.not_fetched", address=address)[0]["why"]
        assert relay.heard("hook.refused", why="keys_not_fetched")
        (tmp_path / "keys.json").write_bytes(JWKS)
        until(lambda: posted(KEY).status_code in {200, 202}, "the keys are known")
        assert 401 == posted(mint.fresh("ecdsa-p256")).status_code
        assert relay.heard("hook.refused", why="unknown_key")
        assert 0 == relay.end()
    finally:
        if relay.process.poll() is None:
            relay.process.kill()
            relay.ended()
