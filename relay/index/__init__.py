"""
Which of many patterns does this data meet?

Each alternative of a pattern waits at one field, the one that fewest others share. Data is walked once, along
those of its keys that patterns ask for; each value says by look-ups who waits for it, and only those are
judged. Where many wait at one place they are judged together: for each path one set of those that fail there,
as bits. So an answer costs by the data and by what it meets, not by the patterns that it does not meet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.event import Around, Json
from relay.index.many import SPARSE, Met, as_bits, bits, numbers
from relay.index.wait import FEW, Node, Place, Waiting
from relay.match import Pattern
from relay.match.tangle import MOST_STEPS, TooMuch

MOST_WORK: Final = 20 * MOST_STEPS
"""Steps through arrays for one answer, some two seconds' worth; what is left after that is not judged."""


@dataclass(slots=True)
class _Sight:
    """What the patterns' paths lead to in one piece of data."""

    data: Json
    around: Around
    left: int  #: of the steps for one answer
    unjudged: set[int]  #: patterns for which too few steps were left
    values: dict[Place, list[Json]] = field(default_factory=dict)
    inside: set[Place] = field(default_factory=set)  #: with values that stand in elements of arrays
    steps: int = 0  #: through arrays
    forked: bool = False  #: one path is written in two ways: "a.b" beside "a"


class Index:
    """*patterns*, made ready to be met all at once."""

    __slots__ = (
        "_apart", "_around", "_extra", "_layers", "_limits",
        "_patterns", "_root", "_unsure", "_untied", "_waiters",
    )  # fmt: skip

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        made = Waiting(self._patterns)
        self._root, self._around = made.root, made.around
        self._waiters = made.waiters
        self._layers, self._extra = made.layers, made.extra
        self._untied = bits(made.untied)
        self._apart = bits(set(range(len(made.waiters))).difference(made.crowded))
        self._unsure = bits(made.unsure)
        self._limits = sorted((limit, bits(held)) for limit, held in made.limits.items())

    def met(
        self,
        data: Json,
        around: Around = Around(),  # noqa: B008 - it is a value
        unjudged: set[int] | None = None,
    ) -> Sequence[int]:
        """
        Return the positions of the patterns that *data* meets, ascending.

        Those that *data* is too tangled for are not met, and are added to *unjudged*.
        """
        sight = _Sight(data, around, MOST_WORK, set() if unjudged is None else unjudged)
        _walk(self._root, data, sight)
        if self._around.ways:
            _walk(self._around, dict(around.envelope), sight)
        few: list[int] = []
        many = self._untied
        came = []
        for place, values in sight.values.items():
            if place.waiting is not None:
                found = place.waiting.hits(values, few)
                if found:
                    many = many | found if many else found
                    came.append(place)
        if len(few) > 4 * FEW:
            came = [place for place in sight.values if place.waiting is not None]
            many |= bits(few)
            few = []
        sure = 0
        if many:
            loose = many
            # To count a large set's bits is dear; where sets are large, those of few are kept as lists.
            if len(self._waiters) > FEW * SPARSE or many.bit_count() > FEW:
                loose = many & self._apart
                sure, doubtful = self._reduced(many ^ loose if loose else many, came, sight)
                loose |= doubtful
            few += numbers(loose)
        owners = self._judged(few, sight)
        if not sure:
            return sorted(owners)
        owned = self._owned(sure)
        return Met(owned | bits(owners) if owners else owned)

    def _reduced(self, many: int, came: list[Place], sight: _Sight) -> tuple[int, int]:
        """Take those out of *many* crowded candidates that fail; return the sure and the doubtful ones."""
        began, once, twice = many, 0, 0
        if len(sight.inside) > 1:
            for place in sight.inside:
                here = as_bits(place.all)
                twice |= once & here
                once |= here
        for place, values in sight.values.items():
            if not place.shared:
                continue
            few: list[int] = []
            passed = 0 if place.rest is None else place.rest.hits(values, few)
            if few:
                passed |= bits(few)
            if twice and place in sight.inside:
                passed |= twice & as_bits(place.absent)
            if isinstance(place.shared, int):
                many &= ~(place.shared & ~passed)
            else:
                many &= ~bits([one for one in place.shared if not passed >> one & 1])
        for place in came:
            for other, needing in place.needs:
                if other not in sight.values:
                    many &= ~as_bits(needing)
        if sight.forked or (many is not began and many.bit_count() <= FEW):
            return 0, many
        doubtful = many & (self._unsure | twice) if self._unsure or twice else 0
        for limit, held in self._limits:
            if limit >= sight.steps:
                break
            doubtful |= many & held
        return many ^ doubtful if doubtful else many, doubtful

    def _judged(self, few: list[int], sight: _Sight) -> set[int]:
        """Judge alternatives one by one; return the patterns that are met."""
        owners: set[int] = set()
        waiters, values, inside = self._waiters, sight.values, sight.inside
        for number in few:
            one = waiters[number]
            if one.owner in owners:
                continue
            tangled = len(inside) > 1 and sum(place in inside for place in one.places) > 1
            if tangled or sight.forked or sight.steps > one.limit:
                if self._meets(one.owner, sight):
                    owners.add(one.owner)
                continue
            for place, asked in one.rest:
                here = values.get(place)
                if not (asked.absent if here is None else any(map(asked.accepts, here))):
                    break
            else:
                owners.add(one.owner)
        return owners

    def _meets(self, owner: int, sight: _Sight) -> bool:
        """Say what the pattern says, and what it took to say so."""
        pattern = self._patterns[owner]
        if sight.left < 0:
            sight.unjudged.add(owner)
            return False
        walk = pattern.walk(sight.data, sight.around)
        try:
            return any(one.met(walk) for one in pattern.alternatives)
        except TooMuch:
            sight.unjudged.add(owner)
            return False
        finally:
            sight.left -= MOST_STEPS - walk.left

    def _owned(self, alternatives: int) -> int:
        """Return the patterns of *alternatives*, as bits."""
        count = len(self._patterns)
        if len(self._waiters) == count:
            return alternatives
        whole = (1 << count) - 1
        owners = 0
        for start in self._layers:
            owners |= alternatives >> start & whole
        rest = alternatives >> self._extra
        return owners | bits(self._waiters[self._extra + number].owner for number in numbers(rest))


def _walk(root: Node, data: Json, sight: _Sight) -> None:
    """Collect the values at all paths from *root* on; each part of the data is seen at most once a path."""
    if not isinstance(data, dict | list):
        return
    values = sight.values
    ahead: list[tuple[Node, dict[str, Json] | list[Json], bool]] = [(root, data, False)]
    for node, here, inside in ahead:
        if isinstance(here, dict):
            ways = node.ways
            if len(here) <= len(ways):
                found = [(ways[key], inner) for key, inner in here.items() if key in ways]
            else:
                found = [(way, here[key]) for key, way in ways.items() if key in here]
            sight.steps += inside
            if node.dotted and len(found) > 1:
                sight.forked = sight.forked or _forked(here, ways)
        else:
            found = [(node, inner) for inner in here]
            sight.steps += len(here)
        deep = inside or isinstance(here, list)
        for way, inner in found:
            if isinstance(inner, dict | list):
                ahead.append((way, inner, deep))
            elif way.place is not None:
                place = way.place
                if place in values:
                    values[place].append(inner)
                else:
                    values[place] = [inner]
                if inside:
                    sight.inside.add(place)


def _forked(here: Mapping[str, Json], ways: Mapping[str, Node]) -> bool:
    """Say whether *here* one key begins another that has a dot, so that one path may lead through both."""
    keys = here if len(here) <= len(ways) else ways
    for key in keys:
        if "." in key and key in here and key in ways:
            names = key.split(".")
            if any(".".join(names[:i]) in here for i in range(1, len(names))):
                return True
    return False
