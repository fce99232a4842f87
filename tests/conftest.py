"""What do tests of several rooms share?  A fresh database of each kind, and a door to its store."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest
from hypothesis import settings

from relay.engine import Engine, SQLite
from relay.store import Store

# A busy machine is no bug: what must be fast is measured in bench/.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")

P = ParamSpec("P")
T = TypeVar("T")


class Door:
    """`relay.keep` without its thread: each method of Store is one transaction, committed on return."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.link = engine.link()

    def __call__(self, method: Callable[Concatenate[Store, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one method of Store and commit it; what it raises undoes it."""
        with self.engine.group(), self.engine.job():
            return method(Store(self.link), *args, **kwargs)


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Open a fresh database of each kind that relay knows."""
    kinds: dict[str, Callable[[], Engine]] = {"sqlite": lambda: SQLite(tmp_path / "relay.db")}
    with closing(kinds[request.param]()) as fresh:
        yield fresh


@pytest.fixture
def store(engine: Engine) -> Door:
    """Return a door to a fresh store."""
    return Door(engine)
