"""The page's sentences, and which command makes each section's numbers."""

HEAD = """# Results

Made by `python report.py`; only published figures are typed by hand. The runs lie in
`docs/results/benchmarks`, their files as `train.py` wrote them, and [Runs](#runs) gives the command
of each. Full ranking of all items, leave-one-out (see [method.md](method.md)). The epoch of the
best validation NDCG@20 gives the test figures. `mqsa-ted` is the full model."""

MAIN = """Means over seeds ± standard deviation. Published figures stand in italics below our own.
Made by `python report.py` from `test_metrics.json` of the [runs](#runs)."""

BESIDE = """`mqsa-ted` beside what the paper tells of MQSA-TED, and `mqsa-ted-plus` beside the best
published NDCG@20 that we know of. The last column is our mean over the published figure, less 1.
Where `mqsa-ted` falls short, no cause is proven. The encoder and the losses agree with the authors'
implementation to float32 rounding (`tests/test_reference.py`). The settings may differ: the paper
tells ranges of L, α, λ_kd and τ, not the values of each data set, and trains for up to 200 epochs,
while ours end after `--patience` epochs without a better one. [Sensitivity](#sensitivity) shows
what other settings do, as far as they were run. Made by `python report.py` from
`test_metrics.json` of the [runs](#runs)."""
NO_BESIDE = """None yet: it takes runs of `mqsa-ted` or `mqsa-ted-plus` on a data set with published
figures."""

SIGNIFICANCE = """Each model against `mqsa-ted`, paired by user: a user's NDCG@20, and log2 of the
rank, are averaged over the seeds that both have; what is not trained has no seed. The interval is
that of 10,000 bootstrap resamples of the users. p is of Wilcoxon's signed-rank test, two-sided,
with Holm's correction over the models of a data set. Ranked better are users whose target the
model places higher than `mqsa-ted` does, ties by halves. All this is about other users, not about
other seeds. Made by `python report.py` from `ranks.npz` of the runs, kept in
`docs/results/analysis`."""
NO_RANKS = """None yet: it takes `ranks.npz` of `mqsa-ted` and of another model with a seed in
common."""
LEFT_OUT = """In no test and breakdown for want of `ranks.npz`: {}."""

ABLATION = """Means over seeds ± standard deviation. Differences to the full model are paired by
seed, ± their standard error. Made by `python report.py` from `test_metrics.json` of the
[runs](#runs)."""
NO_ABLATION = """None yet: it takes runs of `mqsa-ted` and of `mqsa`, `sasrec-ted`, `sasrec` or
`l-query` on one data set."""

INGREDIENTS = """Validation figures at the best epoch of `mqsa-ted-plus`, and what they are with
one thing left out or changed, nothing else: the encoder is trained alone, so that the term and the
average of the parameters can be taken away afterwards. The epoch stays the recipe's, which comes
early: an encoder alone gets better still where training goes on, as `mqsa-ted` of the first table
does. The last column is NDCG@20 less that of the recipe, paired by seed, ± its standard error. Made
by `python eval.py --run-dir RUN --ingredients`, which writes `ingredients.json`."""
NO_INGREDIENTS = """None yet: it takes `ingredients.json` of `mqsa-ted-plus`, which `eval.py
--ingredients` writes."""

SENSITIVITY = """Runs of `mqsa-ted`, or members of sweeps, that differ in one flag alone from those
of the first table; `mqsa` is `mqsa-ted` with λ_kd of 0, `sasrec-ted` with α of 1. ± and bars are
standard deviations over seeds. Made by `python report.py` from `metrics.jsonl` and
`test_metrics.json` of the [runs](#runs), and `results.csv` of sweeps."""
NO_SENSITIVITY = """None yet: it takes runs of `mqsa-ted` that differ from the others in one of
`--window`, `--alpha`, `--lambda-kd`, `--tau` alone, runs of `mqsa` or `sasrec-ted`, or a sweep."""

BREAKDOWN = """Test NDCG@20 of groups of users, means over seeds. First by how often training saw
the transition that the test asks for, from the last item before the target to the target, as
direct successors in training items. Then by how often the target occurs in training, in groups of
about equal size. Made by `python report.py` from `ranks.npz` of the runs and the data set, kept
in `docs/results/analysis`."""
NO_BREAKDOWN = """None yet: it takes `ranks.npz` of the runs, and the data set."""

LISTS = """Of the 20 items that each user is recommended. Coverage: share of all items that
anybody is recommended. Novelty: mean of -log2 of an item's share of the training occurrences,
each count plus one. Popularity: mean count of the recommended items in training. Gini: how
unequally recommendations spread over items, 0 if evenly. Made by `python report.py` from
`recommendations.npz` of the runs, as `eval.py --top 20` writes it, and the data set, kept in
`docs/results/analysis`."""
NO_LISTS = """None yet: coverage, novelty and popularity bias take `recommendations.npz`, which no
run has; `eval.py --top 20` writes it."""

LEARNING = """Validation NDCG@20, mean over seeds as far as all of them went. Made by `python
report.py` from `metrics.jsonl` of the [runs](#runs), which holds losses and the other metrics
too."""
NO_LEARNING = """No run has epochs."""

RUNS = """Commands without folders of data and results. Seconds: median of an epoch's training.
The commit is that of the evaluation."""
