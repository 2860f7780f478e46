"""RecTools' SASRec, timed; `python -m benchmarks.peers` runs this in an environment of its own.

    python peer_rectools.py HISTORIES.json SETTINGS

HISTORIES.json is a list of histories of item numbers, of which the last two items are held out;
SETTINGS is the JSON object that `benchmarks.peers` describes. Prints one line of JSON.

An epoch is the time between Lightning's `on_train_epoch_start` and `on_train_epoch_end`: drawing
and padding batches, forward, backward and Adam; preparing the data and building the model come
before. RecTools has no evaluation of its own while it trains: timed is what its users call instead,
`recommend` of 20 items to all users and `calc_metrics` of those against the validation items.
"""

import contextlib
import json
import logging
import platform
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytorch_lightning as lightning
import rectools
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

CUTOFFS = (5, 10, 20)


class EpochTimer(lightning.Callback):
    """Seconds of each epoch."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_) -> None:
        """Starts the watch."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, *_) -> None:
        """Reads the watch."""
        self.seconds.append(time.perf_counter() - self._began)


def measure(histories: list[list[int]], settings: dict) -> dict:
    """Trains and evaluates; seconds, sizes and versions."""
    lightning.seed_everything(settings["seed"])
    dataset = Dataset.construct(interactions([items[:-2] for items in histories]))
    model = make_model(settings)
    model.fit(dataset)
    timer = next(call for call in model.fit_trainer.callbacks if isinstance(call, EpochTimer))
    began = time.perf_counter()
    evaluate(model, dataset, interactions([items[-2:-1] for items in histories]))
    evaluation = time.perf_counter() - began
    trained = model.data_preparator.train_dataset
    return {
        "epoch_seconds": timer.seconds,
        "evaluation_seconds": evaluation,
        "sequences": trained.user_id_map.size,
        "steps": model.fit_trainer.num_training_batches,
        "items": trained.item_id_map.size - 1,  # less the padding item
        "threads": torch.get_num_threads(),
        "versions": {
            "rectools": rectools.__version__,
            "torch": torch.__version__,
            "pytorch-lightning": lightning.__version__,
            "python": platform.python_version(),
        },
    }


def interactions(histories: list[list[int]]) -> pd.DataFrame:
    """RecTools' table of interactions; a history's offsets, as days, serve as times."""
    rows = [(user, *pair) for user, items in enumerate(histories) for pair in enumerate(items)]
    table = pd.DataFrame(rows, columns=[Columns.User, Columns.Datetime, Columns.Item])
    table[Columns.Datetime] = pd.Timestamp(0) + pd.to_timedelta(table[Columns.Datetime], "D")
    return table.assign(**{Columns.Weight: 1})


def make_model(settings: dict) -> SASRecModel:
    """SASRec with the full softmax; all that is not said here is RecTools' default."""

    def make_trainer() -> lightning.Trainer:
        return lightning.Trainer(
            accelerator="cpu",
            devices=1,
            min_epochs=settings["epochs"],
            max_epochs=settings["epochs"],
            callbacks=[EpochTimer()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    return SASRecModel(
        n_blocks=settings["num_blocks"],
        n_heads=settings["num_heads"],
        n_factors=settings["dim"],
        dropout_rate=settings["dropout"],
        session_max_len=settings["max_len"],
        loss="softmax",
        lr=settings["lr"],
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        recommend_torch_device="cpu",
        get_trainer_func=make_trainer,
    )


def evaluate(model: SASRecModel, dataset: Dataset, targets: pd.DataFrame) -> dict[str, float]:
    """HR and NDCG of the validation items among all items."""
    recommended = model.recommend(
        users=targets[Columns.User].to_numpy(),
        dataset=dataset,
        k=max(CUTOFFS),
        filter_viewed=False,
        # Users whose training items all fall to RecTools' filters cannot be recommended to.
        on_unsupported_targets="ignore",
    )
    metrics = {f"HR@{k}": HitRate(k) for k in CUTOFFS} | {f"NDCG@{k}": NDCG(k) for k in CUTOFFS}
    return calc_metrics(metrics, recommended, targets)


def main() -> None:
    """Measures what the command line names."""
    histories = json.loads(Path(sys.argv[1]).read_text())
    settings = json.loads(sys.argv[2])
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
        result = measure(histories, settings)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
