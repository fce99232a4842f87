"""Does a provider's file hold together?  From its tables to a `Provider`, or to all that is wrong with it."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path as FilePath
from typing import Final
from urllib.parse import urlsplit

from relay.action import ANSWER, compile_action, compile_outcomes
from relay.condition import near
from relay.document import Document
from relay.event import Json
from relay.inner import body_path, header, holes, pattern, template
from relay.place import Path
from relay.provider import Auth, Limit, Listing, Paging, Provider, Sign, Storm, Timeouts
from relay.reach import Address, Network, Reach, denied
from relay.schema import (
    ActionFile,
    AuthFile,
    LimitFile,
    ListingFile,
    OneHeader,
    PageFile,
    ProviderFile,
    ShapeFile,
    every_ms,
)
from relay.secret import Secret
from relay.shape import Shaper
from relay.template import needed

SIGNED: Final = frozenset({"timestamp", "method", "path", "params", "body_sha256"})
"""What a signature may cover."""

SINCE: Final = "since"
"""What relay itself fills in: from when on a watch reads a log."""


_NAME: Final = re.compile(r"(?!.*(^|\.)(\d+|0x[0-9a-f]*)\.?$)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
"""
A host's name in letters, digits, hyphens and underscores. One that ends in a number is an address to some
and a name to others (``127.1``, ``0x7f000001``; WHATWG URL 3.5), so it is neither here.
"""


def base_url_flaw(url: str, *, allow_http: bool) -> str:
    """Say what is wrong with a base URL, never repeating it: it may hold a password."""
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\{}\"<>^`|]", url):
        return "expected a URL of visible ASCII characters"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it checks it
    except ValueError:
        return "expected a URL such as https://api.example.com"
    if parts.scheme not in {"https", "http"} or not parts.hostname or ("[" in url) != (":" in parts.hostname):
        return "expected a URL such as https://api.example.com"
    if parts.scheme == "http" and not allow_http:
        return "expected https://, got http://, which anyone on the way can read"
    if "@" in parts.netloc:
        return "a user name or password can't stand in the URL"
    if "?" in url or "#" in url:
        return "a query or fragment can't stand in the base URL"
    if not _address(parts.hostname) and not _NAME.fullmatch(parts.hostname):
        return "expected a host's name, or an address in its usual form"
    if parts.port == 0:
        return "a port can't be 0"
    if any(step in {".", ".."} for step in parts.path.split("/")):
        return "'.' and '..' can't stand in the base URL's path"
    return ""


def host_flaw(url: str, reach: Reach) -> tuple[str, str]:
    """Say why the host of a sound base URL can't be reached, and a way out; names are asked at each call."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
        why, networks = denied("127.0.0.1", reach), '"127.0.0.1/32", "::1/128"'
    elif address := _address(host):
        why, networks = denied(address, reach), f'"{ip_network(address)}"'
    else:
        return "", ""
    what, _, closed = why.partition(" (allow_networks")
    return what and f"{host} is {what}", closed and f"allow_networks = [{networks}]"


def _address(host: str) -> Address | None:
    """Read *host* as an address, IPv4 in IPv6 as IPv4; None: it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def asked(doc: Document) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the secrets that the chosen auth asks for, and those of all; None if that can't be told."""
    by_auth = {path: frozenset(_asked(auth)) for path, auth in _auths(doc)}
    everywhere = frozenset[str]().union(*by_auth.values())
    match doc.at(("auth",)):
        case None | "":
            return frozenset(), everywhere
        case str(name):
            chosen = by_auth.get(("auths", name))
        case _:
            chosen = by_auth.get(("auth",))
    return None if chosen is None else (chosen, everywhere)


def _asked(auth: AuthFile) -> Iterator[str]:
    templates = list(auth.headers.values())
    if auth.sign:
        templates += [auth.sign.key, *auth.sign.derive, auth.sign.text]
    return (name.removeprefix("secret.") for name in holes(*templates) if name.startswith("secret."))


def _auths(doc: Document) -> Iterator[tuple[Path, AuthFile]]:
    """Yield each auth that has the right form."""
    if isinstance(doc.at(("auth",)), dict) and (one := doc.fit(OneHeader, ("auth",), quiet=True)):
        yield ("auth",), AuthFile(headers={one.header: one.value})
    several = doc.at(("auths",))
    for name in several if isinstance(several, dict) else ():
        if auth := doc.fit(AuthFile, ("auths", name), quiet=True):
            yield ("auths", name), auth


def compile_provider(
    doc: Document, name: str, secrets: Mapping[str, Secret], files: FilePath | None
) -> Provider | None:
    """Check the whole *doc*, and return its provider if its form is right; problems go to the document."""
    whole = doc.fit(ProviderFile)
    auth = _auth(doc)
    reach = _reach(doc)
    _base_url(doc, reach)
    outcomes = compile_outcomes(doc, ())
    actions = {}
    for key in doc.keys("action"):
        path: Path = ("action", key)
        if action := doc.fit(ActionFile, path, quiet=True):
            actions[key] = compile_action(doc, path, key, action)
            if auth and auth.sign and action.multipart:
                doc.wrong(
                    (*path, "multipart"), "a signed request can't be multipart: its body is never in memory"
                )
    listings = {}
    for key in doc.keys("watch"):
        here: Path = ("watch", key)
        if listing := doc.fit(ListingFile, here, quiet=True):
            listings[key] = _listing(doc, here, key, listing)
    if whole is None or auth is None:
        return None
    return Provider(
        name=name,
        title=whole.title,
        docs=whole.docs,
        base_url=whole.base_url,
        reach=reach,
        auth=auth,
        limit=_limit(whole.limit),
        timeouts=Timeouts(**whole.timeouts.model_dump()),
        tries=whole.tries,
        outcomes=outcomes,
        actions=actions,
        listings=listings,
        storm=Storm(cases=whole.storm.cases, within_ms=whole.storm.within, rest_ms=whole.storm.rest),
        secrets=secrets,
        files=files,
    )


def _base_url(doc: Document, reach: Reach) -> None:
    """Check where the provider is said to be, as far as that can be told without asking for its name."""
    url = doc.at(("base_url",))
    if not isinstance(url, str):
        return
    if flaw := base_url_flaw(url, allow_http=True):
        doc.wrong(("base_url",), flaw)
        return
    if flaw := base_url_flaw(url, allow_http=doc.at(("allow_http",)) is True):
        doc.wrong(("base_url",), flaw, "allow_http = true, on a network of your own")
    flaw, hint = host_flaw(url, reach)
    if flaw:
        doc.wrong(("base_url",), flaw, hint)


def _reach(doc: Document) -> Reach:
    """Read ``allow_networks``: the addresses that the provider's host may have, besides public ones."""
    found: list[Network] = []
    given = doc.at(("allow_networks",))
    for number, text in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(text, str):
            continue
        path: Path = ("allow_networks", number)
        try:
            found.append(network := ip_network(text))
        except ValueError:
            doc.wrong(path, f"expected a network such as 10.1.0.0/16, got {text!r}", _nearest_network(text))
            continue
        if network.num_addresses == 1 and (why := denied(network[0], Reach(networks=(network,)))):
            doc.wrong(path, f"{network[0]} is {why}", "nothing lets a call go there")
        elif network.version == 6 and network.subnet_of(_MAPPED):
            doc.wrong(path, "IPv4 in IPv6 is judged as IPv4", "write it as IPv4: 10.1.0.0/16")
    return Reach(networks=tuple(found))


_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def _nearest_network(text: str) -> str:
    """Return a hint for a network whose address has bits beyond its length."""
    try:
        return f"did you mean {ip_network(text, strict=False)}?"
    except ValueError:
        return ""


def _listing(doc: Document, path: Path, name: str, file: ListingFile) -> Listing:
    """Check everything about the list that a watch asks for, and return it as far as it is right."""
    shaper = Shaper(doc, path, file.values)
    values = shaper.declared()
    request = ShapeFile(request=file.request, query=file.query, headers=file.headers)
    shape = shaper.shape(path, request, {"query": SINCE})
    shaper.no_idle_values()
    if shape.method not in {"GET", ""}:
        doc.wrong((*path, "request"), f"a watch only reads: expected GET, got {shape.method}")
    for key, value in values.items():
        if value.type == "file":
            doc.wrong((*path, "values", key, "type"), "a watch uploads nothing")
    if SINCE in values:
        doc.wrong((*path, "values", "since"), "relay fills {since} in by itself", "another name")
    for at, hole in template(doc, (*path, "query"), file.query):
        if hole == SINCE and not file.log:
            doc.wrong(at, "only a log is read from a time on", "log = true, if each item is an event")
    if file.items:
        body_path(doc, (*path, "items"), file.items)
    problems = len(doc.problems)
    list(template(doc, (*path, "id"), file.id))
    if len(doc.problems) == problems and not list(needed(file.id)):
        doc.wrong((*path, "id"), "every item would be the same one", 'a template over the item: "{id}"')
    list(template(doc, (*path, "event"), file.event))
    return Listing(
        name=name,
        title=file.title,
        shape=shape,
        values=values,
        items=file.items,
        id=file.id,
        failed=None if file.failed is None else pattern(doc, (*path, "failed"), file.failed, ()),
        event=file.event,
        log=file.log,
        paging=_paging(doc, (*path, "page"), file.page, file) if file.page else None,
    )


def _paging(doc: Document, path: Path, page: PageFile, file: ListingFile) -> Paging:
    if page.query in file.query:
        doc.wrong((*path, "query"), f"{page.query!r} stands in the watch's query, too")
    if page.cursor:
        body_path(doc, (*path, "cursor"), page.cursor)
    more = None if page.more is None else pattern(doc, (*path, "more"), page.more, ANSWER)
    return Paging(query=page.query, cursor=page.cursor, more=more)


def _limit(limit: LimitFile) -> Limit:
    every = every_ms(limit.rate) if limit.rate else 0
    return Limit(every_ms=every, burst=limit.burst, concurrency=limit.concurrency)


def _auth(doc: Document) -> Auth | None:
    """Check all auths, and return the chosen one; without any, requests go out as they are."""
    compiled: dict[Path, Auth] = {}
    for path, auth in _auths(doc):
        known = {"secret"}
        sign = None
        if auth.sign:
            sign = Sign(key=auth.sign.key, derive=tuple(auth.sign.derive), text=auth.sign.text)
            _holes(doc, (*path, "sign", "key"), sign.key, {"secret"})
            _holes(doc, (*path, "sign", "derive"), [*auth.sign.derive], {"secret", *SIGNED})
            _holes(doc, (*path, "sign", "text"), sign.text, {"secret", *SIGNED})
            known |= {"timestamp", "signature"}
            if "signature" not in holes(*auth.headers.values()):
                doc.wrong((*path, "headers"), "expected {signature} in one of the headers")
        for name, value in auth.headers.items():
            at = (*path, "value") if path == ("auth",) else (*path, "headers", name)
            header(doc, (*path, "header") if path == ("auth",) else at, name)
            _holes(doc, at, value, known)
        if auth.headers and not any(_asked(auth)):
            at = (*path, "value") if path == ("auth",) else (*path, "headers")
            doc.wrong(
                at, "asks for no secret, and a secret is never written in the file", "use {secret.token}"
            )
        compiled[path] = Auth(headers=auth.headers, sign=sign)
    chosen = doc.at(("auth",))
    match chosen:
        case dict():
            return compiled.get(("auth",))
        case str() if chosen:
            names = doc.keys("auths")
            if chosen not in names:
                hint = near(chosen, names) if names else "it has one only: leave this out"
                doc.wrong(("auth",), f"there is no auth {chosen!r}", hint)
            return compiled.get(("auths", chosen))
        case None | "":
            return Auth(headers={})
        case _:
            return None


def _holes(doc: Document, path: Path, value: Json, known: set[str]) -> None:
    """Check the placeholders of an auth: ``{secret.NAME}``, and those that a signature knows."""
    for at, name in template(doc, path, value):
        if name not in known - {"secret"} and not re.fullmatch(r"secret\.[a-z][a-z0-9_]*", name):
            said = ["{secret.NAME}", *sorted(f"{{{one}}}" for one in known - {"secret"})]
            doc.wrong(at, f"{{{name}}} can't stand here", f"known: {', '.join(said)}")
