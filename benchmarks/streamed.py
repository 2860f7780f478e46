"""Seconds and memory of streaming: a generated data set is read, trained on and evaluated.

    python -m benchmarks.streamed --users 2000000 --items 1000000 -- --ranking-loss sampled

What stands behind `--` goes to `train` as it is. Every stage is a process of its own, measured from
outside: `write` writes the prepared folder through the writer of `mqsa-jax prepare`; `read` takes
an epoch of batches from the stream and does nothing with them; `train` trains one epoch and tests
it on a sample of the users; `evaluate` tests it again; `recommend` makes lists for some users.

Histories have 5 items and more, 10 on average, as in the data of the paper; half of the items
follow from the one before.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tyro

from benchmarks.measure import report
from benchmarks.prepare import measured

BLOCK = 50_000
"""Users that are generated at a time."""
SHORTEST, MEAN = 5, 10
STAGES = ("write", "read", "train", "evaluate", "recommend")
MAX_LEN = 50


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of the benchmark."""

    users: int = 200_000
    """Users of the data set."""
    items: int = 100_000
    """Items of the data set."""
    batch_size: int = 1024
    """Users in a step."""
    window: int = 1 << 20
    """Users that are shuffled together."""
    workers: int = 0
    """Processes that read and pack; 0: a thread."""
    eval_users: int = 1000
    """Users that are tested."""
    folder: str | None = None
    """Where data and run are kept (default: nowhere)."""
    stages: tuple[Literal["write", "read", "train", "evaluate", "recommend"], ...] = STAGES
    """What is measured."""
    stage: Literal["write", "read"] | None = None
    """For the processes that the benchmark starts."""


def write(folder: Path, users: int, items: int) -> None:
    """Writes the prepared folder; the same one for the same numbers."""
    from mqsa_jax.prepare.folder_writer import HistoryWriter, write_manifest, write_vocabularies

    folder.mkdir()
    writer = HistoryWriter(folder, np.arange(users), np.arange(items), [])
    for block in events(users, items):
        writer.add(block)
    writer.close()
    ids = (pa.array(np.arange(1, count + 1)) for count in (users, items))
    write_vocabularies(folder, *ids, writer.counts)
    content = {"users": users, "items": items, "interactions": writer.interactions}
    write_manifest(folder, content)


def events(users: int, items: int) -> Iterator[pa.RecordBatch]:
    """User, item and time of all events, by user and time; popular items have a small index."""
    rng = np.random.default_rng(1)
    for begin in range(0, users, BLOCK):
        number = np.arange(begin, min(begin + BLOCK, users), dtype=np.int32)
        length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), number.size)
        drawn = (items * rng.random(length.sum()) ** 2).astype(np.int32)
        next_one = (np.roll(drawn, 1) + rng.integers(1, 4, drawn.size, dtype=np.int32)) % items
        item = np.where(rng.random(drawn.size) < 0.5, next_one, drawn)
        start = np.repeat(np.cumsum(length) - length, length)
        day = 86_400_000_000
        time_of = 1_500_000_000_000_000 + day * (np.arange(drawn.size) - start)
        yield pa.record_batch({"user": np.repeat(number, length), "item": item, "time": time_of})


def read(folder: Path, arguments: Arguments) -> dict[str, Any]:
    """Takes an epoch of batches, as training does but for the devices' work."""
    from mqsa_jax.data.stream_batches import StreamBatches
    from mqsa_jax.data.streamed import StreamedHistories
    from mqsa_jax.data.transitions import training_transitions

    clock = [time.perf_counter()]

    def lap() -> float:
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    data = StreamedHistories.open(folder)
    told: dict[str, Any] = {"open_seconds": lap()}
    counts = training_transitions(data, MAX_LEN)
    told |= {"count_seconds": lap(), "transitions": int(counts.row_start[-1])}
    settings = (arguments.batch_size, MAX_LEN, 1, 1)
    source = StreamBatches.of(data, arguments.window, arguments.workers, counts, *settings)
    positions, shapes = 0.0, set()
    for epoch in source.epochs(0, 1, 512):
        for batch in epoch:
            positions += float(batch.num_positions.sum())
            shapes.add(batch.inputs.item.shape[1:] + batch.successor.shape[2:])
    seconds = lap()
    return told | {
        "batch_seconds": seconds,
        "positions_a_second": positions / seconds,
        "lanes": source.order.num_lanes,
        "shapes": len(shapes),
    }


def stage_command(stage: str, home: Path, arguments: Arguments, flags: list[str]) -> list[str]:
    """The command of a stage."""
    data, run = str(home / "data"), str(home / "run")
    if stage in ("write", "read"):
        own = dataclasses.asdict(arguments) | {"folder": str(home), "stage": stage}
        del own["stages"]
        given = [f"--{name.replace('_', '-')}={value}" for name, value in own.items()]
        return [sys.executable, "-m", "benchmarks.streamed", *given]
    command = [sys.executable, "-m", "mqsa_jax"]
    if stage == "train":
        return [
            *(*command, "train", f"--dataset={data}", f"--run-dir={run}", "--no-resume"),
            *("--stream=always", f"--stream-window={arguments.window}", "--epochs=1"),
            f"--stream-workers={arguments.workers}",
            *(f"--batch-size={arguments.batch_size}", f"--eval-users={arguments.eval_users}"),
            *flags,
        ]
    if stage == "evaluate":
        return [*command, "eval", f"--run-dir={run}"]
    users = ",".join(map(str, range(1, arguments.eval_users + 1)))
    output = str(home / "lists.parquet")
    return [*command, "recommend", f"--run-dir={run}", f"--users={users}", f"--output={output}"]


def main() -> None:
    """Measures and reports."""
    own, _, flags = " ".join(sys.argv[1:]).partition(" -- ")
    arguments = tyro.cli(Arguments, args=own.split(), description=__doc__.splitlines()[0])
    if arguments.stage is not None:
        home = Path(arguments.folder)
        if arguments.stage == "write":
            write(home / "data", arguments.users, arguments.items)
        else:
            (home / "read.json").write_text(json.dumps(read(home / "data", arguments)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(arguments.folder or scratch)
        home.mkdir(parents=True, exist_ok=True)
        for stage in arguments.stages:
            figures = measured(stage_command(stage, home, arguments, flags.split()))
            rows.append({"stage": stage, **figures})
            if stage == "read":
                rows[-1] |= json.loads((home / "read.json").read_text())
        size = sum(path.stat().st_size for path in (home / "data").rglob("*.parquet")) / 2**20
    settings = dataclasses.asdict(arguments)
    kept = {name: settings[name] for name in ("users", "items", "batch_size", "window", "workers")}
    report("streamed", rows, **kept, eval_users=arguments.eval_users, flags=flags, data_mib=size)


if __name__ == "__main__":
    main()
