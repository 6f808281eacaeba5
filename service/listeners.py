"""The sockets that the service listens on, and a word where they are open to more than was meant."""

import ipaddress
import logging
import socket
import sys

from service.errors import StartupError
from service.settings import Settings

# What the system may take of an answer before its client reads, doubled by Linux for what it keeps beside it. Left to
# itself it takes up to 4 MB, and to copy that for 200 clients who do not read kept others waiting for 5 s instead of
# 0.4, on two busy cores. It is also what a connection carries in one round trip, which is enough.
_SEND_BUFFER_BYTES = 262_144
logger = logging.getLogger(__name__)


def bind(host: str, port: int, variables: str) -> socket.socket:
    """Take the address before anything slow is done; connections are accepted only once the models are warm.

    Raises:
        StartupError: it cannot be had; names the `variables` that say which it is.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # where the option would let two processes share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # connections inherit it
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
        raise _cannot_listen(host, port, error, variables) from error
    return listener


def listen(listener: socket.socket, variables: str, *, backlog: int) -> None:
    """Have connections accepted from here on, `backlog` of them ahead.

    Raises:
        StartupError: another has begun to since `bind`. Linux lets several have an address until one listens on it.
    """
    try:
        listener.listen(backlog)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _cannot_listen(host, port, error, variables) from error


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError, variables: str) -> StartupError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return StartupError(f"cannot listen on {host}:{port}: {why} ({variables})")


def warn_when_open(listener: socket.socket, settings: Settings) -> bool:
    """Say so where anyone may reach the service and is asked for no key, unless that is meant; whether it was said."""
    address = _address(listener)
    if address.is_loopback or settings.api_keys_file is not None or settings.allow_open:
        return False
    logger.warning(
        "ANYONE who reaches %s may use this service: it listens beyond this machine and asks nobody for a key. Set"
        " SIGHTLINE_API_KEYS_FILE to a file of keys, or SIGHTLINE_HOST=127.0.0.1 and put the edge in front, or, where"
        " it is meant (on a closed network, or in a container published on loopback), SIGHTLINE_ALLOW_OPEN=true.",
        address,
    )
    return True


def warn_when_metrics_are_open(listener: socket.socket, settings: Settings) -> None:
    """Keys or not: on the second port nobody is asked for one."""
    address = _address(listener)
    if address.is_loopback or settings.allow_open:
        return
    logger.warning(
        "ANYONE who reaches %s, port %d, may read the metrics: that port asks nobody for a key, whatever"
        " SIGHTLINE_API_KEYS_FILE says. Set SIGHTLINE_METRICS_HOST to 127.0.0.1 or to an address that only the scraper"
        " reaches, and, where it is one, SIGHTLINE_ALLOW_OPEN=true.",
        address,
        listener.getsockname()[1],
    )


def _address(listener: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])
