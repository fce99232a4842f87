"""
Do values that stand in arrays meet several fields together?

All fields of one match come from the same element of each array. Fields are judged in the order of their
paths: the first whose value stands within an element chooses it, and from then on absence is judged in that
element only; before, in all. A value that stands in an array as it is, not within an object, chooses nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relay.condition import Scene
from relay.event import Json
from relay.match.pattern import Field

MOST_STEPS: Final = 84_000
"""For one answer, a tenth of a second's worth: 20,000 objects of which three fields are asked, say."""

_NESTS: Final = (dict, list)
_KINDS: Final = frozenset[type](_NESTS)


class TooMuch(Exception):
    """The data asks for more steps than `MOST_STEPS`."""


@dataclass(slots=True)
class Walk:
    """One way through one piece of data, as far as its steps go."""

    scene: Scene
    left: int = MOST_STEPS
    hollow: str = "nothing"  #: what stands at the path, if no value does

    def again(self) -> "Walk":
        """Return a fresh way through the same."""
        return Walk(self.scene)

    def pay(self, steps: int = 1) -> None:
        """Take *steps*; raises `TooMuch`."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch

    def takes(self, one: Field, value: Json) -> bool:
        """Say whether a field takes a *value* that no array is around; raises `TooMuch`."""
        if one.size and isinstance(value, str):
            self.pay(one.size * len(value) >> 8)
        return one.judge(self.scene)(value) if one.given else one.accepts(value)

    def values(self, one: Field) -> Iterator[Json]:
        """Yield all values at a field's path."""
        return self._down(one, self.scene.envelope if one.envelope else self.scene.data, 0)

    def _down(self, one: Field, node: Json, at: int) -> Iterator[Json]:
        steps = one.steps[at]
        self.pay()
        if isinstance(node, dict):
            for key, to in steps:
                if key in node:
                    yield from self._down(one, node[key], to)
            self.hollow = self.hollow if steps else "an object"
        elif isinstance(node, list):
            if not steps:
                self.hollow = "an empty list"
            for inner in node:
                if not steps or isinstance(inner, _NESTS):
                    yield from self._down(one, inner, at)
        elif not steps:
            yield node


class _Knot:
    """One position on the paths of several fields, which are bits of a mask."""

    __slots__ = ("ends", "kids", "mask")

    def __init__(self) -> None:
        self.mask = 0  #: the fields whose paths lead through here
        self.ends = 0  #: those whose paths end here
        self.kids: dict[str, _Knot] = {}


class Tangle:
    """Some fields of one alternative, numbered as it numbers them, laid over each other."""

    __slots__ = ("_bits", "_fields", "_root")

    def __init__(self, fields: Mapping[int, Field]) -> None:
        self._root = _Knot()
        self._bits: dict[int, int] = {}
        self._fields: dict[int, Field] = {}
        knots = {"": self._root}
        for order, number in enumerate(sorted(fields, key=lambda number: fields[number].path)):
            one, bit = fields[number], 1 << order
            self._bits[number], self._fields[bit] = bit, one
            names = one.path.split(".")
            ways = ["", *(f".{'.'.join(names[:i])}" for i in range(1, len(names) + 1))]
            for at, way in enumerate(ways):
                knot = knots.setdefault(way, _Knot())
                knot.mask |= bit
                for key, to in one.steps[at]:
                    knot.kids[key] = knots.setdefault(ways[to], _Knot())
            knots[ways[-1]].ends |= bit

    def meets(self, walk: Walk, wanted: set[int]) -> bool:
        """Say whether the *wanted* fields are met together; raises `TooMuch`."""
        bits = [self._bits[number] for number in wanted]
        active = sum(bits)
        envelope = next(self._fields[bit].envelope for bit in bits)
        judges = {bit: self._fields[bit].judge(walk.scene) for bit in bits}
        fields = {bit: self._fields[bit] for bit in bits}
        must = sum(bit for bit in bits if not self._fields[bit].absent)
        search = _Search(walk, judges, fields)
        root = walk.scene.envelope if envelope else walk.scene.data
        return search.goes(root, self._root, active, must, 0, 0)


@dataclass(slots=True)
class _Search:
    """
    Look for values that meet all *active* fields together.

    Of these, those in *must* are met by a value only, others also by absence.
    *has* and *got* are known from the arrays around a node at the same position: which of the fields that end
    there have a value, and which an accepted one.
    """

    walk: Walk
    judges: Mapping[int, Callable[[Json], bool]]
    fields: Mapping[int, Field]

    def goes(self, node: Json, knot: _Knot, active: int, must: int, has: int, got: int) -> bool:
        """Say whether all active fields are met at and below *node*."""
        self.walk.pay(4)
        if isinstance(node, dict):
            return self._object(node, knot, active, must, has, got)
        if isinstance(node, list):
            return self._array(node, knot, active, must, has, got)
        return self._value(node, knot, active, must)

    def _value(self, node: Json, knot: _Knot, active: int, must: int) -> bool:
        here = active & knot.ends
        if must & ~here:
            return False
        return all(self._accepts(bit, node) for bit in _bits(here))

    def _accepts(self, bit: int, value: Json) -> bool:
        one = self.fields[bit]
        self.walk.pay(one.price + (one.size * len(value) >> 8 if isinstance(value, str) else 0))
        return self.judges[bit](value)

    def _some(self, bit: int, values: Sequence[Json]) -> bool:
        one, judge = self.fields[bit], self.judges[bit]
        if one.size:
            return any(self._accepts(bit, value) for value in values)
        most = self.walk.left // one.price + 1
        taken = next((n for n, value in enumerate(islice(values, most), 1) if judge(value)), 0)
        self.walk.pay(one.price * (taken or min(most, len(values))))
        return taken > 0

    def _object(self, node: dict[str, Json], knot: _Knot, active: int, must: int, has: int, got: int) -> bool:
        if here := active & knot.ends:
            if not _settled(here, must, has, got):
                return False
            active &= ~here
        seen = twice = 0
        ways: list[tuple[Json, _Knot, int]] = []
        for key, kid in knot.kids.items():
            if (part := active & kid.mask) and key in node:
                ways.append((node[key], kid, part))
                twice |= seen & part
                seen |= part
        if must & active & ~seen:
            return False
        if twice:
            return self._many(ways, twice, must)
        for child, kid, part in ways:
            if isinstance(child, _NESTS):
                if not self.goes(child, kid, part, must & part, 0, 0):
                    return False
            elif not self._value(child, kid, part, must & part):
                return False
        return True

    def _many(self, ways: list[tuple[Json, _Knot, int]], twice: int, must: int) -> bool:
        """Try each way for the first field that has several, and none of them."""
        self.walk.pay()
        if not twice:
            return all(self.goes(child, kid, part, must & part, 0, 0) for child, kid, part in ways if part)
        bit = twice & -twice
        rest = twice & ~bit
        for chosen, way in enumerate(ways):
            if way[2] & bit:
                left = [
                    (child, kid, part if n == chosen else part & ~bit)
                    for n, (child, kid, part) in enumerate(ways)
                ]
                if self._many(left, rest, must | bit):
                    return True
        return not must & bit and self._many(ways, rest, must)

    def _array(self, node: list[Json], knot: _Knot, active: int, must: int, has: int, got: int) -> bool:
        self.walk.pay(len(node) // 16)
        kinds = set(map(type, node))
        nests: list[Json] = [one for one in node if isinstance(one, _NESTS)] if kinds & _KINDS else []
        ends = active & knot.ends
        if ends and kinds - _KINDS:
            has |= ends
            bare = [one for one in node if not isinstance(one, _NESTS)] if nests else node
            for bit in _bits(ends & ~got):
                got |= bit if self._some(bit, bare) else 0
        if active == must:  # nothing may be absent: what is met here needs no element
            rest = active & ~got
            return not rest or self._one(nests, knot, rest)
        for bit in _bits(active):
            # It chooses an element, with a value within; those after it are judged there.
            later = active & -bit
            for inner in nests:
                if self.goes(inner, knot, later, must & later | bit, has & later & ~bit, got & later & ~bit):
                    return True
            if got & bit:
                continue
            if must & bit or has & bit or self._there(nests, knot, bit):
                return False
        return True

    def _one(self, nests: Sequence[Json], knot: _Knot, active: int) -> bool:
        """Say whether all *active* fields, of which none may be absent, are met in one element."""
        kids = {key: kid for key, kid in knot.kids.items() if kid.mask & active}
        if sum(kid.ends & active for kid in kids.values()) != active or any(
            kid.mask & active & ~kid.ends for kid in kids.values()
        ):
            return any(self.goes(inner, knot, active, active, 0, 0) for inner in nests)
        # Objects of values, as most arrays have them: each is judged in place.
        asked = [(key, bit) for key, kid in kids.items() for bit in _bits(kid.ends & active)]
        for inner in nests:
            self.walk.pay()
            if not isinstance(inner, dict):
                if self.goes(inner, knot, active, active, 0, 0):
                    return True
                continue
            for key, bit in asked:
                if key not in inner:
                    break
                if isinstance(value := inner[key], _NESTS):
                    if not self.goes(value, kids[key], bit, bit, 0, 0):
                        break
                elif not self._accepts(bit, value):
                    break
            else:
                return True
        return False

    def _there(self, nodes: Sequence[Json], knot: _Knot, bit: int) -> bool:
        """Say whether any value stands at the path of a field."""
        for node in nodes:
            self.walk.pay()
            if isinstance(node, dict):
                ways = [way for way in knot.kids.items() if way[1].mask & bit and way[0] in node]
                if any(self._there([node[key]], kid, bit) for key, kid in ways):
                    return True
            elif isinstance(node, list):
                last = knot.ends & bit
                if self._there([one for one in node if last or isinstance(one, _NESTS)], knot, bit):
                    return True
            elif knot.ends & bit:
                return True
        return False


def _settled(here: int, must: int, has: int, got: int) -> bool:
    """Say whether fields that end *here*, where an object stands, are met by what is known around it."""
    return not (here & must & ~got or here & has & ~got)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit
