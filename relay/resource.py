"""Which resource does an event speak of, and with what is it retried?"""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from relay.errors import Unfit
from relay.event import Around, Event, Json, Millis, as_name
from relay.provider import Action
from relay.render import checked
from relay.rule import Aim
from relay.template import Get, at, fill, text


def around_of(event: Event, now: Millis) -> Around:
    """Return what patterns may ask for besides the body."""
    return Around(envelope=_envelope(event), now=now)


def get_of(event: Event, more: Mapping[str, Json] | None = None) -> Get:
    """Return the look-up of placeholders: in the body, or by ``$`` in what came around it, and in *more*."""
    known = {**_envelope(event), **(more or {})}

    def get(path: str) -> Json:
        return at(known if path.startswith("$") else event.data, path)

    return get


def _envelope(event: Event) -> dict[str, Json]:
    return {
        "$id": event.id,
        "$source": event.source,
        "$type": event.type,
        "$verified": event.verified.value,
        "$received_at": event.received_at,
        "$headers": dict(event.headers),
        "$resource": event.resource,
        "$failed": event.tells == "failed",
        "$recovered": event.tells == "recovered",
    }


def told(template: str, get: Get) -> str:
    """Fill a template that people read: what is missing in it does not keep the rest from being said."""
    try:
        return text(template, get)
    except Unfit as error:
        return f"{template} ({error})"


def values_of(aim: Aim, action: Action, get: Get) -> dict[str, Json]:
    """Return the values that the action is called with, checked. Raises Unfit."""
    return checked(action, _filled(aim.with_, get))


def key_of(aim: Aim, action: Action | None, get: Get) -> str:
    """Name the resource: by the rule's template, or by provider and values; empty: the event does not say."""
    try:
        if aim.case or action is None:
            name = text(aim.case, get, _some)
        else:
            name = f"{aim.provider}:{_identity(aim, action, get)}"
    except Unfit:
        return ""
    return as_name(name) if name.strip() else ""


def _some(part: str) -> str:
    """Return a part of a name: without it, all that lack it would be one resource. Raises Unfit."""
    if not part.strip():
        raise Unfit("a part of the name is empty")
    return part


def _filled(templates: Mapping[str, Json], get: Get) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, template in templates.items():
        try:
            found[name] = fill(template, get)
        except Unfit as error:
            raise Unfit(f"{name}: {error} in the event") from None
    return found


def _identity(aim: Aim, action: Action, get: Get) -> str:
    """Say which resource the call is about: by what it can't do without, files aside. Raises Unfit."""
    needed = {name: value for name, value in action.values.items() if not value.optional}
    # An action without any such value is told apart by what else it is given, or is the same each time.
    known = {name: value for name, value in needed.items() if value.type != "file"} or action.values
    filled = _filled({name: given for name, given in aim.with_.items() if name in known}, get)
    values = checked(replace(action, values=known), filled)
    return ",".join(f"{name}={_said(value)}" for name, value in sorted(values.items())) or action.name


def _said(value: Json) -> str:
    """Write a value plainly, and as JSON where its commas could be taken for those between values."""
    if isinstance(value, str) and not {",", '"'} & set(value):
        return value
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
