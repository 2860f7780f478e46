"""Kills training at random moments and flips bits in its checkpoints; it must end as undisturbed.

python -m benchmarks.faults [--one 60] [--two 40] [--flips 100] [--seed 1]

Runs of one and of two processes on small data are ended again and again, by SIGKILL or SIGTERM, at
a random moment after they start or after they report progress; epochs are so short that a save is
nearly always under way. Between two starts, random bits of random checkpoint files are flipped. At
last a run is left to its end, and its checkpoint, history and ranks are compared with those of a
run that nothing happened to, bit by bit.
"""

import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.flipped_bits import FlippedBit, unfinished_saves
from benchmarks.measure import report
from mqsa_jax.runs.checkpoints import Checkpoints
from mqsa_jax.training.running_epoch import SPEED

ROOT = Path(__file__).parents[1]
EPOCHS = {1: 200, 2: 60}
"""By the number of processes: with two of them each takes longer."""
FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--lr=0.002", "--patience=1000"]
FLAGS += ["--save-every=2", "--dataset=histories.txt"]
RUNS = 2
"""Of each number of processes."""
ENDING_SECONDS, FINISHING_SECONDS = 300.0, 3600.0
"""The longest that a process may live on after it, or another one, was ended; and that a run takes
to its end. The table tells what it was, which on a quiet machine is much less."""
PROGRESS_SECONDS = 1.5
"""The longest time from a line of progress to the kill."""
START_SECONDS = 8.0
"""The longest time from the start to the kill, where it is counted from there."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is done."""

    one: int = 60
    """Ends of the runs of one process."""
    two: int = 40
    """Ends of the runs of two processes."""
    flips: int = 100
    """Bits that are flipped, over all runs together."""
    seed: int = 1
    """Of the moments, the signals and the bits."""


@dataclasses.dataclass
class Tally:
    """What happened to a run."""

    processes: int
    sigkill: int = 0
    sigterm: int = 0
    within_a_save: int = 0
    """Ends after which an unfinished checkpoint was left."""
    flips: int = 0
    gone_back: int = 0
    """Starts that passed over something damaged or unfinished, and said so."""
    refused: int = 0
    """Starts that found nothing whole to go on from, and said so; the bits were flipped back."""
    slowest_end_seconds: float = 0.0
    """From the signal to the end of the last process."""
    identical: bool = False


def write_histories(path: Path) -> None:
    """60 users with 4 to 11 of 30 items."""
    rng = np.random.default_rng(0)
    path.write_text(
        "".join(
            f"{user} {' '.join(map(str, rng.integers(1, 31, rng.integers(4, 12))))}\n"
            for user in range(1, 61)
        )
    )


class Processes:
    """The processes of a run, started, watched and ended."""

    def __init__(self, home: Path, name: str, count: int):
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            address = f"localhost:{listener.getsockname()[1]}"
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(home / "compiled")}
        env |= {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "train.py"), *FLAGS, f"--run-dir={name}"]
        command.append(f"--epochs={EPOCHS[count]}")
        hosts = [f"--coordinator-address={address}", f"--num-processes={count}"]
        self._all = [
            subprocess.Popen(
                [*command, *([*hosts, f"--process-id={index}"] if count > 1 else [])],
                cwd=home,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        self._errors: list[str] = []
        self._progress = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, True))
            for process in self._all
        ] + [
            threading.Thread(target=self._read, args=(process.stderr, False))
            for process in self._all
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, is_output: bool) -> None:
        for line in stream:
            if not is_output:
                self._errors.append(line)
            elif line.startswith("epoch "):
                self._progress.set()

    def wait_for_progress(self) -> None:
        """Waits for the first epoch that ends, or for the processes."""
        while not self._progress.wait(0.05) and any(p.poll() is None for p in self._all):
            pass

    def signal(self, number: int, chance: random.Random) -> bool:
        """To one of the processes that still run, if there is any.

        Before the first epoch has ended it is to all: they may not have found each other yet, and
        one that is left waits for the others for five minutes.
        """
        living = [process for process in self._all if process.poll() is None]
        chosen = [chance.choice(living)] if living and self._progress.is_set() else living
        for process in chosen:
            process.send_signal(number)
        return bool(living)

    def end(self, seconds: float) -> tuple[list[int], str]:
        """Exit codes and errors, of processes that must end by themselves."""
        deadline = time.monotonic() + seconds
        try:
            for process in self._all:
                process.wait(max(deadline - time.monotonic(), 0.1))
        finally:
            for process in self._all:
                process.kill()
        for reader in self._readers:
            reader.join()
        return [process.returncode for process in self._all], "".join(self._errors)


def end_somewhere(home: Path, name: str, tally: Tally, chance: random.Random) -> list[int]:
    """Starts the run, ends it at a random moment and looks at what is left; its exit codes."""
    processes = Processes(home, name, tally.processes)
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0, START_SECONDS))
    else:
        processes.wait_for_progress()
        time.sleep(chance.uniform(0, PROGRESS_SECONDS))
    number = chance.choice([signal.SIGKILL, signal.SIGTERM])
    was_sent, sent = processes.signal(number, chance), time.monotonic()
    codes, errors = processes.end(ENDING_SECONDS)
    if was_sent:
        tally.slowest_end_seconds = max(tally.slowest_end_seconds, time.monotonic() - sent)
        tally.sigkill += number == signal.SIGKILL
        tally.sigterm += number == signal.SIGTERM
        tally.within_a_save += bool(unfinished_saves(home / name))
    tally.gone_back += "goes on from" in errors or "starts afresh" in errors
    return codes


def outcome(run: Path, epoch: int) -> dict[str, Any]:
    """All that a run came to: every array of its last epoch's state, its history and its ranks."""
    checkpoints = Checkpoints(run / "checkpoints")
    state = checkpoints.restore_plain(epoch)
    checkpoints.close()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [{name: line[name] for name in line if name not in SPEED} for line in lines]
    with np.load(run / "ranks.npz", allow_pickle=False) as ranks:
        arrays = {name: array.tobytes() for name, array in ranks.items()}
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        "lines": lines,
        **{jax.tree_util.keystr(keys): np.asarray(leaf).tobytes() for keys, leaf in leaves},
        **arrays,
    }


def finish(home: Path, name: str, processes: int) -> tuple[list[int], str]:
    """Lets a run go on to its end."""
    return Processes(home, name, processes).end(FINISHING_SECONDS)


def disturb(
    home: Path, name: str, processes: int, kills: int, flips: int, chance: random.Random
) -> Tally:
    """A run that is ended so often and whose checkpoints are so often harmed."""
    tally, flipped = Tally(processes), []

    def restore_if_refused(codes: list[int]) -> bool:
        tally.refused += 2 in codes
        # The last one first: two may be in one file.
        while 2 in codes and flipped:
            flipped.pop().undo()
        return 2 in codes

    while (ends := tally.sigkill + tally.sigterm) < kills:
        refused = restore_if_refused(end_somewhere(home, name, tally, chance))
        # Some bits after each end, but that the run must have gone on from those before.
        due = 0 if refused else -(-(flips - tally.flips) // (kills - ends))
        for _ in range(due):
            if flip := FlippedBit.somewhere(home / name, chance):
                flipped.append(flip)
                tally.flips += 1
        print(name, tally, flush=True)
    codes, errors = finish(home, name, processes)
    if restore_if_refused(codes):
        codes, errors = finish(home, name, processes)
    if set(codes) != {0}:
        raise SystemExit(f"{name} did not end well: {codes}\n{errors}")
    return tally


def main(options: Options) -> None:
    """Disturbs the runs and reports."""
    chance = random.Random(options.seed)
    tallies = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_histories(home / "histories.txt")
        ends = {processes: n for processes, n in ((1, options.one), (2, options.two)) if n}
        for processes, kills in ends.items():
            codes, errors = finish(home, f"undisturbed-{processes}", processes)
            if set(codes) != {0}:
                raise SystemExit(errors)
            expected = outcome(home / f"undisturbed-{processes}", EPOCHS[processes])
            flips = options.flips * kills // sum(ends.values())
            for number in range(RUNS):
                name = f"disturbed-{processes}-{number}"
                shares = kills // RUNS, flips // RUNS
                tally = disturb(home, name, processes, *shares, chance)
                tally.identical = outcome(home / name, EPOCHS[processes]) == expected
                tallies.append(tally)
                # At once, since the others take long.
                rows = list(map(dataclasses.asdict, tallies))
                report("faults", rows, None, **dataclasses.asdict(options))
    if not all(tally.identical for tally in tallies):
        raise SystemExit("a run did not end as the undisturbed one")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
