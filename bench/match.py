"""
How many events a second are matched, by how many rules there are?

Rules of one kind differ in one value; each event meets one of them or, where rules say what a value must
not be, all but one. Events are dicts, as intake has them; "with JSON" their bytes are read first, as for the
peers. A peer has one compiled expression a rule, which says the same: what a Python user would take instead.
One that is not installed is left out, with a line that says so:

    pip install common-expression-language rule-engine cel-python

    python bench/match.py [--quick] [--json] [--write docs/] [--most 100000] [--passes 7]
"""

import argparse
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

from relay.index import Index
from relay.match import Pattern

SIZES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
BESIDE: Final = (10, 1_000)
EVENTS: Final = 200


def event(i: int) -> dict[str, Any]:
    """Return an event of some 400 bytes; *i* stands in five of its fields."""
    return {
        "id": f"ev_{i:08d}",
        "type": "job:failed",
        "status": "failed",
        "attempt": 3,
        "customer": {"id": f"c{i:06d}", "plan": "pro", "region": "eu-1"},
        "file": {"name": f"report-{i:06d}.pdf", "size": i * 10 + 5, "url": "https://files.example.com/x/y"},
        "error": {"code": 500, "message": "upstream timed out after 30 s"},
        "ip": f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}",
    }


Rule = Callable[[int], dict[str, Any]]

MIXED: Final = ("exact", "prefix", "wildcard", "numeric", "anything-but mix")

KINDS: Final[Mapping[str, Rule]] = {
    "exact": lambda i: {"type": ["job:failed"], "customer.id": [f"c{i:06d}"]},
    "prefix": lambda i: {"type": ["job:failed"], "file.name": [{"prefix": f"report-{i:06d}"}]},
    "wildcard": lambda i: {"type": ["job:failed"], "file.name": [{"wildcard": f"report-*{i:06d}*.pdf"}]},
    "numeric": lambda i: {"error.code": [500], "file.size": [{"numeric": [">", i * 10, "<=", i * 10 + 9]}]},
    "anything-but mix": lambda i: {
        "status": [{"anything-but": ["done", "running"]}],
        "error.code": [{"anything-but": [404, 410]}],
        "customer.id": [f"c{i:06d}"],
    },
    "own anything-but": lambda i: {"customer.id": [{"anything-but": [f"c{i:06d}"]}]},
    "mixture": lambda i: KINDS[MIXED[i % len(MIXED)]](i),
}

CEL: Final[Mapping[str, Callable[[int], str]]] = {
    "exact": lambda i: f'type == "job:failed" && customer.id == "c{i:06d}"',
    "prefix": lambda i: f'type == "job:failed" && file.name.startsWith("report-{i:06d}")',
    "wildcard": lambda i: f'type == "job:failed" && file.name.contains("{i:06d}")',
    "numeric": lambda i: f"error.code == 500 && file.size > {i * 10} && file.size <= {i * 10 + 9}",
    "anything-but mix": lambda i: (
        f'status != "done" && status != "running" && error.code != 404 && error.code != 410'
        f' && customer.id == "c{i:06d}"'
    ),
    "mixture": lambda i: CEL[MIXED[i % len(MIXED)]](i),
}
"""What says the same to the peers; of a wildcard they look for the middle only, which is less work."""


def in_rule_engine(cel: str) -> str:
    """Say an expression of `CEL` as rule-engine has it."""
    if ".contains(" in cel:
        head, _, text = cel.partition(" && file.name.contains(")
        cel = f"{head} && {text.removesuffix(')')} in file.name"
    return cel.replace("&&", "and").replace(".startsWith(", ".starts_with(")


Match = Callable[[Any], Sequence[int]]


def relay(kind: str, size: int) -> Match:
    """Return what matches a dict."""
    return Index([Pattern(KINDS[kind](i)) for i in range(size)]).met


def relay_with_json(kind: str, size: int) -> Match:
    """Return what matches bytes, as the peers below do."""
    met = relay(kind, size)
    return lambda body: met(orjson.loads(body))


def rust_cel(kind: str, size: int) -> Match:
    """Return the same by common-expression-language: a Rust core, one compiled expression a rule."""
    cel = import_module("cel")
    rules = [cel.compile(CEL[kind](i)) for i in range(size)]

    def match(body: bytes) -> list[int]:
        around = cel.Context(variables=orjson.loads(body))
        return [i for i, rule in enumerate(rules) if rule.execute(around)]

    return match


def rule_engine(kind: str, size: int) -> Match:
    """Return the same by rule-engine."""
    engine = import_module("rule_engine")
    context = engine.Context(resolver=engine.resolve_item)
    rules = [engine.Rule(in_rule_engine(CEL[kind](i)), context=context) for i in range(size)]

    def match(body: bytes) -> list[int]:
        data = orjson.loads(body)
        return [i for i, rule in enumerate(rules) if rule.matches(data)]

    return match


def cel_python(kind: str, size: int) -> Match:
    """Return the same by cel-python."""
    celpy = import_module("celpy")
    env = celpy.Environment()
    rules = [env.program(env.compile(CEL[kind](i))) for i in range(size)]

    def match(body: bytes) -> list[int]:
        data = celpy.json_to_cel(orjson.loads(body))
        return [i for i, rule in enumerate(rules) if rule.evaluate(data)]

    return match


PEERS: Final[Mapping[str, tuple[str, Callable[[str, int], Match]]]] = {
    "relay with JSON": ("orjson", relay_with_json),
    "common-expression-language": ("cel", rust_cel),
    "rule-engine": ("rule_engine", rule_engine),
    "cel-python": ("celpy", cel_python),
}


@dataclass(frozen=True)
class Figure:
    """What was measured: events a second, the median of all passes, and how far they lie apart."""

    who: str
    kind: str
    rules: int
    rate: int
    spread: float  #: (most - least) / median
    build: float  #: seconds until the rules were ready


@dataclass
class Subject:
    """One matcher with its rules and events."""

    who: str
    kind: str
    rules: int
    match: Match
    events: list[Any]
    build: float
    rates: list[float]

    def run(self, seconds: float) -> None:
        """Match events one after another for about so long."""
        done, took, began = 0, 0.0, time.perf_counter()
        while took < seconds:
            for one in self.events:
                self.match(one)
            done += len(self.events)
            took = time.perf_counter() - began
        self.rates.append(done / took)

    def figure(self) -> Figure:
        """Return the median."""
        middle = statistics.median(self.rates)
        spread = (max(self.rates) - min(self.rates)) / middle
        return Figure(self.who, self.kind, self.rules, round(middle), round(spread, 2), round(self.build, 2))


def subject(who: str, make: Callable[[str, int], Match], kind: str, size: int) -> Subject:
    """Build a matcher, and see that its answers are right."""
    began = time.perf_counter()
    match = make(kind, size)
    build = time.perf_counter() - began
    chosen = [i * 7919 % size for i in range(EVENTS)]
    events: list[Any] = [event(i) for i in chosen]
    if make is not relay:
        events = [orjson.dumps(one) for one in events]
    began = time.perf_counter()
    for i, one in list(zip(chosen, events, strict=True))[:3]:
        wanted = size - 1 if kind == "own anything-but" else 1
        found = match(one)
        if len(found) != wanted or (wanted == 1 and found[0] != i):
            raise SystemExit(f"{who} is wrong about {kind} at {size} rules")
    enough = int(0.1 / (time.perf_counter() - began)) + 1  # slow ones match few events a pass
    return Subject(who, kind, size, match, events[:enough], build, [])


def measured(subjects: list[Subject], passes: int, seconds: float) -> list[Figure]:
    """Let all run in turn, so that what else the machine does hits all alike; the first pass warms up."""
    gc.collect()
    for number in range(passes + 1):
        for one in subjects:
            one.run(seconds)
            if not number:
                one.rates.clear()
    return [one.figure() for one in subjects]


def main() -> int:
    """Measure, print, and write; say 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute: less passes, at most 10,000 rules")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write matching.svg and matching.md's table"
    )
    parser.add_argument("--most", type=int, default=SIZES[-1], help="rules at most")
    parser.add_argument("--passes", type=int, default=7)
    asked = parser.parse_args()
    passes, seconds = (3, 0.05) if asked.quick else (asked.passes, 0.15)
    sizes = [size for size in SIZES if size <= (min(asked.most, 10_000) if asked.quick else asked.most)]
    out = sys.stderr if asked.json else sys.stdout
    figures: list[Figure] = []
    for kind in KINDS:
        figures += measured([subject("relay", relay, kind, size) for size in sizes], passes, seconds)
        print(row(kind, figures), file=out, flush=True)
    beside = alongside(out, passes, seconds)
    kept = promises(figures, beside)
    for line, _ in kept:
        print(line, file=out)
    if asked.json:
        print(json.dumps([asdict(one) for one in figures + beside], indent=1))
    if asked.write:
        (asked.write / "matching.svg").write_text(drawn(figures, beside))
        page = asked.write / "matching.md"
        start, _, rest = page.read_text().partition("<!-- measured -->\n")
        _, _, end = rest.partition("<!-- /measured -->\n")
        new = f"{start}<!-- measured -->\n{tables(figures, beside)}<!-- /measured -->\n{end}"
        page.write_text(new)
    return 0 if all(good for _, good in kept) else 1


def alongside(out: Any, passes: int, seconds: float) -> list[Figure]:
    """Measure all who are here, side by side."""
    here: dict[str, Callable[[str, int], Match]] = {"relay": relay}
    for who, (module, make) in PEERS.items():
        try:
            import_module(module)
            here[who] = make
        except ImportError:
            print(f"{who} is not installed: left out", file=out)
    figures: list[Figure] = []
    for kind in ("exact", "mixture"):
        for size in BESIDE:
            subjects = [subject(who, make, kind, size) for who, make in here.items()]
            figures += measured(subjects, passes, seconds)
            for one in figures[-len(subjects) :]:
                print(f"{kind:9} {size:6} rules  {one.who:27} {one.rate:9,}/s  ±{one.spread:.0%}", file=out)
    return figures


def row(kind: str, figures: list[Figure]) -> str:
    """Return one line of rates."""
    mine = [one for one in figures if one.kind == kind]
    return f"{kind:17}" + "".join(f"{one.rules:>8}: {one.rate:7,}/s ±{one.spread:3.0%}" for one in mine)


def promises(figures: list[Figure], beside: list[Figure]) -> list[tuple[str, bool]]:
    """Return lines about what must hold, and whether it does."""
    found: list[tuple[str, bool]] = []
    rates = {(one.kind, one.rules): one.rate for one in figures}
    for kind in KINDS:
        if (kind, 10_000) in rates:
            ratio = rates[kind, 10] / rates[kind, 10_000]
            found.append((f"{kind}: cost at 10,000 / cost at 10 = {ratio:.2f} (at most 2)", ratio <= 2))
    for kind in ("exact", "mixture"):
        for size, least in zip(BESIDE, (1, 15), strict=True):
            here = {one.who: one.rate for one in beside if (one.kind, one.rules) == (kind, size)}
            ours = here.pop("relay with JSON")
            here.pop("relay")
            if here:
                times = ours / max(here.values())
                found.append(
                    (
                        f"{kind}, {size} rules: {times:.1f} times the best peer (at least {least})",
                        times >= least,
                    )
                )
    return found


def tables(figures: list[Figure], beside: list[Figure]) -> str:
    """Return both tables, as Markdown."""
    sizes = sorted({one.rules for one in figures})
    lines = [
        "Events a second:\n",
        f"| rules | {' | '.join(f'{size:,}' for size in sizes)} | 10,000 : 10 |",
        f"|---|{'--:|' * (len(sizes) + 1)}",
    ]
    for kind in KINDS:
        rates = {one.rules: one.rate for one in figures if one.kind == kind}
        ratio = f"{rates[10] / rates[10_000]:.2f}" if 10_000 in rates else ""
        lines.append(f"| {kind} | {' | '.join(f'{rates[size]:,}' for size in sizes)} | {ratio} |")
    columns = [(kind, size) for kind in ("exact", "mixture") for size in BESIDE]
    lines += [
        "\nSide by side in one run:\n",
        f"| events a second | {' | '.join(f'{kind}, {size:,} rules' for kind, size in columns)} |",
        f"|---|{'--:|' * len(columns)}",
    ]
    for who in dict.fromkeys(one.who for one in beside):
        theirs = {(one.kind, one.rules): one.rate for one in beside if one.who == who}
        lines.append(f"| {who} | {' | '.join(f'{theirs[column]:,}' for column in columns)} |")
    return "\n".join(lines) + "\n"


COLOURS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#117a8b", "#444444")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 430, 70, 46, 200, 50


def drawn(figures: list[Figure], beside: list[Figure]) -> str:
    """Return the curves as a picture: rules to the right, events a second upwards, both by tens."""
    sizes = sorted({one.rules for one in figures})
    peers = [one for one in beside if one.kind == "mixture" and not one.who.startswith("relay")]
    high = math.ceil(math.log10(max(one.rate for one in figures)))
    low = math.floor(math.log10(max(1, min(one.rate for one in figures + peers))))

    def x(rules: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(rules) / max(1.0, math.log10(sizes[-1]))

    def y(rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(max(rate, 1))) / (high - low)

    def text(at_x: float, at_y: float, words: str, more: str = "") -> str:
        return f'<text x="{at_x:.0f}" y="{at_y:.0f}" {more}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "Events matched per second, by number of rules", 'font-size="15" font-weight="bold"'),
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, at + 4, f"{10**power:,}", 'text-anchor="end"'))
    parts += [text(x(size), HEIGHT - BOTTOM + 20, f"{size:,}", 'text-anchor="middle"') for size in sizes]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "rules", 'text-anchor="middle"'))
    curves = [(kind, [one for one in figures if one.kind == kind], "") for kind in KINDS]
    curves += [
        (f"{who} (mixture)", [one for one in peers if one.who == who], 'stroke-dasharray="5 4"')
        for who in dict.fromkeys(one.who for one in peers)
    ]
    for n, (name, curve, dash) in enumerate(curves):
        colour = COLOURS[n] if not dash else "#999"
        points = " ".join(f"{x(one.rules):.1f},{y(one.rate):.1f}" for one in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" {dash}/>')
        parts += [
            f'<circle cx="{x(o.rules):.1f}" cy="{y(o.rate):.1f}" r="3" fill="{colour}"/>' for o in curve
        ]
        if dash:
            parts.append(text(x(curve[-1].rules) + 8, y(curve[-1].rate) + 4, name, 'fill="#777"'))
        else:
            parts.append(
                f'<path d="M{WIDTH - RIGHT + 14} {TOP + 10 + 20 * n}h18" stroke="{colour}" stroke-width="2"/>'
            )
            parts.append(text(WIDTH - RIGHT + 38, TOP + 14 + 20 * n, f"relay: {name}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
