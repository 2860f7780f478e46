"""The page's sentences, and which command makes each section's numbers."""

HEAD = """# Results

Made by `mqsa-jax report`; only published figures are typed by hand. The runs lie in
`docs/results/benchmarks`, their files as `train.py` wrote them, and [Runs](#runs) gives the command
of each. Full ranking of all items, leave-one-out (see [method.md](method.md)). The epoch of the
best validation NDCG@20 gives the test figures. `mqsa-ted` is the full model."""

MAIN = """Means over seeds ± standard deviation. Published figures stand in italics below our own.
All but `mqsa-ted-plus` share the settings of `configs/`, found for `mqsa-ted`: what is peculiar to
a baseline keeps its default and was not tuned. `sasrec` is the block of `mqsa-ted` without its long
branch and distillation, not the layer of Kang & McAuley (2018). Made by `mqsa-jax report` from
`test_metrics.json` of the [runs](#runs)."""

BESIDE = """`mqsa-ted` beside what the paper tells of MQSA-TED, and `mqsa-ted-plus` beside the best
published NDCG@20 that we know of. The last column is our mean over the published figure, less 1.
Where `mqsa-ted` falls short, no cause is proven. The encoder and the losses agree with the authors'
implementation to float32 rounding where nothing is dropped (`tests/test_reference.py`). In training
an item that occurs more than once in a batch has one dropout mask in the distillation here, and
there as many as it occurs. The settings may differ: the paper tells ranges of L, α, λ_kd and τ, not
the values of each data set. Other values were tried with one seed on Sports and Yelp, see
[Sensitivity](#sensitivity): L of 4 is nearer to the paper on both and not behind in validation,
α of .25 and, on Yelp, τ of .05 are farther. It trains for up to 200 epochs, and ours end after
`--patience` epochs without a better one; but the [learning curves](#learning-curves) of both are
flat or falling by then. Made by `mqsa-jax report` from `test_metrics.json` of the
[runs](#runs)."""
NO_BESIDE = """None yet: it takes runs of `mqsa-ted` or `mqsa-ted-plus` on a data set with published
figures."""

SIGNIFICANCE = """Each model against `mqsa-ted`, paired by user: a user's NDCG@20, and log2 of the
rank, are averaged over the seeds that both have; what is not trained has no seed. The difference is
that of the means, model less `mqsa-ted`; its interval and p (bootstrap) are of 10,000 resamples of
the users. The other p are of Wilcoxon's signed-rank test. All are two-sided, with Holm's correction
over the models of a data set, of which those that rank alike count once. Ranked better are users
whose target the model places higher than `mqsa-ted` does, ties by halves. All this is about other
users, not about other seeds. Made by `mqsa-jax report` from `ranks.npz` of the runs, kept in
`docs/results/analysis`."""
NO_RANKS = """None yet: it takes `ranks.npz` of `mqsa-ted` and of another model with a seed in
common."""
LEFT_OUT = """In no test and breakdown for want of `ranks.npz`: {}."""

DISTILLATION = """Encoders with distillation against the same without it, by the tests of
[Significance](#significance), corrected over the encoders of a data set. Made by `mqsa-jax report`
from `ranks.npz` of the runs, kept in `docs/results/analysis`."""

ABLATION = """Means over seeds ± standard deviation. Differences to the full model are paired by
seed, ± their standard error. Made by `mqsa-jax report` from `test_metrics.json` of the
[runs](#runs)."""
NO_ABLATION = """None yet: it takes runs of `mqsa-ted` and of `mqsa`, `sasrec-ted`, `sasrec` or
`l-query` on one data set."""

RECIPE_ABLATION = """First the flags of `mqsa-ted-plus` that are not those of `mqsa-ted`; the term
is that of [method.md](method.md). Then validation figures at its best epoch, and what they are with
one thing left out or changed, nothing else: the encoder is trained alone, so that the term and the
average of the parameters can be taken away afterwards. The epoch stays the recipe's, which comes
early: an encoder alone gets better still where training goes on, as `mqsa-ted` of the first table
does. The last column is NDCG@20 less that of the recipe, paired by seed, ± its standard error. Made
by `python eval.py --run-dir RUN --ablation`, which writes `ablation.json`. What changes the
training, as the width does, takes runs of its own; they stand last, where there are any."""
TRAINED_ANEW = "Trained anew with another value:"
NO_RECIPE_ABLATION = """None yet: it takes `ablation.json` of `mqsa-ted-plus`, which `eval.py
--ablation` writes."""

WITHOUT_LISTS = """Not in the table, for want of lists: {}."""

SENSITIVITY = """Runs of `mqsa-ted`, or trials of sweeps, that differ in one flag alone from those
of the first table; `mqsa` is `mqsa-ted` with λ_kd of 0, `sasrec-ted` with α of 1. ± and bars are
standard deviations over seeds. Made by `mqsa-jax report` from `metrics.jsonl` and
`test_metrics.json` of the [runs](#runs), and `results.csv` of sweeps."""
NO_SENSITIVITY = """None yet: it takes runs of `mqsa-ted` that differ from the others in one of
`--window`, `--alpha`, `--lambda-kd`, `--tau` alone, runs of `mqsa` or `sasrec-ted`, or a sweep."""

BREAKDOWN = """Test NDCG@20 of groups of users, means over seeds. First by how often training saw
the transition that the test asks for, from the last item before the target to the target, as
direct successors in training items. Then by how often the target occurs in training, in groups of
about equal size. Made by `mqsa-jax report` from `ranks.npz` of the runs and the data set, kept
in `docs/results/analysis`."""
NO_BREAKDOWN = """None yet: it takes `ranks.npz` of the runs, and the data set."""

LISTS = """Of the 20 items that each user is recommended; of what is counted, of as many as
score above 0, as all others tie. Coverage: share of all items that anybody is recommended. Novelty:
mean of -log2 of an item's share of the training occurrences,
each count plus one. Popularity: mean count of the recommended items in training. Gini: how
unequally recommendations spread over items, 0 if evenly. Places filled: share of the 20 that hold
an item. Made by `mqsa-jax report` from
`recommendations.npz` of the runs, as `eval.py --top 20` writes it, and the data set, kept in
`docs/results/analysis`."""
NO_LISTS = """None yet: coverage, novelty and popularity bias take `recommendations.npz`, which no
run has; `eval.py --top 20` writes it."""

LEARNING = """Validation NDCG@20, mean over seeds as far as all of them went. Made by `python
mqsa-jax report` from `metrics.jsonl` of the [runs](#runs), which holds losses and the other metrics
too."""
NO_LEARNING = """No run has epochs."""

RUNS = """Commands without folders of data and results, with all settings that are not today's
defaults. Seconds: median of an epoch's training.
The commit is that of the evaluation."""
