"""Work on the host that goes on while the devices compute."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in another thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = pool.submit(next, items, _END)
            yield item
