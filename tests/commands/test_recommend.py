"""The command `recommend`: lists in files and on standard output, and what is refused."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import mqsa_jax
from mqsa_jax.commands.evaluate import eval_main
from mqsa_jax.commands.recommend import recommend_main
from mqsa_jax.commands.train import train_main
from mqsa_jax.data.histories import make_histories, read_histories
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.ops import chunk_loop
from tests.commands.histories import write_histories
from tests.inference.test_string_ids import ROWS, loaded, name

FLAGS = ["--dim=8", "--max-len=8", "--batch-size=16", "--epochs=1", "--devices=1", "--seed=1"]
MODELS = ("mqsa-ted", "mqsa-ted-plus", "transition")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs on `data.txt`, and one on ids that are strings."""
    folder = tmp_path_factory.mktemp("runs")
    write_histories(folder / "data.txt")
    for model in MODELS:
        arguments = [f"--dataset={folder / 'data.txt'}", f"--model={model}", *FLAGS]
        assert train_main([*arguments, f"--run-dir={folder / model}"]) == 0
    users = [f"u{user}" for user in range(len(ROWS))]
    loaded(
        "mqsa-ted",
        make_histories(users, [[name(i) for i in row] for row in ROWS]),
        folder / "strings",
    )
    return folder


@pytest.fixture
def recommend(runs, capsys, monkeypatch):
    """Runs the command with a run; returns rows of standard output, and stderr."""

    def run(model: str, *arguments: str, given: str = ""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        code = recommend_main([f"--run-dir={runs / model}", "--devices=1", *arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return list(csv.DictReader(io.StringIO(printed.out, newline=""))), printed.err

    return run


@pytest.mark.parametrize("policy", ["history", "none"])
@pytest.mark.parametrize("model", MODELS)
def test_held_out_lists_have_the_metrics_of_evaluation(
    runs, recommend, model, policy, tmp_path, monkeypatch
):
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", 2)  # 32 users a block.
    for split, back in (("test", 1), ("valid", 2)):
        eval_main([f"--run-dir={runs / model}", f"--split={split}", f"--exclude-seen={policy}"])
        suffix = "" if policy == "history" else f"_{policy}"
        result = json.loads((runs / model / f"{split}{suffix}_metrics.json").read_text())
        output = tmp_path / f"{split}.parquet"
        flags = ["--all", "--k=20", "--history=held-out", f"--split={split}"]
        recommend(model, *flags, f"--exclude-seen={policy}", f"--output={output}")
        table = pyarrow.parquet.read_table(output)
        histories = read_histories(runs / "data.txt")
        target_U = histories.item_ids[histories.items[histories.offsets[1:] - back]]
        target_of = dict(zip(histories.user_ids.tolist(), target_U.tolist(), strict=True))
        rank_of = dict.fromkeys(target_of, np.inf)
        for user, rank, item, _ in zip(*table.to_pydict().values(), strict=True):
            if item == target_of[user]:
                rank_of[user] = rank
        metrics = summarise(np.array(list(rank_of.values()), np.float32))
        if model != "transition":  # There, evaluation counts half of the items that tie.
            for name_ in ("HR@5", "HR@10", "HR@20", "NDCG@5", "NDCG@10", "NDCG@20"):
                assert metrics[name_] == result[name_]


@pytest.mark.parametrize("policy", ["history", "none"])
@pytest.mark.parametrize("split", ["test", "valid"])
def test_lists_of_all_items_have_the_metrics_of_a_counted_model(
    runs, recommend, split, policy, tmp_path
):
    """Ties count half, as evaluation counts them: also those of items that score 0."""
    run_dir = runs / "transition"
    eval_main([f"--run-dir={run_dir}", f"--split={split}", f"--exclude-seen={policy}"])
    suffix = "" if policy == "history" else f"_{policy}"
    result = json.loads((run_dir / f"{split}{suffix}_metrics.json").read_text())
    histories, output = read_histories(runs / "data.txt"), tmp_path / "lists.parquet"
    flags = ["--all", f"--k={histories.num_items}", "--history=held-out", f"--split={split}"]
    recommend("transition", *flags, f"--exclude-seen={policy}", f"--output={output}")
    score_of = {user: {} for user in histories.user_ids.tolist()}
    for row in pyarrow.parquet.read_table(output).to_pylist():
        score_of[row["user"]][row["item"]] = row["score"]
    ranks = []
    for index, scores in enumerate(score_of.values()):
        end = histories.offsets[index + 1] - (1 if split == "test" else 2)
        before = histories.item_ids[histories.items[histories.offsets[index] : end]].tolist()
        left_out = set(before) if policy == "history" else set()
        target = histories.item_ids[histories.items[end]]
        every = {item: scores.get(item, 0.0) for item in histories.item_ids.tolist()}
        others = [own for item, own in every.items() if item not in left_out and item != target]
        own = every[target]
        rank = 1 + sum(other > own for other in others) + sum(other == own for other in others) / 2
        ranks.append(np.inf if target in left_out else rank)
    metrics = summarise(np.array(ranks, np.float32))
    for name_ in ("HR@5", "HR@10", "HR@20", "NDCG@5", "NDCG@10", "NDCG@20", "MRR"):
        assert metrics[name_] == result[name_]


def test_users_get_the_lists_of_their_whole_histories(runs, recommend):
    rows, err = recommend("mqsa-ted", "--users=7,3", "--k=4")
    assert err == "" and [row["user"] for row in rows] == ["7"] * 4 + ["3"] * 4
    run, histories = mqsa_jax.load_model(runs / "mqsa-ted"), read_histories(runs / "data.txt")
    own = histories.items[histories.offsets[6] : histories.offsets[7]]
    ((*expected,),) = run.recommend([histories.item_ids[own]], 4)
    assert [int(row["item"]) for row in rows[:4]] == [item for item, _ in expected]
    scores = [float(row["score"]) for row in rows[:4]]
    np.testing.assert_allclose(scores, [score for _, score in expected], rtol=1e-5)


def test_histories_on_standard_input(recommend):
    given = '{"user": "a,\\n1", "items": [1, "2", 999, "x"]}\n{"user": 5, "items": [999]}\n'
    rows, err = recommend("mqsa-ted", "--histories=-", "--k=2", given=given)
    assert [(row["user"], row["rank"]) for row in rows] == [
        ("a,\n1", "1"),
        ("a,\n1", "2"),
        ("5", "1"),
        ("5", "2"),
    ]
    assert all(row["score"] for row in rows[:2]) and not any(row["score"] for row in rows[2:])
    assert err.splitlines() == [
        "mqsa-jax recommend: 3 items of histories are not in the run's data: skipped",
        "mqsa-jax recommend: 1 histories hold no item of the run's data: popular items, no scores",
    ]


def test_histories_of_other_ids_are_told(recommend):
    rows, err = recommend(
        "mqsa-ted", "--histories=-", "--k=1", given='{"user": 5, "items": ["x"]}\n'
    )
    assert len(rows) == 1
    assert "mqsa-jax recommend: no item of any history is known: other ids?" in err.splitlines()


def test_ids_that_are_strings(runs, recommend, tmp_path):
    given = tmp_path / "given.jsonl"
    lines = [{"user": user, "items": [name(item) for item in row]} for user, row in enumerate(ROWS)]
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows, err = recommend("strings", f"--histories={given}", "--k=3", "--exclude-seen=none")
    expected = mqsa_jax.load_model(runs / "strings").recommend(
        [line["items"] for line in lines], 3, exclude_seen="none"
    )
    items = [item for listed in expected for item, _ in listed]
    assert [row["item"] for row in rows] == items and err == ""
    (similar, *_), _ = recommend("strings", f"--similar-to={name(3)}", "--k=1")
    assert similar["similar_to"] == name(3) and similar["item"] != name(3)


def test_histories_of_other_formats(recommend, tmp_path):
    """A log of single interactions, by time; ids with commas."""
    path = tmp_path / "log.csv"
    lines = ["user,item,timestamp", '"a,1",9,30', '"a,1",4,10', "b,12,20"]
    path.write_text("".join(f"{line}\n" for line in lines))
    rows, _ = recommend("mqsa-ted", f"--histories={path}", "--k=3")
    given = '{"user": "a,1", "items": [4, 9]}\n{"user": "b", "items": [12]}\n'
    expected, _ = recommend("mqsa-ted", "--histories=-", "--k=3", given=given)
    assert [(row["user"], row["item"]) for row in rows] == [
        (row["user"], row["item"]) for row in expected
    ]


def test_allowed_and_denied_items(recommend, tmp_path):
    (tmp_path / "allow.txt").write_text("4\n9\n12\n999\n")
    (tmp_path / "deny.txt").write_text("9\n")
    flags = [f"--allow={tmp_path / 'allow.txt'}", f"--deny={tmp_path / 'deny.txt'}"]
    rows, err = recommend("mqsa-ted", "--users=7", "--exclude-seen=none", *flags)
    assert {row["item"] for row in rows} == {"4", "12"}
    assert err == "mqsa-jax recommend: 1 items of --allow and --deny are not in the run's data\n"


def test_reasons_in_json_lines(recommend, tmp_path):
    for model in MODELS:
        output = tmp_path / f"{model}.jsonl"
        flags = ["--all", "--history=held-out", "--split=valid", "--k=3"]
        recommend(model, *flags, "--explain", f"--output={output}")
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert model != "transition" or all(row["transitions"] for row in rows)
        assert any(row["long_attention"] for row in rows) == (model != "transition")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "give exactly one of --users, --all, --histories, --similar-to; got none"),
        ("--all --users 1", "got --users and --all"),
        ("--all --k 0", "--k must be at least 1"),
        ("--all --output lists.txt", "the ending must be one of .csv"),
        ("--all --output no/lists.csv", "no folder no"),
        ("--all --explain", "CSV has no room for --explain"),
        ("--histories data.txt --history held-out", "held-out is for --users and --all"),
        ("--all --split valid", "--split is for --history held-out"),
        ("--similar-to 4 --explain", "--explain is for lists after histories"),
        ("--similar-to 999", "--similar-to 999: no such item"),
        ("--users 7,none", "--users: no user 'none'"),
        ("--users=", "--users names nobody"),
        ("--all --dataset other.txt", "holds a run on other data"),
        ("--all --dataset gone.txt", "no such file: 'gone.txt'"),
        ("--histories none.jsonl --output a.csv", "none.jsonl: no such file"),
        ("--histories bad.jsonl --output a.csv", "bad.jsonl:2: not JSON"),
        ("--histories bad.jsonl --allow none.txt", "none.txt: cannot be read"),
        ("--all --devices 99", "--devices 99 is more than"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(runs, refused, home, arguments, named):
    (home / "bad.jsonl").write_text('{"user": 1, "items": [4]}\n{"user": 1\n')
    write_histories(home / "other.txt", "99 1 2 3 4")
    arguments = [f"--run-dir={runs / 'mqsa-ted'}", *arguments.split()]
    assert named in refused(recommend_main, *arguments)


def test_users_are_a_line_of_csv(runs, refused):
    def error(users):
        return refused(recommend_main, f"--run-dir={runs / 'mqsa-ted'}", f"--users={users}")

    assert "no user '7,3' in the run's data" in error('7,"7,3"')
    assert "put ids with commas or line ends in quotes" in error("7\n3")


def test_a_model_without_vectors_has_no_similar_items(runs, refused):
    error = refused(recommend_main, f"--run-dir={runs / 'transition'}", "--similar-to=4")
    assert "transition is counted, not trained: it has no item vectors to compare" in error


def test_a_run_that_is_none_is_refused(refused):
    assert "no such folder" in refused(recommend_main, "--run-dir=none", "--all")
    Path("empty").mkdir()
    assert "config.json: no such file" in refused(recommend_main, "--run-dir=empty", "--all")
