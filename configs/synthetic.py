"""The embedded data set, generated on the spot (`mqsa_jax/data/synthetic.py`).

python train.py

About half a minute on 2 CPU cores. Test figures, mean of --seed 1, 2 and 3, and how far the full
model is ahead of its parts, with the standard error of the paired differences:

                                      NDCG@20           HR@20
full model                            .112              .200
without distillation, --lambda-kd 0   .097 +.014 (.001) .187 +.014 (.002)
short branch alone, --alpha 1         .106 +.006 (.001) .175 +.026 (.003)
long branch alone, --alpha 0          .092 +.020 (.001) .185 +.016 (.002)
distillation alone, --lambda-kd 100   .093 +.018 (.001) .150 +.050 (.001)
"""

from mqsa_jax.config import Config, ModelConfig, ObjectiveConfig, TrainingConfig

config = Config(
    dataset="synthetic",
    model=ModelConfig(dim=32, window=3, dropout=0.3, max_len=40),
    objective=ObjectiveConfig(lambda_kd=0.1, l2=1e-5),
    training=TrainingConfig(lr=4e-3, batch_size=64, epochs=40, patience=4),
)
