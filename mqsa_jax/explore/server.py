"""Serves the page from this process until it is interrupted."""

import contextlib
import errno
import importlib.util
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator

from mqsa_jax.errors import UserError

PACKAGES = ("fastapi", "uvicorn", "openTSNE")
"""What the page needs beside the package's own requirements."""
SWITCH_SECONDS = 0.0005
"""After which a thread of Python hands over to another one; its default is ten times as much."""
ANY_HOST = ("0.0.0.0", "::", "")


def check_installed() -> None:
    """Raises UserError if a package that the page needs is missing."""
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"explore needs {', '.join(missing)}: pip install 'mqsa-jax[explore]'")


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Args:
      host: name or address.
      port: 0: any that is free.

    Raises:
      UserError: if the port is in use, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            reason = "is in use; choose another one, or leave --port out for a free one"
        else:
            reason = f"cannot be listened on: {getattr(error, 'strerror', None) or error}"
        raise UserError(f"--port {port} of --host {host} {reason}") from None
    with opened:
        yield opened


def address(host: str, listener: socket.socket) -> str:
    """The page's URL.

    >>> with listening("127.0.0.1", 0) as listener:
    ...     address("127.0.0.1", listener).rsplit(":", 1)[0]
    'http://127.0.0.1'
    """
    port = listener.getsockname()[1]
    shown = socket.gethostname() if host in ANY_HOST else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def serve(load: Callable[[], object], host: str, listener: socket.socket, browser: bool) -> None:
    """Loads what is shown, says where, and answers until SIGINT or SIGTERM.

    Args:
      load: gives the `Explorer`.
      host: by which the page is asked for.
      listener: where it is asked.
      browser: open it in a browser.
    """
    import uvicorn

    from mqsa_jax.explore.app import make_app

    # While the map is computed, answers wait for Python no longer than this.
    sys.setswitchinterval(SWITCH_SECONDS)
    explorer, url = load(), address(host, listener)
    # The names of a page that is to be seen from other machines are theirs to choose.
    hosts = ["*"] if host in ANY_HOST else ["127.0.0.1", "localhost", "::1", "[::1]", host]
    app = make_app(explorer, hosts)
    explorer.item_map.start()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    print(f"{explorer.title} at {url}  (Ctrl-C ends it)", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        explorer.item_map.stop()
