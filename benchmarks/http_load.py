"""A light client of HTTP, and two kinds of load: as fast as answers come, or at a fixed rate."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

HOST = "127.0.0.1"


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes


def post(path: str, content: Any, kind: str = "application/json") -> bytes:
    """The bytes of a POST request with a body of JSON, or with the bytes given."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
    return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    """The bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self):
        self._received, self._reply = bytearray(), None
        self._ended = asyncio.Event()
        self.open = True

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """A new connection to a server on this machine."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, HOST, port))[1]

    def connection_made(self, transport) -> None:
        """Keeps the transport."""
        self._transport = transport

    async def ask(self, request: bytes) -> Reply:
        """Sends a request and waits for its answer; ConnectionError if none comes."""
        if not self.open:
            raise ConnectionError("the server has closed the connection")
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def data_received(self, data: bytes) -> None:
        """Collects the answer; only answers with a content-length are understood."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        begin = head.find(b"content-length: ")
        if begin < 0:
            return
        if b"connection: close" in head:
            self.open = False
        length = int(head[begin + 16 :].split(b"\r\n", 1)[0])
        if len(self._received) >= end + 4 + length:
            self._answer(Reply(int(head[9:12]), bytes(self._received[end + 4 :])))

    def connection_lost(self, error: Exception | None) -> None:
        """Gives what has come, if the end of the connection was the end of the answer."""
        self.open = False
        self._ended.set()
        end = self._received.find(b"\r\n\r\n")
        if end >= 0:
            self._answer(Reply(int(self._received[9:12]), bytes(self._received[end + 4 :])))
        elif self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("closed without an answer"))

    def _answer(self, reply: Reply) -> None:
        self._received.clear()
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    async def close(self) -> None:
        """Ends the connection."""
        self._transport.abort()
        await self._ended.wait()


async def ask(port: int, requests: Sequence[bytes]) -> list[Reply]:
    """The answers to requests that are sent one after the other over one connection."""
    connection = await Connection.to(port)
    replies = [await connection.ask(request) for request in requests]
    await connection.close()
    return replies


class Load:
    """What became of many requests."""

    def __init__(self):
        self.seconds: list[float] = []
        """Latency of each answer."""
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        """Requests without an answer."""
        self.models: Counter[int] = Counter()
        """Answers by the number of the model that made them."""
        self.began = self.ended = time.perf_counter()

    def add(self, reply: Reply, seconds: float) -> None:
        """Counts an answer."""
        self.statuses[reply.status] += 1
        self.seconds.append(seconds)
        if reply.status == 200:
            self.models[json.loads(reply.body)["model"]] += 1

    def extend(self, later: "Load") -> None:
        """Adds a load that came after this one."""
        self.seconds += later.seconds
        self.statuses += later.statuses
        self.models += later.models
        self.lost += later.lost
        self.ended = later.ended

    @property
    def errors(self) -> int:
        """Answers other than 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    def milliseconds(self, share: float) -> float:
        """The latency that a share of the answers does not exceed."""
        return 1e3 * float(np.quantile(self.seconds, share)) if self.seconds else float("nan")

    def row(self) -> dict[str, float | int]:
        """What a table shows."""
        return {
            "answered_per_second": len(self.seconds) / (self.ended - self.began),
            "p50_ms": self.milliseconds(0.5),
            "p99_ms": self.milliseconds(0.99),
            "p999_ms": self.milliseconds(0.999),
            "slowest_ms": self.milliseconds(1),
            "answers": len(self.seconds),
            "errors": self.errors,
            "lost": self.lost,
        }


async def _ask(load: Load, connection: Connection, request: bytes, began: float) -> None:
    try:
        load.add(await connection.ask(request), time.perf_counter() - began)
    except ConnectionError:
        load.lost += 1


async def closed_load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Load:
    """Each connection sends its next request once it has the answer to the one before."""
    load, start = Load(), time.perf_counter()

    async def talk(first: int) -> None:
        connection, number = await Connection.to(port), first
        while (now := time.perf_counter()) - start < seconds and connection.open:
            await _ask(load, connection, requests[number % len(requests)], now)
            number += connections
        await connection.close()

    await asyncio.gather(*(talk(number) for number in range(connections)))
    load.began, load.ended = start, time.perf_counter()
    return load


async def open_load(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 128
) -> Load:
    """Requests arrive at random moments (Poisson), whether or not the server keeps up.

    A latency counts from the moment that the request was due, so that none is hidden by the wait
    for the answers before it.
    """
    rng = np.random.default_rng(0)
    due_N = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    load, idle = Load(), asyncio.Queue()
    for _ in range(connections):
        idle.put_nowait(await Connection.to(port))

    async def one(number: int, due: float, connection: Connection) -> None:
        await _ask(load, connection, requests[number % len(requests)], due)
        idle.put_nowait(connection)

    start, tasks = time.perf_counter(), []
    for number, due in enumerate(start + due_N):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due, await idle.get())))
    await asyncio.gather(*tasks)
    load.began, load.ended = start, time.perf_counter()
    while not idle.empty():
        await idle.get_nowait().close()
    return load
