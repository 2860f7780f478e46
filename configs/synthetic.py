"""The embedded data set, generated on the spot (`mqsa_jax/data/synthetic.py`).

python train.py

Under a minute on 2 CPU cores. docs/results.md shows test figures, and by how much the full model
leads its parts (--lambda-kd 0, --alpha 1, --alpha 0).
"""

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig

config = Config(
    dataset="synthetic",
    model=ModelConfig(dim=32, window=3, dropout=0.3, max_len=40),
    objective=ObjectiveConfig(lambda_kd=0.1, l2=1e-5),
    training=TrainingConfig(lr=4e-3, batch_size=64, epochs=40, patience=8),
)

plus = {}
"""Flags that `--model mqsa-ted-plus` adds to its own (`mqsa_jax/models/registry.py`)."""
