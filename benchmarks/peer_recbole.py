"""RecBole's SASRec, timed; `python -m benchmarks.peers` runs this in an environment of its own.

    python peer_recbole.py HISTORIES.json SETTINGS

HISTORIES.json is a list of histories of item numbers, of which the last two items are held out;
SETTINGS is the JSON object that `benchmarks.peers` describes. Prints one line of JSON.

An epoch is one call of `Trainer._train_epoch`: drawing and shuffling batches, forward, backward and
Adam. Reading the data, expanding each history into one example a prefix (RecBole's way to train
SASRec) and building the model come before; evaluation is one call of `Trainer.evaluate` after it.
Of a history of three items RecBole trains on the second one, which others hold out.
RecBole writes logs into the working directory: run it in one that may be thrown away.
"""

import contextlib
import json
import logging
import platform
import sys
import time
import warnings
from pathlib import Path

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

DATASET = "histories"


def measure(histories: list[list[int]], settings: dict) -> dict:
    """Trains and evaluates; seconds, sizes and versions."""
    write_interactions(histories, Path(DATASET))
    config = Config(model="SASRec", dataset=DATASET, config_dict=recbole_settings(settings))
    init_seed(config["seed"], config["reproducibility"])
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    model = SASRec(config, train_data.dataset).to(config["device"])
    trainer = Trainer(config, model)
    epochs = [seconds(trainer._train_epoch, train_data, n) for n in range(settings["epochs"])]
    evaluation = seconds(trainer.evaluate, valid_data, load_best_model=False)
    return {
        "epoch_seconds": epochs,
        "evaluation_seconds": evaluation,
        "sequences": len(train_data.dataset),
        "steps": len(train_data),
        "items": train_data.dataset.item_num - 1,  # less the padding item
        "threads": torch.get_num_threads(),
        "versions": {
            "recbole": recbole.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def write_interactions(histories: list[list[int]], folder: Path) -> None:
    """Writes RecBole's atomic file; a history's offsets serve as times."""
    folder.mkdir()
    with open(folder / f"{DATASET}.inter", "w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(histories):
            file.writelines(f"{user}\t{item}\t{offset}\n" for offset, item in enumerate(items))


def recbole_settings(settings: dict) -> dict:
    """RecBole's names of the settings; all else is its default."""
    return {
        "data_path": ".",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "seed": settings["seed"],
        "n_layers": settings["num_blocks"],
        "n_heads": settings["num_heads"],
        "hidden_size": settings["dim"],
        "inner_size": settings["dim"],  # as in SASRec's paper; RecBole's default is 256
        "hidden_dropout_prob": settings["dropout"],
        "attn_dropout_prob": settings["dropout"],
        "MAX_ITEM_LIST_LENGTH": settings["max_len"],
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": settings["batch_size"],
        "learning_rate": settings["lr"],
        # The last item of a history tests and the one before it validates.
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "metrics": ["Hit", "NDCG"],
        "topk": [5, 10, 20],
        "valid_metric": "NDCG@20",
    }


def seconds(function, *args, **kwargs) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - began


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
