"""
Which data does a pattern meet, and if not, why?

The language is that of EventBridge rules: all fields must meet, and for each field one value of its list. A
path looks through arrays: any element will do, but all fields of one match come from the same element of each
array. Only values are seen: an object is none, and ``[]`` is as good as absent; null is a value.

Read as in TOML files:

    status = "failed"                                a single value stands for a list of one
    error.code = [500, { numeric = [">=", 502] }]    dotted keys, nested tables and "error.code" are the same
    parent = [{ exists = false }, { is-null = true }]
    any-of = [{ kind = "job" }, { size.bytes = { numeric = ["<", 9] } }]

There, a table as a field's value is an operator if its only key is an operator's name, else it nests. A field
that is itself called like an operator, or nearly so, is written with its parent in one key:
``"filter.prefix" = "x"``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from relay.condition import Scene, exact, listed, shown
from relay.errors import ConfigError, Problem
from relay.event import Around, Json
from relay.match.pattern import ENVELOPE, MOST_ALTERNATIVES, Field, Reader, loose, slip
from relay.match.sight import Sight, look
from relay.match.tangle import MOST_STEPS, Tangle, TooMuch, Walk

__all__ = [
    "ENVELOPE",
    "MOST_ALTERNATIVES",
    "MOST_STEPS",
    "Alternative",
    "Around",
    "Field",
    "Miss",
    "Pattern",
    "Walk",
]


@dataclass(frozen=True, slots=True)
class Miss:
    """The first condition that failed, in words."""

    path: str
    wanted: str
    saw: str
    near: bool = (
        False  #: it differs only by a slip: letter case, space around it, type ("1" for 1), one letter
    )

    def __str__(self) -> str:
        return f"{self.path}: wanted {self.wanted}, saw {self.saw}"


TOO_MUCH: Final = "more than relay looks through"


class Pattern:
    """
    A pattern, compiled once; raises `ConfigError` with all its problems, keyed within the pattern.

    It is read as strictly as EventBridge reads it, or as *toml*, where what stands alone needs no list. With
    *names*, the data has no others at its top, and a pattern that asks for one is wrong. With *envelope*
    (`ENVELOPE`), fields whose names begin with $ are looked up around the data, and no others are there.
    """

    __slots__ = ("_envelope", "alternatives")

    def __init__(
        self,
        pattern: Mapping[str, Json],
        names: Collection[str] = (),
        *,
        toml: bool = False,
        envelope: Collection[str] = (),
    ) -> None:
        if not isinstance(pattern, Mapping):
            raise ConfigError([Problem(file="", what=f"expected a table, got {shown(pattern)}")])
        reader = Reader(names, envelope, toml=toml)
        alternatives = reader.scope(pattern, (), "", set())
        if reader.problems:
            raise ConfigError(reader.problems)
        self.alternatives = tuple(map(Alternative, alternatives))
        self._envelope = bool(envelope)

    def walk(self, data: Json, around: Around = Around()) -> Walk:  # noqa: B008 - it is a value
        """Return a fresh way through *data*, for `Alternative.failed`."""
        return Walk(Scene(data, dict(around.envelope) if self._envelope else None, around.now))

    def meets(self, data: Json, around: Around = Around()) -> bool:  # noqa: B008
        """Say whether *data* meets the pattern; data too tangled to judge (`MOST_STEPS`) does not."""
        walk = self.walk(data, around)
        try:
            return any(one.met(walk) for one in self.alternatives)
        except TooMuch:
            return False

    def miss(self, data: Json, around: Around = Around()) -> Miss | None:  # noqa: B008
        """Say which condition failed first, in the alternative that came furthest; None: *data* meets."""
        walk, furthest, failed = self.walk(data, around), self.alternatives[0], 0
        for one in self.alternatives:
            try:
                if one.met(walk):
                    return None
            except TooMuch:
                return Miss(one.fields[0].path, one.fields[0].wants(walk.scene), TOO_MUCH)
        for one in self.alternatives:
            walk = self.walk(data, around)
            try:
                index = one.failed(walk)
            except TooMuch:
                index = None
            if index is not None and index > failed:
                furthest, failed = one, index
        return _explain(furthest.fields[failed], walk.scene)


# -- what a compiled pattern consists of --


class Alternative:
    """Fields that must all be met, in the order written."""

    __slots__ = ("_tangles", "fields")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self._tangles: dict[bool, Tangle] = {}

    def met(self, walk: Walk) -> bool:
        """Say whether all fields are met; raises `TooMuch`."""
        tangled, index = self._plain(walk)
        return index is None and (not tangled or self._together(walk, tangled))

    def failed(self, walk: Walk) -> int | None:
        """Return the index of the first field that is not met; raises `TooMuch`."""
        tangled, index = self._plain(walk)
        if index is not None:
            return index
        tangled.sort(key=lambda one: self.fields[one].path)
        if self._together(walk, tangled):
            return None
        fewer = (one for n, one in enumerate(tangled, 1) if not self._together(walk.again(), tangled[:n]))
        return next(fewer, tangled[-1])

    def _plain(self, walk: Walk) -> tuple[list[int], int | None]:
        """Return the fields that are no plain look-up, and the first of the others that is not met."""
        tangled: list[int] = []
        for index, one in enumerate(self.fields):
            value = look(one.steps, walk.scene.envelope if one.envelope else walk.scene.data)
            if value is Sight.TANGLED:
                tangled.append(index)
            elif isinstance(value, Sight):
                if not one.absent:
                    return tangled, index
            elif not walk.takes(one, value):
                return tangled, index
        return tangled, None

    def _together(self, walk: "Walk", wanted: list[int]) -> bool:
        """Say whether the *wanted* fields are met by values that go together."""
        for envelope in (False, True):
            some = {index for index in wanted if self.fields[index].envelope is envelope}
            if some and not self._tangle(envelope).meets(walk, some):
                return False
        return True

    def _tangle(self, envelope: bool) -> Tangle:  # noqa: FBT001
        if envelope not in self._tangles:
            self._tangles[envelope] = Tangle(
                {n: one for n, one in enumerate(self.fields) if one.envelope is envelope}
            )
        return self._tangles[envelope]


def _explain(one: Field, scene: Scene) -> Miss:
    walk = Walk(scene)
    try:
        values = list({exact(value): value for value in walk.values(one)}.values())
    except TooMuch:
        return Miss(one.path, one.wants(scene), TOO_MUCH)
    judge = one.judge(scene)
    alone = any(map(judge, values)) or (one.absent and not values)
    wanted = one.wants(scene)
    saw = listed(map(shown, values), "and") or walk.hollow
    if alone:
        return Miss(one.path, f"{wanted}, in the same array element as the rest", saw)
    return Miss(one.path, wanted, saw, any(_near(value, one.near) for value in values))


def _near(seen: Json, wanted: Collection[str]) -> bool:
    text = loose(seen)
    return text in wanted or (isinstance(seen, str) and any(slip(text, one) for one in wanted))
