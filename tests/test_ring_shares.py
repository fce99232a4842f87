"""Who may have keys fetched, how often, and how long are they believed?  Nobody starves another."""

import structlog
from build import source
from keyserver import JWKS, refused, world
from wires import run

from relay.ring import A_MINUTE, MINUTE_MS, MOST, SPENT, STALE_MS, USUAL_MS


def test_no_more_than_ten_fetches_a_minute() -> None:
    """Whatever addresses are named: the rest comes again later, and leaves one line and no trace."""

    async def work() -> None:
        async with world() as on:
            for number in range(A_MINUTE):
                assert await on.ring.fetch(on.at(f"/{number}"))
            assert SPENT == await refused(on, on.at("/more"))
            for number in range(1000):
                assert "" == await refused(on, on.at(f"/more/{number}"))
            assert A_MINUTE == len(on.asked)
            assert A_MINUTE == len(on.ring._tried)
            assert not await on.ring.fetch(on.at("/0"))
            on.now += MINUTE_MS
            for number in range(A_MINUTE):
                assert await on.ring.fetch(on.at(f"/more/{number}"))
            assert SPENT == await refused(on, on.at("/again"))

    run(work())


def test_who_names_addresses_takes_nothing_from_others() -> None:
    """Each source has ten a minute; what the operator named is fetched whatever senders name."""

    async def work() -> None:
        async with world() as on:
            one, other = (source(name=name, verify="sns", secrets=()) for name in ("one", "other"))
            push = source(name="push", verify="jwt", secrets=(), keys=on.at("/jwks"))
            on.status = "404 Not Found"
            for number in range(A_MINUTE):
                assert "answered 404" == await refused(on, on.at(f"/{number}"), one)
            assert SPENT == await refused(on, on.at("/more"), one)
            on.status = "200 OK"
            assert await on.ring.fetch(on.at("/jwks"), push)
            assert await on.ring.fetch(on.at("/certs"), other)
            assert A_MINUTE + 2 == len(on.asked)

    run(work())


def test_what_was_good_once_is_renewed_whatever_is_named() -> None:
    """Who makes addresses up can't keep a sender's own certificate from being fetched again."""

    async def work() -> None:
        async with world() as on:
            assert await on.ring.fetch(on.at())
            on.now += USUAL_MS
            for number in range(A_MINUTE):
                await on.ring.fetch(on.at(f"/{number}"))
            assert SPENT == await refused(on, on.at("/more"))
            assert on.at() not in on.ring.keys
            assert await on.ring.fetch(on.at())
            assert on.at() in on.ring.keys

    run(work())


def test_so_many_addresses_are_held() -> None:
    """The one that ends first makes room."""

    async def work() -> None:
        async with world() as on:
            for number in range(MOST + 5):
                on.now += MINUTE_MS // 5
                await on.ring.fetch(on.at(f"/{number}"))
            assert [on.at(f"/{number}") for number in range(5, MOST + 5)] == list(on.ring.keys)

    run(work())


def test_the_operators_keys_make_no_room_for_senders() -> None:
    """However many addresses senders name, and whichever of them ends last."""

    async def work() -> None:
        async with world() as on:
            push = source(name="push", verify="jwt", secrets=(), keys=on.at("/jwks"))
            await on.ring.fetch(on.at("/jwks"), push)
            on.headers = ["Cache-Control: max-age=80000"]
            for number in range(MOST + 5):
                on.now += MINUTE_MS // 10
                await on.ring.fetch(on.at(f"/{number}"))
            assert on.at("/jwks") in on.ring.keys
            assert MOST + 1 == len(on.ring.keys)

    run(work())


def test_keys_that_can_not_be_renewed_are_believed_for_an_hour_more() -> None:
    """Asked for again each minute, with a line; then they are not believed, nor once others are there."""

    async def work() -> None:
        async with world() as on:
            await on.ring.fetch(on.at())
            on.status, on.now = "500 Oops", on.now + USUAL_MS
            for minute in range(STALE_MS // MINUTE_MS):
                assert {} == on.ring.keys
                with structlog.testing.capture_logs() as logs:
                    assert await on.ring.fetch(on.at())
                assert [("answered 500", True)] == [(one["why"], one["still_believed"]) for one in logs]
                assert minute + 2 == len(on.asked)
                assert {on.at(): JWKS} == on.ring.keys
                # Who brings a key that is not among them is told to come again.
                assert "" == await refused(on, on.at())
                on.now += MINUTE_MS
            assert {} == on.ring.keys
            assert "answered 500" == await refused(on, on.at())
            assert {} == on.ring.keys
            on.status, on.answer, on.now = "200 OK", JWKS + b" ", on.now + MINUTE_MS
            assert await on.ring.fetch(on.at())
            assert {on.at(): JWKS + b" "} == on.ring.keys

    run(work())
