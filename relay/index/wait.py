"""
Where does each of many patterns wait for data?

Each alternative of a pattern waits at one place, a path, for what fewest others wait for there. Where many
wait for the same, their other fields are known by place, too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay.index.clue import WIDE, Clue, Clues, Kind, Lead, lead
from relay.index.many import Many, packed
from relay.index.sieve import Sieve
from relay.match import Pattern
from relay.match.pattern import Field
from relay.match.tangle import MOST_STEPS

FEW: Final = 8
"""So many candidates at one place are judged one by one."""


class Place:
    """A path that patterns ask for."""

    __slots__ = ("absent", "all", "needs", "rest", "shared", "waiting")

    def __init__(self) -> None:
        self.waiting: Sieve | None = None  #: alternatives that wait here
        self.rest: Sieve | None = None  #: crowded ones that wait elsewhere, and have a field here, too:
        self.shared: Many = 0  #: which they are
        self.absent: Many = 0  #: and which of them may find nothing here
        self.all: Many = 0  #: crowded alternatives with any field here
        self.needs: list[
            tuple[Place, Many]
        ] = []  #: where else those that wait here, crowded, must find a value


class Node:
    """A place on the way along the data: by which keys paths go on, keys with dots among them."""

    __slots__ = ("dotted", "place", "ways")

    def __init__(self) -> None:
        self.ways: dict[str, Node] = {}
        self.dotted = False
        self.place: Place | None = None


@dataclass(slots=True)
class Waiter:
    """An alternative, as it is judged."""

    owner: int
    places: tuple[Place, ...]
    rest: tuple[tuple[Place, Field], ...]  #: the fields that its being a candidate says nothing about
    limit: int  #: after more steps through arrays it must be judged by its pattern, as it has a limit, too


# -- finding places --


@dataclass(slots=True)
class _Fields:
    """What a sieve is made of."""

    found: list[tuple[Clue, int]] = field(default_factory=list)
    other: list[tuple[Clues, int]] = field(default_factory=list)

    def add(self, number: int, clues: Clues, but: Clues | None) -> None:
        self.found += [(clue, number) for clue in clues]
        if but is not None:
            self.other.append((but, number))

    def sieve(self, size: int) -> Sieve | None:
        return Sieve(self.found, self.other, size) if self.found or self.other else None


@dataclass(slots=True)
class _Draft:
    """What is collected for one place until all of it is known."""

    counts: Counter[Clue] = field(default_factory=Counter)
    wide: int = 0
    ranges: int = 0
    waiting: _Fields = field(default_factory=_Fields)
    rest: _Fields = field(default_factory=_Fields)
    shared: list[int] = field(default_factory=list)
    absent: list[int] = field(default_factory=list)
    all: list[int] = field(default_factory=list)
    needs: dict[Place, list[int]] = field(default_factory=dict)

    def count(self, clue: Clue) -> None:
        """Know one more field that is led to by *clue*."""
        kind = clue[0]
        self.counts[clue] += 1
        self.wide += kind in WIDE
        self.ranges += kind is Kind.RANGE

    def weight(self, clue: Clue) -> int:
        """Guess how many fields a value leads to, if it leads to one by *clue*."""
        kind = clue[0]
        if kind in WIDE:
            return self.wide
        return max(self.counts[clue], self.ranges // 8) if kind is Kind.RANGE else self.counts[clue]


_Asked: TypeAlias = tuple[Place, Field, Lead]


class Waiting:
    """Gives every alternative a number and a place to wait at."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.root, self.around = Node(), Node()
        self.places: dict[tuple[str, bool], Place] = {}
        self.drafts: dict[Place, _Draft] = {}
        self.untied: list[int] = []
        self.crowded: list[int] = []
        self.unsure: list[int] = []
        self.limits: dict[int, list[int]] = {}
        self.layers, self.extra, owners = _numbered(patterns)
        asked: list[list[_Asked]] = []
        for owner, nth in owners:
            asked.append([self._asked(one) for one in patterns[owner].alternatives[nth].fields])
        limits = [_limit(one) for one in patterns]
        self.waiters = [
            self._waiter(number, owner, fields, limits[owner])
            for number, ((owner, _), fields) in enumerate(zip(owners, asked, strict=True))
        ]
        for place, draft in self.drafts.items():
            place.waiting, place.rest = draft.waiting.sieve(len(owners)), draft.rest.sieve(len(owners))
            place.shared = packed(draft.shared, len(owners))
            place.absent = packed(draft.absent, len(owners))
            place.all = packed(draft.all, len(owners))
            place.needs = [(other, packed(held, len(owners))) for other, held in draft.needs.items()]

    def _asked(self, one: Field) -> _Asked:
        found = lead(one)
        place = self._place(one.path, around=one.envelope)
        draft = self.drafts[place]
        for clue in found.always:
            draft.count(clue)
        for row in found.either:
            for option in row:
                for clue in option:
                    draft.count(clue)
        draft.wide += found.but is not None
        return place, one, found

    def _place(self, path: str, *, around: bool) -> Place:
        if (path, around) in self.places:
            return self.places[path, around]
        place = self.places[path, around] = Place()
        self.drafts[place] = _Draft()
        nodes = [self.around if around else self.root]
        names = path.split(".")
        for i, name in enumerate(names):
            node = nodes[-1].ways.get(name) or Node()
            for back, before in enumerate(reversed(nodes)):
                before.ways[".".join(names[i - back : i + 1])] = node
                before.dotted = before.dotted or back > 0
            nodes.append(node)
        nodes[-1].place = place
        return place

    def _waiter(self, number: int, owner: int, fields: list[_Asked], limit: int) -> Waiter:
        chosen = [(place, one, self._clues(place, found), found) for place, one, found in fields]
        apart = len({place for place, *_ in chosen}) == len(chosen)
        whole = not apart or any(one.given for _, one, *_ in chosen)
        weights = {
            i: self._weight(place, clues, found.but)
            for i, (place, one, clues, found) in enumerate(chosen)
            if not one.absent
        }
        at = min(weights, key=weights.__getitem__, default=-1)
        sure = at >= 0 and chosen[at][3].sure
        waiter = Waiter(
            owner,
            tuple(place for place, *_ in chosen),
            tuple((place, one) for i, (place, one, *_) in enumerate(chosen) if i != at or not sure),
            -1 if whole else limit,
        )
        if at >= 0:
            place, _, clues, found = chosen[at]
            self.drafts[place].waiting.add(number, clues, found.but)
            if weights[at] <= FEW:
                return waiter
        else:
            self.untied.append(number)
        self.crowded.append(number)
        self.limits.setdefault(waiter.limit, []).append(number)
        if not all(found.sure for *_, found in chosen):
            self.unsure.append(number)
        for i, (place, one, clues, found) in enumerate(chosen):
            draft = self.drafts[place]
            draft.all.append(number)
            if i == at or not apart:
                continue
            draft.rest.add(number, clues, found.but)
            draft.shared.append(number)
            if one.absent:
                draft.absent.append(number)
            elif at >= 0:
                self.drafts[chosen[at][0]].needs.setdefault(place, []).append(number)
        return waiter

    def _clues(self, place: Place, found: Lead) -> Clues:
        """Choose the rarest of each row of options, the longest of equally rare ones."""
        draft = self.drafts[place]

        def cost(option: Clues) -> tuple[int, int]:
            return max((draft.weight(clue) for clue in option), default=0), -len(str(option))

        return found.always + tuple(clue for row in found.either for clue in min(row, key=cost))

    def _weight(self, place: Place, clues: Clues, but: Clues | None) -> int:
        draft = self.drafts[place]
        return max([draft.weight(clue) for clue in clues] + ([] if but is None else [draft.wide]), default=0)


def _limit(pattern: Pattern) -> int:
    """
    Return the steps through arrays up to which *pattern* does not run out of those it has for one answer.

    That is if its fields need not be met together, in arrays up to three deep. It is a power of two.
    """
    cost = sum(
        len(one.fields) ** 3 * (4 + max(asked.price for asked in one.fields)) for one in pattern.alternatives
    )
    if any(asked.size for one in pattern.alternatives for asked in one.fields):
        return -1  # its regexes take steps without arrays, too
    return int(1 << (MOST_STEPS // cost).bit_length() >> 1)


def _numbered(patterns: Sequence[Pattern]) -> tuple[list[int], int, list[tuple[int, int]]]:
    """
    Return layers, the end of the last one, and for each number its pattern and which alternative it is.

    A layer is where the first alternatives of all patterns begin, then the second ones, and so on while many
    have one; a gap in it is the first once more. Behind the last layer are those that only few patterns have.
    """
    layers: list[int] = []
    owners: list[tuple[int, int]] = []
    having, nth = list(range(len(patterns))), 0
    while having and (not nth or len(having) * 4 >= len(patterns)):
        layers.append(len(owners))
        owners += [(i, nth if nth < len(one.alternatives) else 0) for i, one in enumerate(patterns)]
        nth += 1
        having = [i for i in having if len(patterns[i].alternatives) > nth]
    extra = len(owners)
    while having:
        owners += [(i, nth) for i in having]
        nth += 1
        having = [i for i in having if len(patterns[i].alternatives) > nth]
    return layers, extra, owners
