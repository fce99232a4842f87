"""Which addresses may a call reach?"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Public addresses, and those of *networks*; or *anywhere*, for relay's own shell."""

    networks: tuple[Network, ...] = ()
    anywhere: bool = False


ANYWHERE: Final = Reach(anywhere=True)
"""For a person who types an address; never for what an event or a name server may lead to."""

# `ipaddress.is_global` has changed from one release of Python to the next, so the ranges stand here: those of
# IANA's two registries of special-purpose addresses (RFC 6890), multicast, and one that only Azure has.

_SPECIAL: Final = {
    ip_network(network): what
    for network, what in {
        "0.0.0.0/8": "this machine itself",
        "10.0.0.0/8": "inside a private network",
        "100.64.0.0/10": "inside a carrier's own network",
        "127.0.0.0/8": "this machine itself",
        "168.63.129.16/32": "inside a cloud's own network",
        "169.254.0.0/16": "on the local link",
        "172.16.0.0/12": "inside a private network",
        "192.0.0.0/24": "inside a range for protocols",
        "192.0.2.0/24": "inside a range for examples",
        "192.88.99.0/24": "inside a range of tunnels",
        "192.168.0.0/16": "inside a private network",
        "198.18.0.0/15": "inside a range for measurements",
        "198.51.100.0/24": "inside a range for examples",
        "203.0.113.0/24": "inside a range for examples",
        "224.0.0.0/4": "inside a range of groups",
        "240.0.0.0/4": "inside a range that nobody has",
        "::/128": "this machine itself",
        "::1/128": "this machine itself",
        "64:ff9b::/96": "inside a range of tunnels",  # NAT64 reaches any IPv4 address
        "2001::/23": "inside a range for protocols",  # Teredo, benchmarks, ORCHID: tunnels and no hosts
        "2001:db8::/32": "inside a range for examples",
        "2002::/16": "inside a range of tunnels",  # 6to4, too
        "3fff::/20": "inside a range for examples",
        "fc00::/7": "inside a private network",
        "fe80::/10": "on the local link",
        "ff00::/8": "inside a range of groups",
    }.items()
}

_PUBLIC: Final = (ip_network("0.0.0.0/0"), ip_network("2000::/3"))
"""All of IPv4, and of IPv6 what IANA has given out so far."""

_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            *("169.254.169.254", "fd00:ec2::254", "fd20:ce::254"),  # AWS and most others, AWS, Google
            *("169.254.170.2", "169.254.170.23", "fd00:ec2::23"),  # AWS: tasks, pods
            *("168.63.129.16", "100.100.100.200", "192.0.0.192"),  # Azure, Alibaba, Oracle
            *("169.254.0.23", "169.254.42.42", "fd00:42::42"),  # Tencent, Scaleway
        ),
    )
)
"""Where clouds hand out credentials to whoever asks: no setting opens these."""


def denied(address: str | Address, reach: Reach) -> str:
    """
    Say why a call with this *reach* must not go to *address*, or nothing: it may.

    The words go on after "it is 10.0.0.5, …". Text that is no address in its usual form is refused, and so is
    one with a zone (``fe80::1%eth0``); IPv4 inside IPv6 (``::ffff:10.0.0.1``) is judged as IPv4.
    """
    if reach.anywhere:
        return ""
    try:
        found = ip_address(address)
    except ValueError:
        return "which is no address"
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            return "an address with a zone"
        found = found.ipv4_mapped or found
    let_in = any(found in network for network in reach.networks)
    if found in _METADATA or (let_in and not _METADATA.isdisjoint(_behind(found))):
        return "where a cloud hands out credentials"
    what = "" if let_in else _special(found)
    return f"{what} (allow_networks)" if what else ""


def _special(address: Address) -> str:
    """Say where *address* is, if it is not public."""
    for network, what in _SPECIAL.items():
        if address in network:
            return what
    return "" if any(address in network for network in _PUBLIC) else "inside a range that is not public"


def _behind(address: Address) -> tuple[IPv4Address, ...]:
    """Return where an IPv6 address may tunnel to: NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380)."""
    if isinstance(address, IPv4Address):
        return ()
    number, low = int(address), (1 << 32) - 1
    return IPv4Address(number & low), IPv4Address(number >> 80 & low), IPv4Address(~number & low)
