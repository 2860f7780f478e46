"""Lists by approximate indexes beside exact ones: recall, latency, and what an index takes.

    python -m benchmarks.item_index [--items 12000 1000000] [--indexes usearch faiss]

Item vectors are drawn: clusters of some 100 items around centres, lengths log-normal, as popular
items' vectors are longer. Histories stay within two clusters. All dense kernels of the model are 0,
so that a user vector is the normalised mean of the latest items' vectors; each item has 16
transitions within its cluster for the term of MQSA-TED+. The two makers of lists are those of
`recommend`, encoder and term included. Processor time is that of all cores together, which other
work on the machine leaves alone.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.measure import report
from mqsa_jax.config import Config, ModelConfig, TermConfig
from mqsa_jax.devices import DeviceLayout, enable_compilation_cache
from mqsa_jax.export.approximate_lists import IndexedRun
from mqsa_jax.export.item_index import KINDS
from mqsa_jax.inference.evaluation_set import Queries
from mqsa_jax.inference.lists import ListMaker, Lists
from mqsa_jax.inference.loaded_run import TrainedRun
from mqsa_jax.inference.recommend import queries_of
from mqsa_jax.models.hparams import HParams
from mqsa_jax.models.recommender import Recommender, init
from mqsa_jax.models.registry import with_model
from mqsa_jax.models.relations import ItemRelations
from mqsa_jax.models.transition_term import Neighbours

TOP, LENGTH = 20, 10
USERS = 256
SINGLE_USERS = 64
"""Users whose lists are timed one at a time."""
CLUSTER = 100
"""Items of a cluster."""
TITLES = {"usearch": "USearch, HNSW", "faiss": "Faiss, IVF"}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of the benchmark."""

    items: tuple[int, ...] = (12_000, 1_000_000)
    """V, one after the other."""
    indexes: tuple[Literal["usearch", "faiss"], ...] = ("usearch", "faiss")
    """Libraries to measure."""


def drawn_run(num_items: int, rng: np.random.Generator) -> TrainedRun:
    """A model of the recipe's form on drawn item vectors."""
    model = ModelConfig(model="mqsa-ted-plus")
    config = with_model(Config(model=model, term=TermConfig(term_items=4)), "mqsa-ted-plus")
    recommender = Recommender.of(config, num_items)
    tiny = init(dataclasses.replace(recommender, num_items=1), jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * (path[-1].key not in ("kernel", "position_embedding")), tiny
    )
    dim = recommender.dim
    centre = rng.normal(size=(num_items // CLUSTER, dim))[
        np.arange(num_items) % (num_items // CLUSTER)
    ]
    vector = centre + rng.normal(size=(num_items, dim))
    length = rng.lognormal(sigma=0.3, size=(num_items, 1)) / dim**0.5
    params["item_embedding"] = jnp.asarray((vector * length).astype(np.float32))
    relations = ItemRelations(neighbours=_drawn_neighbours(num_items, rng))
    common = (config, 1, np.arange(num_items), Path(), None, lambda: None)
    return TrainedRun(*common, recommender, params, HParams.of(config), relations)


def _drawn_neighbours(num_items: int, rng: np.random.Generator) -> Neighbours:
    """Sixteen other items of an item's cluster, and weights that fall off."""
    clusters, width = num_items // CLUSTER, 16
    step = clusters * rng.integers(1, CLUSTER, (num_items, width))
    item = (np.arange(num_items)[:, None] + step) % num_items
    weight = rng.exponential(0.05, (num_items, width))
    scales = np.ones(num_items, np.float32)
    return Neighbours(
        *map(jnp.asarray, (item.astype(np.int32), weight.astype(np.float32), scales, scales)),
        jnp.ones((4, 5), jnp.float32),
    )


def drawn_queries(num_items: int, rng: np.random.Generator) -> Queries:
    """Histories of ten items of two clusters each."""
    clusters = num_items // CLUSTER
    cluster_U2 = rng.integers(0, clusters, (USERS, 2))
    which_UN = rng.integers(0, 2, (USERS, LENGTH))
    cluster_UN = np.take_along_axis(cluster_U2, which_UN, axis=1)
    item_UN = (cluster_UN + clusters * rng.integers(0, CLUSTER, (USERS, LENGTH))) % num_items
    lengths = np.full(USERS, LENGTH)
    return queries_of(item_UN.ravel().astype(np.int32), lengths, num_items, 50, "history")


def measured(make: Callable[[], ListMaker], queries: Queries) -> tuple[Lists, dict[str, float]]:
    """The lists of all users, and what one user's and all users' take; compilation aside."""
    one_by_one, together = make(), make()
    blocks = [queries_of_one(queries, user) for user in range(SINGLE_USERS)]
    one_by_one.start(blocks[0]).wait()
    lists = together.start(queries).wait()
    seconds, began = [], time.process_time()
    for block in blocks:
        started = time.perf_counter()
        one_by_one.start(block).wait()
        seconds.append(time.perf_counter() - started)
    alone = time.process_time() - began
    began = time.process_time()
    together.start(queries).wait()
    return lists, {
        "ms": 1e3 * statistics.median(seconds),
        "ms of processors": 1e3 * alone / len(blocks),
        "ms of processors, 256 at a time": 1e3 * (time.process_time() - began) / USERS,
    }


def queries_of_one(queries: Queries, user: int) -> Queries:
    """The query of one user."""
    some = slice(user, user + 1)
    parts = (part[some] for part in (queries.inputs, queries.seen, queries.targets))
    return Queries(queries.items, queries.num_items, *parts)


def recall(lists: Lists, exact: Lists) -> float:
    """Share of the items of exact lists that the others hold, the mean over users."""
    pairs = zip(lists.items, exact.items, strict=True)
    return statistics.mean(len(set(ours) & set(theirs)) / TOP for ours, theirs in pairs)


def rows_of(num_items: int, libraries: tuple[str, ...]) -> list[dict[str, Any]]:
    """Exact lists, and those by each index."""
    rng = np.random.default_rng(0)
    run, queries, layout = (
        drawn_run(num_items, rng),
        drawn_queries(num_items, rng),
        DeviceLayout.of(1),
    )
    exact, times = measured(lambda: run.list_maker(TOP, None, layout), queries)
    rows: list[dict[str, Any]] = [{"items": num_items, "lists": "exact", "recall@20": 1.0, **times}]
    parts = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    for library in libraries:
        began = time.process_time()
        index = KINDS[library].build(np.asarray(run.item_vectors()))
        built = time.process_time() - began
        with tempfile.TemporaryDirectory() as folder:
            index.write(Path(folder) / "index")
            mib = (Path(folder) / "index").stat().st_size / 2**20
        indexed = IndexedRun(**parts, index=index)
        lists, times = measured(lambda: indexed.list_maker(TOP, None, layout), queries)  # noqa: B023
        found = recall(lists, exact)
        facts = {"build, s of processors": built, "MiB": mib}
        row = {"items": num_items, "lists": TITLES[library], "recall@20": found, **times, **facts}
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Measures and reports."""
    arguments = tyro.cli(Arguments, description=__doc__.splitlines()[0])
    enable_compilation_cache()
    rows = [row for size in arguments.items for row in rows_of(size, arguments.indexes)]
    report("item_index", rows, top=TOP, history=LENGTH)


if __name__ == "__main__":
    main()
