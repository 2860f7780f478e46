"""How training shows where it is: a bar, or plain lines without a terminal, and TensorBoard."""

import sys
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from mqsa_jax import hosts

SHOWN = ("loss", "loss_rec", "loss_kd", "valid_HR@20", "valid_NDCG@20")


class Progress:
    """A context in which epochs are shown as they end."""

    def __init__(self, events: Path, epochs_done: int, epochs: int):
        self._epochs_done, self._epochs = epochs_done, epochs
        self._began = time.perf_counter()
        self._bar = tqdm(
            total=epochs,
            initial=epochs_done,
            unit="epoch",
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
            dynamic_ncols=True,
        )
        # A resumed run hides events beyond the epoch that it continues from.
        self._events = SummaryWriter(
            str(events), purge_step=epochs_done + 1, write_to_disk=hosts.is_first()
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._events.close()

    def _seconds_left(self, epoch: int) -> float:
        """If no early stop comes before the last epoch."""
        done = epoch - self._epochs_done
        return (time.perf_counter() - self._began) / done * (self._epochs - epoch)

    def show(self, line: dict[str, Any], best: int) -> None:
        """Shows an epoch's line of metrics."""
        for name, value in line.items():
            if name != "epoch":
                self._events.add_scalar(name.replace("@", "_at_"), value, line["epoch"])
        self._events.flush()
        shown = {name: f"{line[name]:.4f}" for name in SHOWN}
        if self._bar.disable:
            values = "  ".join(f"{name} {value}" for name, value in shown.items())
            left = tqdm.format_interval(self._seconds_left(line["epoch"]))
            print(
                f"epoch {line['epoch']}/{self._epochs}  {values}  best {best}  "
                f"{line['seconds']:.1f} s  at most {left} left",
                flush=True,
            )
        else:
            self._bar.set_postfix({**shown, "best": best}, refresh=False)
            self._bar.update()
