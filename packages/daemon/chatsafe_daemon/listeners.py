"""Sockets to listen on, bound before anything else starts."""

import errno
import ipaddress
import os
import socket
import sys


class BindError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def bind(host: str, port: int, *, only_loopback: bool) -> list[socket.socket]:
    """One socket for each address of `host`, all on the same port; port 0 lets the system choose.

    `only_loopback` refuses a name that leads anywhere else. Raises BindError.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise BindError(
            f"The host {host} is not known ({error.strerror}). Correct server.host."
        ) from None
    bound: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        ip = str(address[0])
        if only_loopback and not ipaddress.ip_address(ip.split("%")[0]).is_loopback:
            _close(bound)
            raise BindError(
                f"The host {host} leads to {ip}, which other machines can reach. Use 127.0.0.1."
            )
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix" and sys.platform != "cygwin":
                # Without it a restart waits for old connections; on Windows it would share.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((ip, port, *address[2:]))
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
        else:
            bound.append(listener)
            port = listener.getsockname()[1]
    # "localhost" may have an IPv6 address on a machine without IPv6: one of two is enough.
    if bound and (failure is None or failure.errno != errno.EADDRINUSE):
        return bound
    _close(bound)
    raise BindError(_reason(host, port, failure))


def url_of(listener: socket.socket) -> str:
    """The address to type, on this machine."""
    ip, port = listener.getsockname()[:2]
    if ipaddress.ip_address(ip).is_unspecified:
        ip = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"


def _reason(host: str, port: int, failure: OSError | None) -> str:
    number = failure.errno if failure is not None else None
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: a ChatSafe daemon may be running already "
            f"(`chatsafe status`). Stop it, or start this one with another --port."
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"Port {port} needs more rights than you have. Use one above 1023: --port 8081."
    if number == errno.EADDRNOTAVAIL:
        return f"The address {host} does not belong to this machine. Correct server.host."
    text = failure.strerror if failure is not None else "no address"
    return f"Cannot listen on {host} port {port}: {text}."


def _close(sockets: list[socket.socket]) -> None:
    for listener in sockets:
        listener.close()
