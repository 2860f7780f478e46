"""What runs of older versions did, whose stored configurations lack today's newer flags."""

from typing import Any

WITHOUT_FLAG: dict[str, Any] = {
    "model": "mqsa-ted",
    "span_decay": 1.0,
    "symmetric": 0.0,
    "popularity": 0.0,
    "multi_step": 1,
    "lambda_graph": 1.0,
    "term_items": 0,
    "ema_decay": 0.0,
    "precision": "float32",
    "choose_term_weight": False,
    "exclude_seen": "history",
    "init_from": None,
    "stream": "never",
    "stream_window": 1 << 20,
    "stream_workers": 0,
    "eval_users": 0,
    "ranking_loss": "full",
    "num_negatives": 1024,
    "negatives": "uniform",
    "in_batch_negatives": False,
    "gbce_calibration": 0.75,
    "lazy_adam": False,
    "mesh": "data=-1,model=1",
    "shard_items": "model",
    "item_attributes": None,
    "user_traits": None,
    "attribute_columns": None,
    "trait_columns": None,
    "attribute_bins": 10,
    "attribute_side": "both",
    "attribute_power": 0.5,
    "cold_items": False,
}
"""What runs did before a flag was there, whatever its default is today."""
