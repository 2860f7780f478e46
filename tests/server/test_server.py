"""A server in a process of its own, through its socket: load, nonsense, swaps, and its end."""

import asyncio
import json
import re
import shutil
import signal
import threading
import time
import urllib.request

import pytest

pytest.importorskip("fastapi")

from benchmarks.http_load import Connection, ask, closed_load, open_load, post
from benchmarks.malformed import KINDS, send_malformed
from benchmarks.server_process import ServerProcess, replace_folder
from mqsa_jax.export.writing import export_run
from tests.inference.test_string_ids import ROWS
from tests.server.conftest import number

REQUESTS = [post("/recommend", {"history": [*map(number, row)], "k": 3}) for row in ROWS]


@pytest.fixture(scope="module")
def server(served, tmp_path_factory):
    home = tmp_path_factory.mktemp("server")
    export_run(served("mqsa-ted-plus").engine.model, home / "good")
    shutil.copytree(home / "good", home / "served")
    made = ServerProcess(home / "served", "--reload-on-change")
    yield made
    made.process.kill()
    made.process.communicate()


def test_answers_under_load_are_those_of_the_model(server, served):
    load = asyncio.run(closed_load(server.port, REQUESTS, connections=8, seconds=1))
    assert load.statuses.keys() == {200} and load.lost == 0 and load.models.keys() == {1}
    model = served("mqsa-ted-plus").engine.model
    replies = asyncio.run(ask(server.port, REQUESTS[:3]))
    for row, reply in zip(ROWS, replies, strict=False):
        (expected,) = model.recommend([[*map(number, row)]], 3)
        got = [(each["item"], each["score"]) for each in json.loads(reply.body)["items"]]
        assert [item for item, _ in got] == [item for item, _ in expected]
        assert [score for _, score in got] == pytest.approx([score for _, score in expected], 1e-4)


def test_malformed_requests_are_refused_with_a_reason(server):
    statuses, wrong = asyncio.run(send_malformed(server.port, 10 * len(KINDS), seed=1))
    assert wrong == []
    assert statuses.keys() <= {400, 404, 405, 413, 422}
    asyncio.run(closed_load(server.port, REQUESTS, connections=1, seconds=0.1))
    metrics = server.get("/metrics")
    assert 'path="/recommend",status="422"' in metrics and 'status="500"' not in metrics


def test_the_page_has_examples_that_work(server):
    schema = json.loads(server.get("/openapi.json"))
    for path in ("/recommend", "/score", "/similar"):
        posted = schema["paths"][path]["post"]
        asked = posted["requestBody"]["content"]["application/json"]["examples"]
        answered = posted["responses"]["200"]["content"]["application/json"]["examples"]
        for name, example in asked.items():
            (reply,) = asyncio.run(ask(server.port, [post(path, example["value"])]))
            assert json.loads(reply.body) == answered[name]["value"], (path, name)


def test_the_page_and_its_files_come_from_the_server_alone(server):
    page = server.get("/docs")
    assert not re.search(r"//\w", page)  # no address of another host
    assert 'validatorUrl": "none"' in page
    files = set(re.findall(r"""["'](/[^"']+)["']""", page))
    assert len(files) == 5 and "/openapi.json" in files
    for path in files:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as got:
            assert got.status == 200 and len(got.read()) > 500, path
    (style,) = (path for path in files if path.endswith(".css"))
    assert not re.search(r"url\((?!\"?data:)|@import", server.get(style))


def test_a_new_model_is_swapped_in_without_a_lost_request(server):
    loads = []

    def run_load():
        loads.append(asyncio.run(open_load(server.port, REQUESTS, rate=100, seconds=6)))

    thread = threading.Thread(target=run_load)
    thread.start()
    time.sleep(1)
    replace_folder(server.folder, server.folder.with_name("good"))
    thread.join()
    (load,) = loads
    server.wait_for(lambda health: health["model"]["generation"] == 2)
    assert load.statuses == {200: 600} and load.lost == 0


def test_a_broken_model_is_not_served(server):
    broken = server.folder.with_name("broken")
    shutil.copytree(server.folder, broken)
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[:-1])
    replace_folder(server.folder, broken)
    health = server.wait_for(lambda health: health["problem"])
    assert "model.safetensors: damaged" in health["problem"]
    assert health["folder"] == "changed" and health["model"]["generation"] == 2
    load = asyncio.run(closed_load(server.port, REQUESTS, connections=2, seconds=0.2))
    assert load.statuses.keys() == {200} and load.models.keys() == {2}
    replace_folder(server.folder, server.folder.with_name("good"))
    health = server.wait_for(lambda health: health["model"]["generation"] == 3)
    assert health["problem"] is None and health["folder"] == "unchanged"


def test_a_folder_that_is_gone_is_said_and_the_model_is_served_on(server):
    shutil.rmtree(server.folder)
    server.wait_for(lambda health: health["folder"] == "missing")
    load = asyncio.run(closed_load(server.port, REQUESTS, connections=2, seconds=0.2))
    assert load.statuses.keys() == {200}


def test_requests_in_flight_are_answered_when_the_server_is_asked_to_end(server):
    """The last test: it ends the server."""

    async def end_meanwhile():
        body = {"history": [*map(number, ROWS[0])], "explain": True}
        connections = [await Connection.to(server.port) for _ in range(40)]
        asked = [
            asyncio.ensure_future(connection.ask(post("/recommend", body)))
            for connection in connections
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        server.process.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*asked)
        for connection in connections:
            await connection.close()
        return replies

    assert {reply.status for reply in asyncio.run(end_meanwhile())} == {200}
    printed, errors = server.process.communicate(timeout=60)
    assert (server.process.returncode, errors) == (0, "")
    for line in ("model 2 is served", "is not served", "model 3 is served", "is gone or empty"):
        assert line in printed
