"""Does an index find the patterns that data meets, by every kind of look-up, and never by asking them all?"""

from typing import Any

import pytest

from relay.event import Json
from relay.index import Index
from relay.index.many import Met, as_bits, bits, numbers, packed
from relay.index.stab import Range, Stab
from relay.match import Around, Pattern
from relay.match.pattern import ENVELOPE

MANY = 1_000


def index(*tables: dict[str, Any]) -> Index:
    return Index([Pattern(one, toml=True, envelope=ENVELOPE) for one in tables])


OWN: dict[str, Any] = {
    "exact": lambda i: {"name": f"n{i}"},
    "a number": lambda i: {"size": i},
    "exact, with what all share": lambda i: {"type": "x", "name": f"n{i}", "none": {"exists": False}},
    "a list of values": lambda i: {"name": [f"n{i}", f"m{i}", i], "none": {"exists": False}},
    "prefix": lambda i: {"name": {"prefix": f"n{i}"}, "size": i},
    "suffix": lambda i: {"text": {"suffix": f"<{i}>"}},
    "in any case": lambda i: {"name": {"equals-ignore-case": f"N{i}"}},
    "prefix in any case": lambda i: {"text": {"prefix": {"equals-ignore-case": f"[{i}] A"}}},
    "suffix in any case": lambda i: {"text": {"suffix": {"equals-ignore-case": f"Z <{i}>"}}},
    "wildcard with a shared head": lambda i: {"text": {"wildcard": f"[*] a*<{i}>"}},
    "wildcard with a shared tail": lambda i: {"text": {"wildcard": f"[{i}]*>"}},
    "wildcard in the middle": lambda i: {"text": {"wildcard": f"*<{i}>*"}},
    "regex": lambda i: {"text": {"regex": f".* z <{i}>"}},
    "numeric": lambda i: {"size": {"numeric": ["=", i]}},
    "a range": lambda i: {"size": {"numeric": [">", i - 1, "<=", i]}},
    "nested ranges": lambda i: {"size": {"numeric": [">=", i]}, "name": {"anything-but": f"n{i - 1}"}},
    "a block": lambda i: {"ip": {"cidr": f"10.{i >> 8}.{i & 255}.0/24"}},
    "all of": lambda i: {"name": {"all-of": [{"prefix": "n"}, f"n{i}"]}},
    "its own path": lambda i: {f"own.p{i}": True},
    "a choice": lambda i: {"any-of": [{"name": f"n{i}"}, {"size": {"numeric": ["<", -i]}}]},
    "anything but its own": lambda i: {"name": {"anything-but": f"n{i}"}},
    "anything but its own prefix": lambda i: {"text": {"anything-but": {"prefix": f"[{i}]"}}},
    "anything but, twice": lambda i: {"name": {"anything-but": [f"n{i}"]}, "size": {"anything-but": [i + 1]}},
    "wide, with what is not there": lambda i: {"name": {"anything-but": f"n{i}"}, f"own.p{i % 7}": True},
    "wide, with what none has": lambda i: {"name": {"anything-but": f"n{i}"}, "gone": {"anything-but": i}},
    "absence of its own": lambda i: {f"own.p{i}": {"exists": False}},
    "choices that are all met": lambda i: {"any-of": [{"type": {"anything-but": f"{i}"}}, {"type": "x"}]},
    "the envelope": lambda i: {"$source": f"s{i}", "type": {"exists": True}},
    "another field": lambda i: {"size": {"field": ["<", "more"]}, "name": f"n{i}"},
}


def an_event(i: int) -> dict[str, Json]:
    return {
        "type": "x",
        "name": f"n{i}",
        "size": i,
        "more": i + 1,
        "text": f"[{i}] a to z <{i}>",
        "ip": f"10.{i >> 8}.{i & 255}.9",
        "own": {f"p{i}": True},
    }


@pytest.mark.parametrize("name", OWN)
def test_each_kind_of_pattern_is_found_among_its_likes(name: str) -> None:
    """Among patterns that differ in one value, those that meet are found, whatever the value is asked for."""
    patterns = [Pattern(OWN[name](i), toml=True, envelope=ENVELOPE) for i in range(300)]
    made = Index(patterns)
    for i in (0, 7, 123, 299, 300):
        around = Around({"$source": f"s{i}"})
        wanted = [n for n, one in enumerate(patterns) if one.meets(an_event(i), around)]
        assert wanted == list(made.met(an_event(i), around))


@pytest.mark.parametrize("name", OWN)
def test_patterns_that_do_not_meet_are_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among thousands, no more than a handful of fields are judged one by one, whatever the answer's size."""
    made = index(*map(OWN[name], range(MANY)))
    asked = 0

    def count(self: Any, value: Json) -> bool:
        nonlocal asked
        asked += 1
        return accepts(self, value)

    from relay.match.pattern import Field  # noqa: PLC0415 - what is replaced here

    accepts = Field.accepts
    monkeypatch.setattr(Field, "accepts", count)
    made.met(an_event(1234), Around({"$source": "s1234"}))
    assert asked < 50


def test_positions_are_those_of_the_patterns() -> None:
    """The answer has positions, ascending, each once, also if several alternatives of a pattern are met."""
    one = {"any-of": [{"a": 1}, {"b": 1}, {"c": 1}]}
    made = index({"a": 1}, one, {"b": 2}, {"c": {"exists": True}}, one)
    assert [0, 1, 3, 4] == list(made.met({"a": 1, "b": 1, "c": 5}))
    assert [] == list(made.met({"d": 1}))
    assert [] == list(Index([]).met({"d": 1}))


@pytest.mark.parametrize("data", [None, 1, "a", [], {}, [[]], [1, "a"], [{}]], ids=repr)
def test_what_holds_nothing_meets_only_absence(data: Json) -> None:
    """Data without fields meets patterns that want fields away, and no others."""
    made = index({"a": {"exists": False}}, {"a": {"exists": True}}, {"a": {"anything-but": "x"}})
    assert [0] == list(made.met(data))


def test_fields_of_one_match_come_from_one_element() -> None:
    """Where values stand in arrays, a candidate is judged whole, alone or in a crowd."""
    tables = [{"a.b": 1, "a.c": {"anything-but": [100 + i]}} for i in range(30)]
    apart: Json = {"a": [{"b": 1}, {"c": 2}]}
    together: Json = {"a": [{"b": 1, "c": 117}, {"c": 2}]}
    assert [] == list(index(*tables).met(apart))
    assert [i for i in range(30) if i != 17] == list(index(*tables).met(together))
    absent = [{"a.b": {"anything-but": [100 + i]}, "a.c": ["x", {"exists": False}]} for i in range(30)]
    assert [*range(30)] == list(index(*absent).met(apart))


def test_names_with_a_dollar_are_around_the_event() -> None:
    """Fields of the envelope are looked up there, also where the body has the same names."""
    made = index({"$source": "x"}, {"$headers.x-a": "1"}, {"$source": {"exists": False}})
    assert [0, 1] == list(made.met({"$source": "y"}, Around({"$source": "x", "$headers": {"x-a": "1"}})))
    assert [2] == list(made.met({"$source": "x"}))


def test_one_path_in_two_ways() -> None:
    """Keys with dots are nested ones; a path that stands there both ways has two values."""
    made = index({"a.b": 1}, {"a.b": 2}, *({"a.b": {"anything-but": [2, i]}} for i in range(5, 25)))
    assert [0, 1, *range(2, 22)] == list(made.met({"a": {"b": 1}, "a.b": 2}))
    assert [1] == list(made.met({"a.b": 2}))


HOSTILE: dict[str, Any] = {
    "many keys": lambda: {f"k{i}": i for i in range(100_000)},
    "many values": lambda: {"name": [f"x{i}" for i in range(50_000)]},
    "one value many times": lambda: {"name": ["x"] * 100_000},
    "empty lists": lambda: {"name": [[]] * 70_000},
    "objects": lambda: {name: [{"b": i} for i in range(30_000)] for name in ("name", "size")},
    "a long text": lambda: {"name": "x" * 1_000_000, "text": "[a <" * 100_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_event_is_answered_as_by_one_pattern_alone(name: str) -> None:
    """However large the data, the answer is the same, and patterns that it can't meet are not asked."""
    data = HOSTILE[name]()
    tables = [own(i) for own in OWN.values() for i in range(12)] + [
        {"name.b": 7, "size.b": i} for i in range(12)
    ]
    patterns = [Pattern(one, toml=True, envelope=ENVELOPE) for one in tables]
    assert [i for i, one in enumerate(patterns) if one.meets(data)] == list(Index(patterns).met(data))


def test_a_crowd_is_as_easily_tired_as_one_alone() -> None:
    """Where arrays are too long for a pattern to find that nothing stands there, a crowd does not find it."""
    for length, wanted in ((10, 20), (100_000, 0)):
        data: Json = {"a": [{} for _ in range(length)]}
        patterns = [Pattern({"a.b": [{"exists": False}, i]}, toml=True) for i in range(20)]
        assert wanted == sum(one.meets(data) for one in patterns)
        assert wanted == len(Index(patterns).met(data))


def test_work_in_arrays_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that makes many patterns work gets a bounded sum of steps; what is left then is not met."""
    data: Json = {"a": [{"b": i, "c": -1} for i in range(3_000)]}
    made = index(*({"a.b": 2_999, "a.c": {"anything-but": i}} for i in range(50)))
    assert list(range(50)) == list(made.met(data))
    monkeypatch.setattr("relay.index.MOST_WORK", 20_000)
    assert 0 < len(made.met(data)) < 10


def test_a_large_answer_is_told_as_it_is_asked_for() -> None:
    """Nearly all patterns may meet: the answer's length, its first, its last and what is in it are plain."""
    made = index(*({"name": {"anything-but": f"n{i}"}} for i in range(MANY)))
    answer = made.met({"name": "n0"})
    assert isinstance(answer, Met)
    assert (MANY - 1, 1, MANY - 1) == (len(answer), answer[0], answer[-1])
    assert 1 in answer
    assert 0 not in answer
    assert [3, 4] == list(answer[2:4])
    assert next(iter(answer)) == 1
    with pytest.raises(IndexError):
        answer[MANY]
    with pytest.raises(IndexError):
        answer[-MANY]


@pytest.mark.parametrize(
    "some", [[], [0], [3, 9, 4000], list(range(0, 900, 7)), [8, 15, 16, 23, *range(64, 80)]]
)
def test_numbers_are_kept_as_they_came(some: list[int]) -> None:
    """Few or many: what is kept is what is told, in order."""
    assert some == list(numbers(bits(some)))
    few = packed(some, 1_000_000)
    assert tuple(some) == few
    assert bits(some) == as_bits(packed(some, 10)) == as_bits(few)


def test_ranges_are_found_by_what_stands_in_them() -> None:
    """Open and closed ends, ends without an end, and numbers between, at and beyond all ends."""
    ends = [-3, -1.5, 0, 2, 2.5, 7]
    ranges = [
        *(
            Range(low, lo, high, hi)
            for low in ends
            for high in ends
            if low < high
            for lo in (True, False)
            for hi in (True, False)
        ),
        *(Range(low=one, low_open=open_) for one in ends for open_ in (True, False)),
        *(Range(high=one, high_open=open_) for one in ends for open_ in (True, False)),
    ]
    for size in (len(ranges), 1_000_000):  # as bits, and as lists
        made = Stab(zip(ranges, range(len(ranges)), strict=True), size)
        for value in [*ends, -9, -2, 1, 2.25, 9, 1e300]:
            wanted = [
                n
                for n, one in enumerate(ranges)
                if (one.low < value or (one.low == value and not one.low_open))
                and (value < one.high or (one.high == value and not one.high_open))
            ]
            few: list[int] = []
            found = made.hits(value, few)
            assert wanted == sorted([*numbers(found), *few])
