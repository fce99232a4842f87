"""What stands at a dotted path, if plain look-ups tell?"""

import enum
from typing import TypeAlias

from relay.event import Json

Steps: TypeAlias = tuple[tuple[tuple[str, int], ...], ...]
"""For each position on a path: the keys that lead on, and where to."""


class Sight(enum.Enum):
    """What may stand at a path instead of one value."""

    NOTHING = "nothing"
    TANGLED = "arrays on the way, or one path written in two ways"


def steps(path: str) -> Steps:
    """Return the keys that lead along *path* from each position: keys of the data may have dots, too."""
    names = path.split(".")
    ends = range(len(names) + 1)
    return tuple(tuple((".".join(names[i:j]), j) for j in ends[i + 1 :]) for i in ends)


def only(way: Steps, node: Json, at: int = 0) -> Json | Sight:
    """Return what stands at the end of the *way* alone, by whichever keys; a list on it is a tangle."""
    if isinstance(node, list):
        return Sight.TANGLED
    if not way[at]:
        return Sight.TANGLED if isinstance(node, dict) else node
    if not isinstance(node, dict):
        return Sight.NOTHING
    found = [only(way, node[key], to) for key, to in way[at] if key in node]
    values = [one for one in found if one is not Sight.NOTHING]
    return Sight.TANGLED if len(values) > 1 else values[0] if values else Sight.NOTHING


def look(way: Steps, node: Json) -> Json | Sight:
    """Return the one value at the end of the *way*, if plain look-ups tell."""
    at = 0
    while isinstance(node, dict):
        keys = [step for step in way[at] if step[0] in node]
        if len(keys) != 1:
            return Sight.TANGLED if keys else Sight.NOTHING
        key, at = keys[0]
        node = node[key]
    if isinstance(node, list):
        return Sight.TANGLED
    return Sight.NOTHING if way[at] else node
