"""Which addresses may a call reach?  The listed ones, on every Python that is here; and what files say."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from rulesfiles import ENVIRON, ROOT, with_provider, write

from relay.compile import base_url_flaw, host_flaw
from relay.load import load
from relay.reach import ANYWHERE, Reach, denied

CASES: dict[str, list[str]] = json.loads((Path(__file__).parent / "data" / "ssrf.json").read_text())
PUBLIC = Reach()


def pythons() -> Iterator[str]:
    """Yield each Python from 3.11 on that is here and starts: ours, its neighbours, and those on the path."""
    neighbours = map(str, Path(sys.base_prefix).parent.glob("*/bin/python3.1[1-4]"))
    named = filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 15)))
    for python in sorted({sys.executable, *neighbours, *named}):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            yield python


def reach(*networks: str) -> Reach:
    return Reach(networks=tuple(map(ip_network, networks)))


def test_the_lists_are_whole() -> None:
    """What the following tests go by has not been cut short."""
    assert [67, 20, 18, 15] == [len(each) for each in CASES.values()]


@pytest.mark.parametrize("address", CASES["deny"])
def test_an_address_that_is_not_public_is_denied(address: str) -> None:
    """Each says why in words; as text or as a value, that is the same."""
    assert denied(address, PUBLIC)
    assert denied(address, PUBLIC) == denied(ip_address(address), PUBLIC)


@pytest.mark.parametrize("address", CASES["allow"])
def test_a_public_address_is_fine(address: str) -> None:
    """The neighbours of the ranges that are denied, and some hosts that are there."""
    assert "" == denied(address, PUBLIC)


@pytest.mark.parametrize("python", [*pythons()])
def test_every_python_says_the_same(python: str) -> None:
    """`ipaddress` has changed its mind about what is public; the list is our own, and needs no library."""
    code = (
        "import json, sys\n"
        "from relay.reach import Reach, denied\n"
        "print(json.dumps([bool(denied(one, Reach())) for one in json.load(sys.stdin)]))\n"
    )
    # Isolated but for our folder: no package but the standard library can be found.
    told = subprocess.run(
        [python, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        input=json.dumps(CASES["deny"] + CASES["allow"]),
        capture_output=True,
        text=True,
        check=True,
    )

    assert [True] * 67 + [False] * 20 == json.loads(told.stdout)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "1.1.1.1.",
        "1.1.1.1/32",
        "[::1]",
        " 1.1.1.1",
    ],
)
def test_what_is_no_address_is_denied(text: str) -> None:
    """Only the usual form of an address is one: a name, or a form of old, may mean anything."""
    assert "which is no address" == denied(text, reach("0.0.0.0/0", "::/0"))


def test_a_network_lets_its_own_addresses_in() -> None:
    """What a provider allows is let in besides what is public, first to last; its neighbours are not."""
    mine = reach("10.1.0.0/16", "fd12::/16")

    assert [""] * 6 == [
        denied(one, mine)
        for one in (
            "10.1.0.0",
            "10.1.255.255",
            "::ffff:10.1.2.3",
            "fd12::1",
            "1.1.1.1",
            "2606:50c0:8000::153",
        )
    ]
    for one in ("10.0.255.255", "10.2.0.0", "127.0.0.1", "::1", "fd13::1", "::10.1.0.1", "64:ff9b::a01:1"):
        assert denied(one, mine), one


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.170.2"),
        *("fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601"),
    ],
)
def test_no_network_opens_where_credentials_are_handed_out(address: str) -> None:
    """Not even all addresses there are, not even through a tunnel; relay's own shell asks nobody."""
    assert "where a cloud hands out credentials" == denied(address, reach("0.0.0.0/0", "::/0"))
    assert "" == denied(address, ANYWHERE)


def test_a_zone_is_never_let_in() -> None:
    """The same address is another machine on another link."""
    assert "an address with a zone" == denied("fe80::1%eth0", reach("fe80::/10"))
    assert "" == denied("fe80::1%eth0", ANYWHERE)


# -- files --


def at_load(url: str, *networks: str) -> str:
    """Return what a base URL is refused for at load, or nothing."""
    return base_url_flaw(url, allow_http=False) or host_flaw(url, reach(*networks))[0]


@pytest.mark.parametrize("address", [one for one in CASES["deny"] if "%" not in one])
def test_a_base_url_with_a_denied_address_is_refused_at_load(address: str) -> None:
    """Whoever writes such an address means it, and is told how to say so; then it is fine."""
    host = f"[{address}]" if ":" in address else address
    what, hint = host_flaw(f"https://{host}:8443/v1", PUBLIC)
    assert what

    if hint:
        meant = ip_address(address)
        mapped = getattr(meant, "ipv4_mapped", None)
        assert f'allow_networks = ["{ip_network(mapped or meant)}"]' == hint
        assert "" == at_load(f"https://{host}:8443/v1", str(mapped or meant))
    else:
        assert "credentials" in what


@pytest.mark.parametrize("address", CASES["allow"])
def test_a_base_url_with_a_public_address_is_fine(address: str) -> None:
    """Not every provider has a name."""
    assert "" == at_load(f"https://[{address}]/" if ":" in address else f"https://{address}/")


NAMES = {"ip6-localhost", "metadata.google.internal", "metadata.google.internal.", "instance-data"}
"""What only a name server can tell: checked at each connection, see test_wire_reach.py."""


@pytest.mark.parametrize(
    "host", [one for one in CASES["hostnames_must_not_reach_loopback"] if one not in NAMES]
)
def test_loopback_in_disguise_is_refused_at_load(host: str) -> None:
    """Forms of an address that only inet_aton or IDNA know are neither names nor addresses here."""
    assert at_load(f"https://{host}/")
    assert at_load(f"https://{host}:8443/v1")


@pytest.mark.parametrize("url", CASES["urls_must_be_rejected_or_stay_on_host"])
def test_a_url_that_two_readers_read_differently_is_refused_at_load(url: str) -> None:
    """One host and no doubt about it, or an error; the same where http is allowed."""
    assert at_load(url)
    assert url == "http://api.github.com/" or base_url_flaw(url, allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://a_b.example",
            "https://xn--bcher-kva.example.",
            "https://builds",
            "https://e2.x-1:8443/v1",
        ),
        *("https://a.0x.b", "https://1.e2", "https://3com.example"),
    ],
)
def test_a_name_is_asked_for_at_each_connection(url: str) -> None:
    """What a name means is not looked up while files are read."""
    assert "" == at_load(url)


def provider(tmp_path: Path, **keys: Any) -> Any:
    return load(write(tmp_path, with_provider(**keys)), ENVIRON).providers["flatfile"]


def test_a_provider_has_its_own_reach(tmp_path: Path) -> None:
    """`allow_networks` holds for one provider; without it, calls go to public addresses."""
    mine = provider(tmp_path, allow_networks=["10.1.0.0/16", "127.0.0.1", "::1/128"])

    assert reach("10.1.0.0/16", "127.0.0.1/32", "::1/128") == mine.reach
    assert PUBLIC == provider(tmp_path).reach
    assert (
        "http://localhost:8000"
        == provider(
            tmp_path, base_url="http://localhost:8000", allow_http=True, allow_networks=["127.0.0.1/32"]
        ).base_url
    )
