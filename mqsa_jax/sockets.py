"""The address that a server answers at."""

import contextlib
import errno
import socket
from collections.abc import Iterator

from mqsa_jax.errors import SettingError

ANY_HOST = ("0.0.0.0", "::", "")
"""Hosts that stand for all addresses of this machine."""


@contextlib.contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that holds an address and does not listen yet.

    Args:
      host: name or address, of IPv4 or IPv6; of a name that has both, IPv4 is taken.
      port: 0: any that is free.

    Raises:
      SettingError: if there is no such host or port, or the address cannot be had.
    """
    if not 0 <= port <= 65535:
        raise SettingError(f"{{port}} must be 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{{host}} {host}: {reason}; name an address of this machine") from None
    family, kind, number, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    with socket.socket(family, kind, number) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            raise _unavailable(host, port, error) from None
        yield bound


def listen(bound: socket.socket) -> None:
    """Lets clients connect.

    Raises:
      SettingError: if another process listens by now: Linux lets several hold an address before.
    """
    try:
        bound.listen()
    except OSError as error:
        raise _unavailable(*bound.getsockname()[:2], error) from None


def url_of(bound: socket.socket, host: str | None = None) -> str:
    """Where a socket is found; `host`: by which name, instead of its address.

    >>> with bound_socket("127.0.0.1", 0) as bound:
    ...     url_of(bound, "localhost").rsplit(":", 1)[0]
    'http://localhost'
    """
    own, port = bound.getsockname()[:2]
    host = own if host is None else host
    shown = socket.gethostname() if host in ANY_HOST else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _unavailable(host: str, port: int, error: OSError) -> SettingError:
    if error.errno == errno.EADDRINUSE:
        reason = "is in use; choose another one, or 0 for any that is free"
    else:
        reason = f"cannot be had: {error.strerror}; choose another one"
    return SettingError(f"{{port}} {port} of {{host}} {host} {reason}")
