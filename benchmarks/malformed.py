"""Requests that a server of recommendations must refuse: each is wrong in a way of its own."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.http_load import Connection, Reply, get, post

PATHS = ("/recommend", "/score", "/similar")
MAX_BODY = 1_000_000
"""Bytes of a body, as `mqsa-jax serve` limits them by default."""
ODD = (None, True, False, 1.5, -0.0, 1e308, {}, [], [[1]], {"a": 1}, [None], [True], [1.5], [{}])
"""Values that are no id, no list of ids and no number of items."""
NO_K = (*ODD, 0, -1, 10**30, "10", "", "ten", "\ud800", 10**6)
SECONDS = 30.0
"""The longest that an answer is waited for."""


def valid(path: str, chance: random.Random) -> dict[str, Any]:
    """A body that is right; item 17 must be known to the model."""
    if path == "/similar":
        return {"item": 17, "k": 5}
    content = {"history": [17, *chance.sample(range(1, 1000), chance.randrange(10))]}
    return content | ({"k": 5} if path == "/recommend" else {"items": [17]})


def _body_of(field: str, values: tuple[Any, ...]) -> Callable[[random.Random], bytes]:
    def make(chance: random.Random) -> bytes:
        path = {"items": "/score", "item": "/similar"}.get(field, "/recommend")
        return post(path, valid(path, chance) | {field: chance.choice(values)})

    return make


def _truncated(chance: random.Random) -> bytes:
    path = chance.choice(PATHS)
    body = json.dumps(valid(path, chance)).encode()
    return post(path, body[: chance.randrange(len(body))])


def _noise(chance: random.Random) -> bytes:
    # Begins with a byte that JSON, in whatever encoding, cannot begin with.
    return post(chance.choice(PATHS), b"\xfa" + chance.randbytes(chance.randrange(300)))


def _missing(chance: random.Random) -> bytes:
    path = chance.choice(PATHS)
    content = valid(path, chance)
    del content["item" if path == "/similar" else "history"]
    return post(path, content)


def _extra(chance: random.Random) -> bytes:
    path = chance.choice(PATHS)
    name = "".join(chance.choices("abcxyz\0\n\ud800é", k=chance.randrange(1, 200)))
    return post(path, valid(path, chance) | {"_" + name: 1})


def _odd_ids(chance: random.Random) -> bytes:
    field = chance.choice(("history", "allow", "deny", "items"))
    path = "/score" if field == "items" else "/recommend"
    odd = chance.choice((*ODD, "17", "", "\ud800", "x" * 100_000))
    ids = [17] * chance.randrange(5) + [odd] + [17] * chance.randrange(3)
    return post(path, valid(path, chance) | {field: ids})


def _odd_times(chance: random.Random) -> bytes:
    entry = {"item": 17, "time": chance.choice((1, 2.5, -3))}
    wrong = chance.choice(
        (
            17,
            {"item": 17},
            {"time": 1},
            entry | {"time": "now"},
            entry | {"time": None},
            entry | {"time": float("nan")},
            entry | {"time": float("inf")},
            entry | {"item": 1.5},
            entry | {"more": 1},
        )
    )
    return post("/recommend", {"history": [entry] * chance.randrange(1, 4) + [wrong]})


def _unknown(chance: random.Random) -> bytes:
    id_ = chance.choice((-1, 10**12, 2**63, -(2**70), 10**4000))
    return chance.choice(
        (
            lambda: post("/similar", {"item": id_}),
            lambda: post("/score", {"history": [17], "items": [17, id_]}),
            lambda: post("/score", {"history": [id_], "items": [17]}),
            lambda: get(f"/items/{id_ % 10**30 + 10**12}"),
            lambda: get("/items/" + chance.choice(("", "x", "%00", "%ff", "017", "+17", "1/7"))),
        )
    )()


def _deep(chance: random.Random) -> bytes:
    depth = chance.randrange(2_000, 100_000)
    opened = chance.choice((b"[", b'{"history":'))
    return post(chance.choice(PATHS), opened * depth)


def _large(chance: random.Random) -> bytes:
    size = MAX_BODY + chance.randrange(1, 1000)
    if chance.random() < 0.5:
        return post("/recommend", b" " * size)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 17 + b"0\r\n\r\n"


def _too_many(chance: random.Random) -> bytes:
    return post(chance.choice(PATHS[:2]), {"history": [17] * 2_000, "items": [17]})


def _digits(chance: random.Random) -> bytes:
    digits = b"9" * chance.randrange(4_400, 20_000)
    return post("/recommend", b'{"history":[17],"k":' + digits + b"}")


def _form(chance: random.Random) -> bytes:
    return post(chance.choice(PATHS), b"history=17&k=5", "application/x-www-form-urlencoded")


def _elsewhere(chance: random.Random) -> bytes:
    path = chance.choice(("/", "/x", "/recommend/", "/recommend/17", "/items", "//", "/%2e%2e"))
    method = chance.choice(("PUT", "DELETE", "PATCH", "OPTIONS"))
    return chance.choice(
        (
            lambda: post(path, {}),
            lambda: get(chance.choice(PATHS)),
            lambda: f"{method} /recommend HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
        )
    )()


def _no_http(chance: random.Random) -> bytes:
    return chance.choice(
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"HELLO / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/9.9.9\r\n\r\n",
            b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
            b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: five\r\n\r\n",
            b"POST /recommend HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\nbad header\x00: x\r\n\r\n",
        )
    )


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "JSON that is cut off": _truncated,
    "bytes at random": _noise,
    "a field is missing": _missing,
    "a field too many": _extra,
    "k": _body_of("k", NO_K),
    "explain": _body_of("explain", (None, 0, 1, "yes", [], {})),
    "exclude_seen": _body_of("exclude_seen", (0, "", "all", [], {}, True)),
    "history": _body_of("history", (*(odd for odd in ODD if odd != []), 17, "17")),
    "item": _body_of("item", ODD),
    "ids": _odd_ids,
    "times": _odd_times,
    "items that are not known": _unknown,
    "brackets without end": _deep,
    "numbers without end": _digits,
    "a body beyond the limit": _large,
    "a history beyond the limit": _too_many,
    "a form": _form,
    "another path or method": _elsewhere,
    "no HTTP": _no_http,
}


def malformed(number: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many requests and what is wrong with each, of all kinds in turn."""
    chance = random.Random(seed)
    names = list(KINDS)
    for index in range(number):
        name = names[index % len(names)]
        yield name, KINDS[name](chance)


def has_reason(reply: Reply) -> bool:
    """Whether an answer refuses the request and says why."""
    return 400 <= reply.status < 500 and len(reply.body.strip()) > len(b'{"detail":""}')


async def send_malformed(port: int, number: int, seed: int) -> tuple[Counter, list[str]]:
    """Sends malformed requests one after the other.

    Returns:
      How many answers had each status, and what was wrong with the others: not a status 4xx with a
      reason.
    """
    statuses: Counter[int] = Counter()
    wrong = []
    connection = await Connection.to(port)
    for name, request in malformed(number, seed):
        if not connection.open:
            await connection.close()
            connection = await Connection.to(port)
        try:
            reply = await asyncio.wait_for(connection.ask(request), SECONDS)
        except (ConnectionError, TimeoutError) as error:
            wrong.append(f"{name}: {request[:200]!r}: {error!r}")
            await connection.close()
            connection = await Connection.to(port)
            continue
        statuses[reply.status] += 1
        if not has_reason(reply):
            wrong.append(f"{name}: {request[:200]!r}: {reply.status} {reply.body[:200]!r}")
    await connection.close()
    return statuses, wrong
