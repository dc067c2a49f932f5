"""Which addresses a tool may reach: a name is resolved once, every address of it is judged, and those are connected to.

Resolving again when connecting would let a name server answer with a public address first and with a private one
then (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from runtime_core.errors import RetryableToolError, ToolAuthError, ToolTimeoutError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: RFC 6052: addresses that carry an IPv4 address in their last 32 bits.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: All that IANA gives out as unicast addresses of the Internet. What lies elsewhere (site-local fec0::/10, ::a.b.c.d,
#: local NAT64) is somebody's own network, and ``ipaddress`` calls some of it global.
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
#: IETF protocol assignments; Python before 3.11.10 calls half of them global.
_IPV4_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")


def is_public(address: str) -> bool:
    """Whether it is a unicast address of the Internet, also by what an IPv6 address carries inside it."""
    return all(_is_public(one) for one in _meanings(ipaddress.ip_address(address)))


def _is_public(one: _Address) -> bool:
    if isinstance(one, ipaddress.IPv4Address):
        return one.is_global and not one.is_multicast and one not in _IPV4_PROTOCOLS
    return one in _NAT64 or (one in _IPV6_UNICAST and one.is_global)


def _meanings(address: _Address) -> list[_Address]:
    """The address and those that it carries. One that maps IPv4 (::ffff:0:0/96) is not public in any case."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    carried: list[_Address] = [address]
    if address.sixtofour is not None:
        carried.append(address.sixtofour)
    if address.teredo is not None:
        carried.extend(address.teredo)
    if address in _NAT64:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return carried


async def addresses_of(host: str, *, timeout_s: float, tool: str) -> list[str]:
    """The addresses of ``host``, a name or an address in any spelling, the preferred one first.

    Raises RetryableToolError if it has none and ToolTimeoutError if that takes longer than ``timeout_s``.
    """
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise ToolTimeoutError(
            f"resolving {host!r} took longer than {timeout_s:g} s", hint="try again later", tool_id=tool
        ) from error
    except (OSError, UnicodeError) as error:
        raise RetryableToolError(
            f"the host {host!r} cannot be resolved", hint="check its spelling", tool_id=tool
        ) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def permitted_addresses(host: str, *, allow_private: bool, timeout_s: float, tool: str) -> list[str]:
    """As ``addresses_of``. Raises ToolAuthError if one of them is not public and ``allow_private`` does not say so."""
    addresses = await addresses_of(host, timeout_s=timeout_s, tool=tool)
    if not allow_private and not all(is_public(address) for address in addresses):
        raise ToolAuthError(
            f"the host {host!r} has a private, loopback, link-local or reserved address",
            hint="use a public host; the tool's config allows others with allow_private: true",
            tool_id=tool,
        )
    return addresses
