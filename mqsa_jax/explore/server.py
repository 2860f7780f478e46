"""Serves the page from this process until it is interrupted."""

import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

from mqsa_jax.sockets import ANY_HOST, listen, url_of

SWITCH_SECONDS = 0.0005
"""After which a thread of Python hands over to another one; its default is ten times as much."""


def serve(load: Callable[[], object], host: str, bound: socket.socket, browser: bool) -> None:
    """Loads what is shown, says where, and answers until SIGINT or SIGTERM.

    Args:
      load: gives the `Explorer`.
      host: by which the page is asked for.
      bound: where it is asked; listens once all is loaded.
      browser: open it in a browser.
    """
    import uvicorn

    from mqsa_jax.explore.app import make_app

    # While the map is computed, answers wait for Python no longer than this.
    sys.setswitchinterval(SWITCH_SECONDS)
    explorer, url = load(), f"{url_of(bound, host)}/"
    listen(bound)
    # The names of a page that is to be seen from other machines are theirs to choose.
    hosts = ["*"] if host in ANY_HOST else ["127.0.0.1", "localhost", "::1", "[::1]", host]
    app = make_app(explorer, hosts)
    explorer.item_map.start()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    print(f"{explorer.title} at {url}  (Ctrl-C ends it)", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    try:
        server.run(sockets=[bound])
    except KeyboardInterrupt:
        return
    finally:
        explorer.item_map.stop()
