"""`--item-attributes`, `--user-traits` and `--cold-items`: what the command lines make of them."""

import json

import numpy as np
import pytest

from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.recommend import recommend_main
from mqsa_jax.commands.sweep import sweep_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.inference.loaded_run import load_run
from tests.commands.histories import write_histories

FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--devices=1", "--epochs=1", "--seed=1"]
TRAIN = ["--dataset=data.txt", *FLAGS, "--run-dir=run"]
WITH = ["--item-attributes=items.json", "--user-traits=users.csv", "--cold-items"]
COLD = 77


def write_attributes(home, num_users=60, **more):
    """Items have their number modulo 3; so has a cold one. Users have a sex, and some an age."""
    lists = {str(item): [item % 3, 10 + item % 4] for item in range(1, 31)} | more
    (home / "items.json").write_text(json.dumps(lists | {str(COLD): [2]}))
    rows = [
        f"{user},{'mf'[user % 2]},{20.5 + user if user % 3 else ''}"
        for user in range(1, num_users + 1)
    ]
    (home / "users.csv").write_text("\n".join(["user,sex,age", *rows]))


@pytest.fixture
def run(home, capsys):
    """A run on data with attributes and traits."""
    write_histories(home / "data.txt")
    write_attributes(home)
    assert train_main([*TRAIN, *WITH]) == 0
    capsys.readouterr()
    return home / "run"


def lists_of(text):
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return [(int(item), float(score)) for _, _, item, score in rows]


def test_a_run_is_evaluated_continued_and_recommends_cold_items(home, run, capsys):
    test = json.loads((run / "test_metrics.json").read_text())
    assert test["items"] == 31
    # The file has its place in config.json, and may lie elsewhere when the run goes on.
    assert json.loads((run / "config.json").read_text())["item_attributes"] == str(
        home / "items.json"
    )
    (home / "items.json").rename(home / "moved.json")
    moved = [flag.replace("items.json", "moved.json") for flag in WITH]
    assert train_main([*TRAIN, *moved, "--epochs=2"]) == 0
    (home / "users.csv").rename(home / "people.csv")
    arguments = ["--run-dir=run", "--devices=1"]
    here = ["--user-traits=people.csv", "--item-attributes=moved.json"]
    assert eval_main([*arguments, "--beyond-accuracy"]) == 2
    assert eval_main([*arguments, "--beyond-accuracy", *here]) == 0
    (home / "moved.json").rename(home / "items.json")
    (home / "people.csv").rename(home / "users.csv")
    capsys.readouterr()
    # The run went on with the file that has moved.
    arguments += ["--k=31", "--item-attributes=items.json"]
    assert recommend_main([*arguments, "--users=5"]) == 0
    known = lists_of(capsys.readouterr().out)
    assert COLD in [item for item, _ in known]
    history = [int(item) for item in (home / "data.txt").read_text().splitlines()[4].split()[1:]]
    (home / "given.jsonl").write_text(json.dumps({"user": 5, "items": history}))
    assert recommend_main([*arguments, "--histories=given.jsonl"]) == 0
    given = lists_of(capsys.readouterr().out)
    # Nothing is known of the user of a history that is given.
    assert sorted(item for item, _ in given) == sorted(item for item, _ in known)
    loaded = load_run(run)
    vector_VD = np.asarray(loaded.item_vectors())
    (user_D,) = loaded.user_vectors([history])
    index = loaded.lookup.indices(np.array([item for item, _ in given]))
    np.testing.assert_allclose([s for _, s in given], vector_VD[index] @ user_D, rtol=1e-4)
    traits = loaded.params["trait_embedding"]
    names = json.loads(str(np.load(run / "attributes.npz")["trait_names"]))
    own = traits[names.index("sex = f")]
    (age,) = [n for n in names if n.startswith("age") and _holds(n, 25.5)]
    shift_D = np.asarray(own + traits[names.index(age)]) / 2**0.5
    index = loaded.lookup.indices(np.array([item for item, _ in known]))
    expected = vector_VD[index] @ (user_D + shift_D)
    np.testing.assert_allclose([s for _, s in known], expected, rtol=1e-3, atol=1e-5)


def _holds(name, value):
    low, high = name.split("[")[1].rstrip(")").split(",")
    return float(low) <= value < float(high)


def test_a_run_is_not_continued_with_other_attributes(home, run, refused):
    write_attributes(home, **{"5": [1]})
    assert "run on other data (fingerprints differ)" in refused(train_main, *TRAIN, *WITH)
    assert "other data" in refused(eval_main, "--run-dir=run", "--devices=1")
    assert f"item_attributes {home / 'items.json'} there, None here" in refused(
        train_main, *TRAIN, "--user-traits=users.csv"
    )


def test_a_new_run_starts_from_it_by_the_names_of_attributes(home, run, capsys, refused):
    old = load_run("run")
    write_histories(home / "data.txt", f"61 {COLD} 3 {COLD} 5 6 8 1 2")
    # Attributes of other numbers, one of which is new.
    write_attributes(home, num_users=61, **{"1": [1, 11, 5], "2": [2, 12, 5]})
    flags = ["--dataset=data.txt", *FLAGS, "--run-dir=new", "--init-from=run", "--lr=1e-9"]
    assert train_main([*flags, *WITH]) == 0
    assert "30 items carried over, 1 new from their neighbours" in capsys.readouterr().out
    new, names = load_run("new"), {}
    for name in ("run", "new"):
        stored = np.load(home / name / "attributes.npz")
        names[name] = json.loads(str(stored["attribute_names"]))
    assert set(names["new"]) - set(names["run"]) == {"attribute = 5"}
    for name in names["run"]:
        old_D = old.params["attribute_embedding"][names["run"].index(name)]
        new_D = new.params["attribute_embedding"][names["new"].index(name)]
        np.testing.assert_allclose(new_D, old_D, atol=1e-6)
    assert "item_attributes there, none here" in refused(
        train_main, "--dataset=data.txt", *FLAGS, "--run-dir=third", "--init-from=run"
    )


def test_trials_of_a_sweep_have_attributes(home, capsys):
    write_histories(home / "data.txt")
    write_attributes(home)
    flags = ["--dataset=data.txt", *FLAGS[:-1], "--sweep-dir=sweep", "--seeds=1,2"]
    assert sweep_main([*flags, *WITH]) == 0
    rows = (home / "sweep/results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert train_main([*TRAIN, *WITH]) == 0
    capsys.readouterr()
    header, first = (row.split(",") for row in rows[:2])
    expected = json.loads((home / "run/test_metrics.json").read_text())["NDCG@20"]
    assert float(first[header.index("test_NDCG@20")]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--item-attributes=none.json"], "none.json: no such file; check the path"),
        (["--item-attributes=data.txt"], "data.txt: no known format"),
        (["--item-attributes=other.json"], "describes 0 items of the data"),
        (["--item-attributes=bad.json"], "bad.json: not readable as JSON"),
        (["--cold-items"], "--cold-items True needs --item-attributes: name a file"),
        (["--attribute-power=1"], "--attribute-power 1.0 needs --item-attributes"),
        (["--trait-columns=sex"], "--trait-columns sex needs --user-traits"),
        ([WITH[0], "--attribute-columns=x"], "--attribute-columns: "),
        ([WITH[0], "--attribute-bins=0"], "--attribute-bins must be at least 1"),
        ([WITH[0], "--attribute-power=1.5"], "--attribute-power must be between 0 and 1"),
        ([WITH[0], "--cold-items", "--attribute-side=input"], "--attribute-side both or score"),
        ([WITH[0], "--id-dropout=0.1", "--attribute-side=score"], "--attribute-side both"),
        (["--id-dropout=0.1"], "--id-dropout 0.1 needs --item-attributes"),
        ([WITH[0], "--ranking-loss=sampled"], "--item-attributes changes the vectors of all"),
        ([WITH[0], "--model=popular"], "counted, not trained: leave --item-attributes out"),
        (
            [WITH[0], "--cold-items", "--devices=2", "--mesh=data=1,model=2"],
            "cannot be split over devices",
        ),
        ([WITH[0], "--cold-items", "--preflight=v5e:2x2"], "--item-attributes: how many there are"),
    ],
)
def test_what_does_not_fit_is_refused(home, refused, flags, named):
    write_histories(home / "data.txt")
    write_attributes(home)
    (home / "other.json").write_text('{"900": [1], "901": [1]}')
    (home / "bad.json").write_text('{"900": [1')
    assert named in refused(train_main, *TRAIN, *flags)
