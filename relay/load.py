"""What do the operator's files say?  From rules.toml and all it names to one checked `Ruleset`."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Final

from relay.calling import aims_at, calling, check_call, constants, values_of, watch_sources
from relay.compile import asked, compile_provider
from relay.condition import near
from relay.document import DATE, UNKNOWN, Document, Layer, read
from relay.ends import Ends, asking, sources_of
from relay.errors import ConfigError, Problem
from relay.place import Path
from relay.preset import compile_preset, compile_source, laid, watched
from relay.provider import Provider
from relay.rule import Rule, Ruleset, Watch
from relay.schema import RulesFile, SettingsFile, WatchFile
from relay.secret import Secret
from relay.source import Preset, Source, private
from relay.vain import check_vain, heard
from relay.vault import find
from relay.way import shared

BUILT_IN: Final = FilePath(__file__).parent
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SETTINGS: Final = frozenset(SettingsFile.model_fields)
_OVERRIDES: Final = _SETTINGS - {"files"}


def load(
    path: FilePath, environ: Mapping[str, str], *, secrets: bool = True, only: str | None = None
) -> Ruleset:
    """
    Read *path*, the providers/ and sources/ beside it and the built-in ones, and return what they say.

    Without *secrets*, variables, secret files and upload folders are not looked at, and each secret is a
    fresh random text: enough to check, match and explain. With *only*, the name of a source, that holds for
    all but this source: enough to sign a sample. Raises ConfigError with all problems of all files.
    """
    loader = _Loader(path, environ if secrets else None, only)
    ruleset = loader.load()
    # What else is wrong with an unknown key, or with a date, is no matter.
    first: dict[tuple[str, str], str] = {}
    for what in (DATE, UNKNOWN):
        first |= {(one.file, one.key): what for one in loader.problems if one.what == what}
    problems = [
        one for one in dict.fromkeys(loader.problems) if one.what == first.get((one.file, one.key), one.what)
    ]
    if ruleset is None or problems:
        order = {file: number for number, file in enumerate(dict.fromkeys(one.file for one in problems))}
        raise ConfigError(sorted(problems, key=lambda one: (order[one.file], one.line or 0)))
    return ruleset


def preset(path: FilePath, source: str) -> Preset | None:
    """
    Return what the preset of a source of the rules at *path* tells of itself; None if it has none.

    Raises ConfigError if the rules or the preset can't be read.
    """
    loader = _Loader(path, None)
    top = loader.top()
    own = top.part("source", source) if top else None
    name = own.data.get("preset") if own else None
    found = loader.preset(name) if isinstance(name, str) and name else None
    if loader.problems:
        raise ConfigError(loader.problems)
    return found


def own_presets(path: FilePath, problems: list[Problem]) -> dict[str, Document]:
    """Return the presets that stand beside the rules at *path*, each laid over the built-in one."""
    loader = _Loader(path, None, problems=problems)
    added = loader.beside("sources")
    found = {name: loader.layers("sources", name, added) for name, layer in added.items() if layer}
    return {name: Document(layers, problems) for name, layers in found.items()}


@dataclass(slots=True)
class _Loader:
    """The files read so far, and what is wrong with them."""

    path: FilePath
    environ: Mapping[str, str] | None  #: None: secrets are not looked at
    only: str | None = None  #: or this source's alone
    problems: list[Problem] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)

    def load(self) -> Ruleset | None:
        top = self.top()
        added = {kind: self.beside(kind) for kind in ("sources", "providers")}
        if top is None:
            return None
        rules = Document([top], self.problems)
        rules.fit(RulesFile)
        sources = self._sources(rules, top, added["sources"])
        providers, documents = self._providers(rules, top, added["providers"])
        fed = self._watched(rules, sources, added["sources"])
        compiled = tuple(self._rules(rules, documents, providers, sources, fed))
        watches = {watch.name: watch for watch in self._watches(rules, documents, providers)}
        digest = hashlib.sha256()
        for name in sorted(self.seen):
            digest.update(
                b"%d %s\n%d\n%s\n" % (len(name), name.encode(), len(self.seen[name]), self.seen[name])
            )
        return Ruleset(
            version=digest.hexdigest()[:12],
            path=self.path,
            sources=MappingProxyType(_asking(sources, compiled)),
            rules=compiled,
            providers=MappingProxyType(providers),
            watches=MappingProxyType(watches),
            watched=MappingProxyType(_asking(fed, compiled)),
        )

    def _environ(self, source: str | None = None) -> Mapping[str, str] | None:
        """Return where secrets are looked up, for a *source* or for all else; None: they are not."""
        return self.environ if self.only in {None, source} else None

    # -- files --

    def top(self) -> Layer | None:
        """Read the rules themselves."""
        return self._read(self.path, str(self.path), "--rules or RELAY_RULES says where it is")

    def preset(self, name: str) -> Preset | None:
        """Read one preset."""
        layers = self.layers("sources", name, self.beside("sources"))
        return compile_preset(Document(layers, self.problems), name) if layers else None

    def _read(self, path: FilePath, shown: str, where: str = "") -> Layer | None:
        layer, raw = read(path, shown, self.problems, where)
        # The name from this folder, so that the version is the same wherever the folder stands.
        name = path.name if path == self.path else f"{path.parent.name}/{path.name}"
        self.seen[f"relay/{name}" if path.is_relative_to(BUILT_IN) else name] = raw
        return layer

    def beside(self, kind: str) -> dict[str, Layer | None]:
        """Read the files that the operator put into *kind*, a folder beside the rules."""
        folder = self.path.parent / kind
        return {file.stem: self._read(file, str(file)) for file in sorted(folder.glob("*.toml"))}

    def layers(self, kind: str, name: str, added: Mapping[str, Layer | None]) -> list[Layer]:
        """Return the built-in file and the operator's own one over it."""
        found = []
        if name in _built_in(kind):
            found.append(self._read(BUILT_IN / kind / f"{name}.toml", f"relay/{kind}/{name}.toml"))
        found.append(added.get(name))
        return [layer for layer in found if layer]

    # -- sources --

    def _sources(self, rules: Document, top: Layer, added: Mapping[str, Layer | None]) -> dict[str, Source]:
        for name, layer in added.items():
            if layer:
                compile_preset(Document([*self.layers("sources", name, added)], self.problems), name)
        found = {}
        for name in rules.keys("source"):
            if not _NAME.fullmatch(name):
                rules.wrong(
                    ("source", name), "expected a name of small letters, digits, - and _", "it is a path"
                )
            own = top.part("source", name)
            if own and (source := self._source(rules, name, own, added)):
                found[name] = source
        for name, other in shared(found):
            hint = "each sender has its own: else what one has signed could be posted to the other"
            rules.wrong(("source", name, "secrets"), f"the same secret as that of {other}", hint)
        return found

    def _source(
        self, rules: Document, name: str, own: Layer, added: Mapping[str, Layer | None]
    ) -> Source | None:
        presets: list[Layer] = []
        preset = own.data.get("preset")
        if isinstance(preset, str) and preset:
            known = _built_in("sources") | added.keys()
            if preset not in known:
                rules.wrong(("source", name, "preset"), f"there is no preset {preset!r}", near(preset, known))
                return None
            presets = self.layers("sources", preset, added)
        return compile_source(Document(laid(presets, own), self.problems), name, self._environ(name))

    def _watched(
        self, rules: Document, sources: Mapping[str, Source], added: Mapping[str, Layer | None]
    ) -> dict[str, Source]:
        """Return the sources that watches feed, those of the rules among them."""
        found = {}
        for name in watch_sources(rules):
            presets = Document(self.layers("sources", name, added), self.problems)
            found[name] = sources.get(name) or watched(presets, name)
        return found

    # -- providers --

    def _providers(
        self, rules: Document, top: Layer, added: Mapping[str, Layer | None]
    ) -> tuple[dict[str, Provider], dict[str, Document | None]]:
        """Return the providers in use, and the documents of all whose actions a rule may name."""
        known = _built_in("providers") | added.keys()
        configured = rules.keys("provider")
        aims = [call for path, _ in calling(rules, "rule") for _, call in aims_at(rules, path)]
        calls = [*aims, *(call for _, call in calling(rules, "watch"))]
        called = {call.partition(".")[0] for call in calls if call} & known
        documents: dict[str, Document | None] = dict.fromkeys(known)
        found = {}
        for name in configured:
            if name not in known:
                rules.wrong(("provider", name), f"there is no provider {name!r}", near(name, known))
        for name in sorted(known & {*configured, *called, *added}):
            layers = self.layers("providers", name, added)
            if (name in added and added[name] is None) or not layers:
                continue
            own = top.part("provider", name, keys=_OVERRIDES)
            doc = documents[name] = Document([*layers, *([own] if own else [])], self.problems)
            in_use = name in configured or name in called
            held = self._held(rules, doc, name) if in_use else {}
            files = self._files(rules, doc, name) if in_use else None
            provider = compile_provider(doc, name, held, files)
            if provider and in_use:
                found[name] = provider
        return found, documents

    def _held(self, rules: Document, doc: Document, name: str) -> dict[str, Secret]:
        """Find the provider's secrets: all that its auth asks for, and no other keys."""
        wanted = asked(doc)
        settings = rules.at(("provider", name)) or {}
        if wanted is None or not isinstance(settings, dict):
            return {}
        chosen, known = wanted
        held = {}
        for key in sorted(settings.keys() - _SETTINGS):
            path: Path = ("provider", name, key)
            if key not in known:
                rules.wrong(path, UNKNOWN, near(key, _SETTINGS | known))
            elif isinstance(settings[key], str) and (
                secret := find(rules, path, settings[key], self._environ())
            ):
                held[key] = secret
        for key in sorted(chosen - settings.keys()):
            hint = f'{key} = "env:{name.upper().replace("-", "_")}_{key.upper()}"'
            rules.wrong(("provider", name), f"the provider {name} needs {key}", f"for example {hint}")
        return held

    def _files(self, rules: Document, doc: Document, name: str) -> FilePath | None:
        """Find the folder for uploads, beside the rules; an action that uploads needs it."""
        folder = rules.at(("provider", name, "files"))
        if not isinstance(folder, str) or not folder:
            values = (values_of(doc, "action", name) or {} for name in doc.keys("action"))
            if any(value.type == "file" for several in values for value in several.values()):
                hint = 'for example files = "packages", a folder beside this file'
                rules.wrong(("provider", name), f"the provider {name} uploads, and needs files", hint)
            return None
        found = (self.path.parent / folder).absolute()
        if self._environ() is not None and not found.is_dir():
            rules.wrong(
                ("provider", name, "files"), f"there is no folder {str(folder)!r}", "make it beside this file"
            )
        return found

    # -- rules --

    def _rules(
        self,
        rules: Document,
        documents: Mapping[str, Document | None],
        providers: Mapping[str, Provider],
        posted: Mapping[str, Source],
        fed: Mapping[str, Source],
    ) -> Iterator[Rule]:
        """Check each rule, and yield those that are right."""
        known, sources = [*rules.keys("source"), *watch_sources(rules)], {**fed, **posted}
        broken = rules.keys("source") - posted.keys()
        says = {name: heard(one, watched=name in fed) for name, one in sources.items() if name not in broken}
        timed = frozenset(name for name, source in sources.items() if source.time)
        ends = Ends(documents, providers, timed)
        for path, _ in calling(rules, "rule"):
            check_vain(rules, path, sources_of(rules, (*path, "from"), known), says)
            if rule := ends.compile(rules, path):
                secret = {
                    header for name in rule.sources if name in sources for header in sources[name].proving()
                }
                for name in sorted(one for one in rule.headers if one in secret or private(one)):
                    what = f"the header {name} proves who sent the event, and is never kept"
                    rules.wrong(asking(rules, path, name), what, "no pattern or template can ask for it")
                yield rule

    # -- watches --

    def _watches(
        self,
        rules: Document,
        documents: Mapping[str, Document | None],
        providers: Mapping[str, Provider],
    ) -> Iterator[Watch]:
        """Check each watch, and yield those of the right form."""
        for path, call in calling(rules, "watch"):
            check_call(rules, path, call, documents, "watch")
            name, _, listing = (call or "").partition(".")
            known = providers[name].listings if name in providers else {}
            given = constants(rules, path, known[listing]) if listing in known else {}
            source = rules.at((*path, "source"))
            if isinstance(source, str) and source and not _NAME.fullmatch(source):
                rules.wrong((*path, "source"), "expected a name of small letters, digits, - and _")
            if file := rules.fit(WatchFile, path, quiet=True):
                yield Watch(
                    name=file.name,
                    provider=name,
                    listing=listing,
                    source=file.source or name,
                    every_ms=file.every,
                    with_=given,
                )


def _asking(sources: Mapping[str, Source], rules: Iterable[Rule]) -> dict[str, Source]:
    """Let each source keep the headers that rules ask for."""
    asked: dict[str, set[str]] = {}
    for rule in rules:
        for name in rule.sources:
            asked.setdefault(name, set()).update(rule.headers)
    return {
        name: replace(source, asked=tuple(sorted({*source.asked, *asked.get(name, ())})))
        for name, source in sources.items()
    }


def _built_in(kind: str) -> frozenset[str]:
    return frozenset(file.stem for file in (BUILT_IN / kind).glob("*.toml"))
