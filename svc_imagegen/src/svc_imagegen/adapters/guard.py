"""
Which addresses this service may connect to when the address came from outside: from a client, a provider, a file.

A URL is checked twice: its text before anything happens, and every address that its host has, each time a connection
is made. The connection goes to the checked addresses themselves, so a name that changes its mind in between (DNS
rebinding) changes nothing. Parsing is yarl's, the same that connects: two parsers would see two hosts.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol

from yarl import URL

Network = IPv4Network | IPv6Network

URL_CHARS_MAX: Final = 8_192  # signed object-store links have about 1,500
_HOST_CHARS_MAX: Final = 253
# A name with more addresses than this is nothing we have to reach.
_N_ADDRESSES_MAX: Final = 64
_N_RESOLVER_THREADS: Final = 8
_FORBIDDEN_CHARS: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_HOST_CHARS: Final = re.compile(r"[A-Za-z0-9._-]+")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Nobody may reach these, also not with allow_private: this-host, link-local with its metadata services, multicast,
# reserved, documentation, benchmarks; the clouds' metadata addresses that lie in other ranges; and IPv6 forms that
# carry an IPv4 address to somewhere else (compatible, ISATAP, 6to4, Teredo).
_NEVER: Final = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "fd00:ec2::/32",
    "fd20:ce::/32",
)
# Inside: allowed for a provider with allow_private, such as a model server on the own node.
_PRIVATE: Final = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"
)
_IPV6_GLOBAL: Final = IPv6Network("2000::/3")
_IPV6_MAPPED: Final = IPv6Network("::ffff:0:0/96")
# NAT64 with the well-known prefix: how an IPv6-only node reaches IPv4; judged by the IPv4 address inside.
_IPV6_NAT64: Final = IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """The address may not be used. reason: a short English clause without the address's secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """
    What may be reached. ports None: any.

    allow_networks: what the operator allows beyond public addresses, such as the own object store.
    """

    ports: frozenset[int] | None = frozenset({80, 443})
    allow_private: bool = False
    allow_networks: tuple[Network, ...] = ()

    def check_url(self, text: str) -> URL:
        """
        Return the parsed URL, without its fragment.

        Raises:
            Forbidden: if its form, scheme, port or literal address is not allowed. Names are resolved later.
        """
        if not 0 < len(text) <= URL_CHARS_MAX:
            raise Forbidden(f"expected a URL of at most {URL_CHARS_MAX} characters, received {len(text)}")
        if _FORBIDDEN_CHARS.search(text):
            raise Forbidden("the URL contains a space, backslash or control character")
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise Forbidden("expected a URL that begins with http:// or https://")
        if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
            raise Forbidden("the URL contains a user name or password")
        url = _parse(text)
        self._check_host(url.raw_host or "")
        if self.ports is not None and url.port not in self.ports:
            raise Forbidden(f"port {url.port} is not allowed")
        return url.with_fragment(None)

    def check_address(self, text: str) -> None:
        """
        Check one resolved address.

        Raises:
            Forbidden: if it may not be connected to, or is no plain address.
        """
        if "%" in text:
            raise Forbidden("the address has a zone id")
        try:
            address = ip_address(text)
        except ValueError as error:
            raise Forbidden("the resolver gave no plain address") from error
        if any(address in network for network in self.allow_networks):
            return
        if not self._is_allowed(address):
            raise Forbidden("the address is private, local or reserved")

    def _check_host(self, host: str) -> None:
        if not 0 < len(host) <= _HOST_CHARS_MAX:
            raise Forbidden(f"expected a host of 1 to {_HOST_CHARS_MAX} characters, received {len(host)}")
        if ":" in host or "%" in host:
            self.check_address(host)
            return
        if not _HOST_CHARS.fullmatch(host):
            raise Forbidden("the host contains a character that no host name has")
        name = host.rstrip(".")
        if _is_number(name):
            # 2130706433, 0x7f.1, 0177.0.0.1, 127.1: resolvers read all of them as addresses.
            if not _is_canonical(name) or name != host:
                raise Forbidden("expected an IPv4 address as four decimal numbers")
            self.check_address(name)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        if isinstance(address, IPv6Address):
            if address in _IPV6_MAPPED or address in _IPV6_NAT64:
                return self._is_allowed(IPv4Address(int(address) & 0xFFFF_FFFF))
            if int(address) & 0xFFFF_FFFF_0000_0000 in (0x5EFE_0000_0000, 0x0200_5EFE_0000_0000):
                return False  # ISATAP
        if any(address in network for network in _NEVER):
            return False
        if any(address in network for network in _PRIVATE):
            return self.allow_private
        return isinstance(address, IPv4Address) or address in _IPV6_GLOBAL


class Resolve(Protocol):
    """Looks a host name up."""

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses; raises OSError if there are none."""
        ...


class SystemResolve:
    """The system's resolver, in threads of its own: a hanging name server holds up nothing but names."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_N_RESOLVER_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses; raises OSError if there are none."""
        loop = asyncio.get_running_loop()
        infos = await loop.run_in_executor(self._threads, _getaddrinfo, host, port)
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    def close(self) -> None:
        """End the threads; look-ups that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def resolve_checked(host: str, port: int, *, policy: AddressPolicy, resolve: Resolve) -> list[str]:
    """
    Return the addresses of a host, all of them allowed.

    Raises:
        Forbidden: if one of them is not: a name with both kinds is an attack, not a mistake.
        OSError: if the name has none.
    """
    addresses = await resolve(host, port)
    if not addresses:
        raise OSError(f"no address for {host[:80]!r}")
    if len(addresses) > _N_ADDRESSES_MAX:
        raise Forbidden(f"expected at most {_N_ADDRESSES_MAX} addresses of a host, received {len(addresses)}")
    for address in addresses:
        policy.check_address(address)
    return list(addresses)


def _getaddrinfo(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)  # type: ignore[return-value]


def _parse(text: str) -> URL:
    try:
        url = URL(text)
        _ = url.port, url.raw_host  # both are parsed lazily
    except ValueError as error:
        raise Forbidden("the URL cannot be parsed") from error
    if url.user is not None or url.password is not None:
        raise Forbidden("the URL contains a user name or password")
    return url


def _is_number(name: str) -> bool:
    """Return whether some resolver reads a host as an IPv4 address; also what only looks like one."""
    last = name.rpartition(".")[2]
    return bool(re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", last))


def _is_canonical(name: str) -> bool:
    try:
        return str(IPv4Address(name)) == name
    except ValueError:
        return False
