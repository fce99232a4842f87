"""Does what an earlier relay has kept come through?"""

from contextlib import closing
from pathlib import Path

import apsw
from conftest import Door
from test_store import NOW, claim, delivery, done

from relay.call import Call, State
from relay.deed import Plan
from relay.engine import SQLite, migrations
from relay.event import Decision
from relay.store import Store

KNOWN = migrations()[-1][0]

OLD_CALLS = [
    # id, state, due, tries, lease, settled
    ("ca_1", "queued", NOW, 0, None, None),
    ("ca_2", "running", NOW + 60_000, 1, "ls_1", None),
    ("ca_3", "unknown", NOW, 1, None, None),
    ("ca_4", "held", NOW, 0, None, None),
    ("ca_5", "done", NOW, 1, None, NOW + 5),
    ("ca_6", "dead", NOW, 8, None, NOW + 5),
    ("ca_7", "cancelled", NOW, 0, None, NOW + 5),
]


def first_relay(path: Path) -> None:
    """Leave a database as the first relay did: an event, a call in every state, and their tries."""
    with closing(apsw.Connection(str(path))) as old:
        old.execute(migrations()[0][2])
        old.execute("PRAGMA user_version=1")
        old.execute("PRAGMA foreign_keys=ON")
        old.execute(
            "INSERT INTO event VALUES ('ev_1', 'flatfile', 'job:failed', 'd1', 'ab', ?, 'verified', '{}',"
            " x'7b7d', '', 'matched', 'v1')",
            (NOW,),
        )
        old.execute("INSERT INTO seen VALUES ('flatfile', 'id:d1', 'ev_1', ?)", (NOW + 9,))
        old.execute("INSERT INTO gate VALUES ('flatfile', 1, 2, 3, 4, 5, 6, 'refused')")
        for id_, state, due, tries, lease, settled in OLD_CALLS:
            old.execute(
                "INSERT INTO call VALUES (?, 'ev_1', 'flatfile:job 1', 'retry', 'flatfile', 'retry',"
                " '{\"job_id\":1}', ?, 'send', 'so', ?, ?, 2, 3, 'us_jb_2', ?, ?, ?)",
                (id_, state, due, tries, lease, NOW, settled),
            )
            ended = None if state == "running" else NOW + 5
            outcome = None if state == "running" else "retry"
            old.execute(
                "INSERT INTO attempt VALUES (?, 3, 'send', ?, ?, 503, ?, 'so', x'00ff')",
                (id_, NOW, ended, outcome),
            )


def test_a_first_relays_database_keeps_all(tmp_path: Path) -> None:
    """Events, marks, gates, calls in every state and their tries come through; old calls have no case."""
    first_relay(tmp_path / "relay.db")
    with closing(SQLite(tmp_path / "relay.db")) as engine:
        store = Door(engine)
        assert KNOWN == engine._connection.execute("PRAGMA user_version").get
        assert [("ev_1", 7)] == [(row["id"], row["calls"]) for row in store(Store.events)]
        assert "refused" == store(Store.gates)["flatfile"].paused
        again = delivery(9, delivery="d1")
        assert store(Store.record, again, Plan(Decision.NO_RULE), version="", dedupe_ms=1).duplicate
        for (id_, state, due, tries, lease, settled), call in zip(
            OLD_CALLS, store(Store.calls)[::-1], strict=True
        ):
            assert call == Call(
                id=id_, event="ev_1", key="flatfile:job 1", rule="retry", provider="flatfile", action="retry",
                values={"job_id": 1}, state=State(state), why="so", due_at=due, tries=tries, looks=2,
                attempts=3, alias="us_jb_2", lease=lease, created_at=NOW, settled_at=settled,
            )  # fmt: skip
            (attempt,) = store(Store.attempts, id_)
            assert (3, 503, b"\x00\xff") == (attempt.number, attempt.status, attempt.answer)
        assert [] == list(engine._connection.execute("PRAGMA foreign_key_check"))
        assert "ok" == engine._connection.execute("PRAGMA integrity_check").get
        assert [] == store(Store.cases)


def test_an_old_call_ends_as_it_would_have(tmp_path: Path) -> None:
    """What waited is claimed, what was out is swept, and what is settled makes no case."""
    first_relay(tmp_path / "relay.db")
    with closing(SQLite(tmp_path / "relay.db")) as engine:
        store = Door(engine)
        assert ["ca_2"] == store(Store.sweep, NOW, everything=True)
        store(Store.resume)
        held = claim(store, now=NOW + 86_400_000)
        assert ["ca_1"] == [one.call.id for one in held]
        assert done(store, held[0])
        assert ([], State.DONE) == (store(Store.cases), store(Store.calls, id="ca_1")[0].state)
