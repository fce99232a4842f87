"""What does a page of a list hold, and where does it go on?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from relay.clock import rfc3339
from relay.errors import Unfit
from relay.event import Json, Millis, as_name
from relay.provider import Listing, Reply
from relay.template import at, fill, kind, plain, text
from relay.trial import facts

# Where a run stands, among the values of its call. No value of a listing has such a name.
PAGE: Final = "@page"
"""The number of the page, from 1."""
CURSOR: Final = "@cursor"
"""Where the answer before said that the list goes on."""

MOST_PAGES: Final = 10_000
"""A list that goes on for longer has lost its end."""

OVERLAP_MS: Final = 600_000
"""So much of a log is read again: its clock is not ours, and its last entries may come late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing in a list that counts."""

    id: str  #: what makes it the same one as before
    event: bytes  #: the body of the event that it becomes: JSON with sorted keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one answer held."""

    items: tuple[Item, ...]
    next: Mapping[str, Json] | None = None  #: for the values of the next page's call; None: this was the last
    flaws: tuple[str, ...] = ()  #: what could not be read
    cut: str = ""  #: why the run ends before the list does: what it has not seen is not gone


def read(listing: Listing, reply: Reply, values: Mapping[str, Json]) -> Page:
    """Return what the answer to the call with these *values* holds. Raises Unfit where that is no page."""
    if not reply.whole:
        raise Unfit("the answer broke off, or is too long")
    data = facts(reply)
    body = at(data, "body")
    if not isinstance(body, dict | list):
        raise Unfit("the answer is not JSON that can be read")
    walk = _Walk(flaws=[])
    found: dict[str, bytes] = {}
    for place, item, around in walk.down(body, listing.items, {}, ""):
        whole = {**around, **item}
        if listing.failed is not None and not listing.failed.meets(whole):
            continue
        try:
            one = _item(listing, item, whole)
        except Unfit as unfit:
            walk.flaws.append(f"{place}: {unfit}")
            continue
        if found.setdefault(one.id, one.event) != one.event:
            walk.flaws.append(f"{place}: another one on this page has the id {one.id}")
    then, cut = _next(listing, data, values, rows=walk.rows)
    return Page(
        items=tuple(Item(id=name, event=event) for name, event in found.items()),
        next=then,
        flaws=tuple(walk.flaws),
        cut=cut,
    )


@dataclass(slots=True, kw_only=True)
class _Walk:
    """One way through one answer."""

    flaws: list[str]
    rows: int = 0  #: how many elements the outermost list has, whatever is in them

    def down(
        self, here: Json, path: str, around: dict[str, Json], place: str
    ) -> Iterator[tuple[str, dict[str, Json], dict[str, Json]]]:
        """Yield each item with its place and the plain values of the tables it stands in. Raises Unfit."""
        element = place.endswith("]")
        if isinstance(here, list) and not element:
            if "[" not in place:
                self.rows = len(here)
            for number, one in enumerate(here):
                # One element that looks unlike the others does not hide them.
                try:
                    yield from self.down(one, path, around, f"{place}[{number}]")
                except Unfit as unfit:
                    self.flaws.append(str(unfit))
        elif isinstance(here, dict) and path:
            step, _, rest = path.partition(".")
            inside = f"{place}.{step}" if place else step
            if step not in here:
                raise Unfit(f"{inside} is missing")
            scalars = {key: value for key, value in here.items() if not isinstance(value, dict | list)}
            yield from self.down(here[step], rest, {**around, **scalars}, inside)
        elif isinstance(here, dict) and element:
            yield place, here, around
        elif here is not None or path or element:  # null is how some write an empty list
            expected = "a table" if path or element else "a list"
            raise Unfit(f"{place or 'the answer'} is {kind(here)}, expected {expected}")


def _item(listing: Listing, item: dict[str, Json], whole: dict[str, Json]) -> Item:
    def get(path: str) -> Json:
        return at(whole, path)

    name = text(listing.id, get)
    if not name.strip():
        raise Unfit("its id is empty")
    event = item if listing.event is None else fill(listing.event, get)
    try:
        body = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise Unfit("its event holds what can be no part of JSON") from None
    return Item(id=as_name(name), event=body)


def _next(
    listing: Listing, data: Json, values: Mapping[str, Json], *, rows: int
) -> tuple[Mapping[str, Json] | None, str]:
    """Say where the list goes on, if it does; and why not, if it should."""
    paging = listing.paging
    # What counts is what the page holds, not what of it has failed.
    if paging is None or not (rows if paging.more is None else paging.more.meets(data)):
        return None, ""
    number = _number(values)
    if number >= MOST_PAGES:
        return None, f"it goes on after {MOST_PAGES:,} pages"
    if not paging.cursor:
        return {PAGE: number + 1}, ""
    try:
        cursor = plain(at(data, f"body.{paging.cursor}"), paging.cursor)
    except Unfit:
        cursor = ""
    if not cursor:
        return None, f"there is more, but {paging.cursor} does not say where" if paging.more else ""
    if cursor == values.get(CURSOR):
        return None, f"{paging.cursor} does not move on"
    return {PAGE: number + 1, CURSOR: cursor}, ""


def _number(values: Mapping[str, Json]) -> int:
    number = values.get(PAGE, 1)
    return number if isinstance(number, int) else 1


def query(listing: Listing, values: Mapping[str, Json]) -> dict[str, str]:
    """Return the parameters that ask for the page at which *values* stand."""
    if listing.paging is None:
        return {}
    if not listing.paging.cursor:
        return {listing.paging.query: str(_number(values))}
    return {listing.paging.query: str(values[CURSOR])} if CURSOR in values else {}


def own(values: Mapping[str, Json]) -> dict[str, Json]:
    """Return the values that are the listing's own, without where its run stands."""
    return {name: value for name, value in values.items() if not name.startswith("@")}


def since(listing: Listing, last_ok_began_at: Millis | None, first_armed_at: Millis) -> str:
    """
    Return the time from which on a run reads: a little before the last complete run of a log began.

    A list of what fails now is always read from the same time on: its old items would seem well otherwise.
    """
    began = last_ok_began_at if listing.log and last_ok_began_at is not None else first_armed_at
    return str(rfc3339(max(0, began - OVERLAP_MS)))
