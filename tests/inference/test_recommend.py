"""Lists of loaded runs: those of evaluation, without what is left out, and their reasons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mqsa_jax
from mqsa_jax.config import Config, ModelConfig, TrainingConfig
from mqsa_jax.data.histories import make_histories
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.devices import DeviceLayout
from mqsa_jax.errors import UserError
from mqsa_jax.inference import explanations, lists
from mqsa_jax.inference.evaluation_set import Protocol
from mqsa_jax.inference.ranks import best_items
from mqsa_jax.inference.stored_model import COUNTS
from mqsa_jax.losses.metrics import summarise
from mqsa_jax.models.encoder import newest_attention
from mqsa_jax.models.registry import MODELS, with_model
from mqsa_jax.ops import chunk_loop
from mqsa_jax.runs.run_directory import RunDirectory
from mqsa_jax.training.counted_runs import count_and_test
from mqsa_jax.training.experiment import Experiment
from mqsa_jax.training.loop import train
from tests.inference.list_cases import listed_items

USERS, ITEMS, MAX_LEN = 90, 120, 6
NAMES = ("mqsa-ted", "mqsa-ted-plus", "gru4rec", "transition")


def sequences():
    """Walks of which the next item is mostly the next number."""
    rng = np.random.default_rng(0)
    steps = [rng.integers(1, 4, length) for length in rng.integers(4, 16, USERS)]
    return [(rng.integers(ITEMS) + np.cumsum(step)) % ITEMS for step in steps]


HISTORIES = make_histories(range(1, USERS + 1), sequences())


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    """The result of a run, and the run."""
    name = request.param
    model = ModelConfig(model=name, dim=8, max_len=MAX_LEN, num_heads=2, num_blocks=2)
    config = Config(model=model, training=TrainingConfig(batch_size=32, epochs=2, lr=0.02))
    experiment = Experiment(with_model(config, name), HISTORIES, DeviceLayout.of(1))
    run_dir = RunDirectory(tmp_path_factory.mktemp("runs") / name)
    if MODELS[name].counted:
        result = count_and_test(experiment, run_dir)
    else:
        result = train(experiment, run_dir, resume=False)
    return result, mqsa_jax.load_model(run_dir.path)


def metrics_of_lists(items_UK, protocol):
    """By the place of the target in each list."""
    back = {"test": 1, "valid": 2}[protocol.split]
    target_U = HISTORIES.items[HISTORIES.offsets[1:] - back]
    hit_UK = items_UK == target_U[:, None]
    return summarise(np.where(hit_UK.any(1), hit_UK.argmax(1) + 1, np.inf).astype(np.float32))


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("chunk", [8, 256])
def test_lists_have_the_metrics_of_evaluation(made, chunk, devices, monkeypatch):
    """Exactly, whichever way the users are split over blocks and devices."""
    result, run = made
    monkeypatch.setitem(chunk_loop.CHUNK_ROWS, "cpu", chunk)
    monkeypatch.setattr(lists, "BLOCK_CHUNKS", 2)
    maker = run.list_maker(20, None, DeviceLayout.of(devices))
    items_UK = listed_items(maker, HISTORIES, Protocol("test"), MAX_LEN, 20)
    if run.epoch:
        metrics = metrics_of_lists(items_UK, Protocol("test"))
        for name in ("HR@5", "HR@10", "HR@20", "NDCG@5", "NDCG@10", "NDCG@20"):
            assert metrics[name] == result[name]
    assert result["HR@20"] > 0
    check_ranks(run, items_UK)


def check_ranks(run, items_UK):
    """Places in lists are ranks, but for items that tie: half of those rank before the target."""
    with np.load(run.folder / "ranks.npz") as stored:
        rank_U = stored["test"]
    untied, score_UV = 0, run.score([history[:-1] for history in sequences()])
    for history, rank, item_K, score_V in zip(sequences(), rank_U, items_UK, score_UV, strict=True):
        (target,) = run.indices(history[-1:])
        score_V[np.setdiff1d(run.indices(history[:-1]), target)] = -np.inf
        if (score_V == score_V[target]).sum() == 1 and target in item_K:
            assert item_K.tolist().index(target) + 1 == rank
            untied += 1
    assert untied > 5


def test_two_passes_find_the_lists_of_one(rng):
    """Over scores with ties, NaN and items that are left out."""
    score_BV = rng.integers(-3, 40, (16, 700)).astype(np.float32)
    score_BV[1] = 2
    score_BV[2, 10:] = -np.inf
    score_BV[3, 699] = np.nan
    best_BK, best_score_BK = best_items(jnp.asarray(score_BV), 5)
    order_BK = np.argsort(-score_BV, axis=1, kind="stable")[:, :5]
    for row in (*range(3), *range(4, 16)):
        assert best_BK[row].tolist() == order_BK[row].tolist()
        assert best_score_BK[row].tolist() == score_BV[row][order_BK[row]].tolist()
    assert best_BK[3].tolist() == [-1] * 5 and np.isnan(best_score_BK[3]).all()


def test_only_what_is_allowed_is_listed(made):
    _, run = made
    known = [sequence.tolist() for sequence in sequences()[:20]]
    allow = run.item_ids[::2].tolist()
    for each in run.recommend(known, 8, allow=allow, deny=allow[:5]):
        assert {item for item, _ in each} <= set(allow[5:])
    whole = run.recommend(known, ITEMS, exclude_seen="none")
    part = run.recommend(known, ITEMS, exclude_seen="none", allow=allow)
    kept = set(allow)
    for listed, every in zip(part, whole, strict=True):
        expected = [pair for pair in every if pair[0] in kept]
        assert [item for item, _ in listed] == [item for item, _ in expected]
        scores = [[score for _, score in pairs] for pairs in (listed, expected)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="1 ids to allow or deny are not"):
        run.recommend(known, 3, deny=[10**6])
    assert run.recommend(known, 3, deny=[10**6], unknown="skip")
    with pytest.raises(ValueError, match="k must be at least 1"):
        run.recommend(known, 0)


def test_what_was_seen_is_left_out_by_policy(made):
    _, run = made
    known = [[int(item) for item in range(10, 30)]]
    for policy, left_out in (("history", range(10, 30)), ("window", range(24, 30)), ("none", ())):
        (listed,) = run.recommend(known, ITEMS, exclude_seen=policy)
        items = {item for item, _ in listed}
        assert not items & set(left_out)
        if run.epoch:
            assert items == set(run.item_ids.tolist()) - set(left_out)


def test_scores_of_lists_are_scores_of_items(made):
    _, run = made
    known = [sequence.tolist() for sequence in sequences()[:9]]
    for history, listed in zip(known, run.recommend(known, 5), strict=True):
        items = [item for item, _ in listed]
        if items:
            expected = run.score([history], items)
            assert expected.shape == (1, len(items))
            np.testing.assert_allclose([score for _, score in listed], expected[0], atol=1e-5)
    np.testing.assert_array_equal(run.score(known, [7, 3]), run.score(known)[:, [7, 3]])


def test_a_history_typed_by_hand_has_the_scores_of_the_encoder(made):
    _, run = made
    if not run.epoch or run.recommender.num_recent:
        return
    history = [10, 12, 13, 15]
    sequences = Sequences.of([run.indices(history)], MAX_LEN)
    hparams = {"window": run.hparams.window, "alpha": run.hparams.alpha}
    user_BTD = mqsa_jax.apply(run.recommender, run.params, sequences, **hparams)
    expected_V = np.asarray(run.item_vectors()) @ np.asarray(user_BTD)[0, -1]
    np.testing.assert_allclose(run.score([history])[0], expected_V, rtol=1e-4, atol=1e-6)
    (listed,) = run.recommend([history], ITEMS, exclude_seen="none")
    items, scores = zip(*listed, strict=True)
    np.testing.assert_allclose(scores, expected_V[run.indices(items)], rtol=1e-4, atol=1e-6)


def test_popular_items_where_nothing_is_known(made):
    _, run = made
    count_V = run.counts.items
    expected = np.argsort(-count_V, kind="stable")[:3]
    assert count_V.sum() == sum(min(len(row) - 2, MAX_LEN) for row in sequences())
    listed = run.recommend([[], [10, 11], [10**6]], 3, unknown="skip")
    popular = [(item, None) for item in run.item_ids[expected].tolist()]
    assert listed[0] == listed[2] == popular
    (alone,) = run.recommend([[10, 11]], 3)
    assert [item for item, _ in listed[1]] == [item for item, _ in alone]
    (few,) = run.recommend([[]], 3, unknown="skip", deny=[popular[0][0]])
    assert few[:2] == popular[1:]
    with pytest.raises(ValueError, match="holds no item"):
        run.recommend([[]], 3)


def test_attention_is_that_of_the_formula(made, getkey):
    """One head and block in NumPy, by the definition; all heads and blocks sum to 1."""
    _, run = made
    rows = [np.array([3, 5, 9], np.int32), np.array([1, 2, 3, 4, 5, 6, 7, 8], np.int32)]
    weights = run.attention(rows)
    if run.epoch == 0 or run.recommender.backbone != "attention":
        assert weights == {}
        return
    for weight_UT in weights.values():
        np.testing.assert_allclose(weight_UT.sum(1), 1, rtol=1e-5)
        assert (weight_UT[0, : MAX_LEN - 3] == 0).all()
    model = mqsa_jax.Recommender(num_items=10, dim=4, max_len=MAX_LEN)
    params = jax.tree.map(
        lambda leaf: leaf + jax.random.normal(getkey(), leaf.shape), mqsa_jax.init(model, getkey())
    )
    item_VD = np.asarray(params["item_embedding"], np.float64)
    sequences = Sequences.of(rows, MAX_LEN)
    window = 2
    weight_2BT = newest_attention(
        model.encoder, params, sequences, window, params["item_embedding"]
    )
    for row, history in enumerate(rows):
        kept = history[-MAX_LEN:]
        position_TD = np.asarray(params["position_embedding"], np.float64)[MAX_LEN - len(kept) :]
        x_TD = 2 * item_VD[kept] + position_TD
        for branch, recent in ((0, 1), (1, window)):
            block = params[("short", "long")[branch]]["block_0"]
            query_D = normalised(x_TD[-recent:].mean(0), block["query_norm"])
            logit_T = dense(x_TD, block["key"]) @ dense(query_D, block["query"]) / 2
            expected_T = np.exp(logit_T - logit_T.max())
            np.testing.assert_allclose(
                weight_2BT[branch, row, MAX_LEN - len(kept) :],
                expected_T / expected_T.sum(),
                rtol=1e-4,
                atol=1e-6,
            )


def dense(x, params):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def normalised(x_D, params):
    unit_D = (x_D - x_D.mean()) / x_D.std()
    return unit_D * np.asarray(params["scale"]) + np.asarray(params["bias"])


def test_reasons_are_items_of_the_history(made, monkeypatch):
    _, run = made
    known = [sequence.tolist() for sequence in sequences()[:12]]
    explained = run.recommend([*known, []], 6, explain=True, unknown="skip")
    plain = run.recommend([*known, []], 6, unknown="skip")
    assert [[each.item for each in row] for row in explained] == [
        [item for item, _ in row] for row in plain
    ]
    counts = run.counts.transitions.todense()
    for history, row in zip([*known, []], explained, strict=True):
        for each in row:
            check_transitions(run, counts, history, each)
            for attended in (each.short_attention, each.long_attention):
                weights = [weight for _, weight in attended]
                assert {item for item, _ in attended} <= set(history[-MAX_LEN:])
                assert weights == sorted(weights, reverse=True)
                with_attention = run.epoch and run.recommender.backbone == "attention"
                assert len(attended) == (min(3, len(history)) if with_attention else 0)
    assert any(each.transitions for row in explained for each in row)
    monkeypatch.setattr(explanations, "LOOKUPS", 1)
    assert run.recommend([*known, []], 6, explain=True, unknown="skip") == explained


def check_transitions(run, counts, history, recommended):
    (to,) = run.indices([recommended.item])
    sources = np.unique(run.indices(history[-MAX_LEN:])) if history else []
    expected = sorted(
        (
            (counts[source, to] / counts[source].sum(), counts[source, to], run.item_ids[source])
            for source in sources
            if counts[source, to] > 0
        ),
        key=lambda each: -each[0],
    )[:3]
    found = [(each.probability, each.count) for each in recommended.transitions]
    np.testing.assert_allclose(found, [each[:2] for each in expected] or found, rtol=1e-5)
    assert len(found) == len(expected)


def test_similar_items(made):
    _, run = made
    if not run.epoch:
        with pytest.raises(UserError, match="transition is counted, not trained"):
            run.similar(10)
        return
    vector_VD = np.asarray(run.item_vectors(), np.float64)
    unit_VD = vector_VD / np.linalg.norm(vector_VD, axis=1, keepdims=True)
    (index,) = run.indices([10])
    cosine_V = unit_VD @ unit_VD[index]
    cosine_V[index] = -np.inf
    items, cosines = zip(*run.similar(10, 4), strict=True)
    assert items == tuple(run.item_ids[np.argsort(-cosine_V)[:4]].tolist())
    np.testing.assert_allclose(cosines, np.sort(cosine_V)[::-1][:4], rtol=1e-5)
    with pytest.raises(ValueError, match="not among"):
        run.similar(10**6)


def test_a_run_without_counts_says_how_to_make_them(made):
    _, run = made
    content = (file := run.folder / COUNTS).read_bytes()
    try:
        file.unlink()
        fresh = mqsa_jax.load_model(run.folder)
        assert fresh.recommend([[10, 11]], 3) == run.recommend([[10, 11]], 3)
        for explain, history in ((True, [10]), (False, [])):
            with pytest.raises(UserError, match=f"{COUNTS}: no such file.*evaluate the run once"):
                fresh.recommend([history], 3, unknown="skip", explain=explain)
    finally:
        file.write_bytes(content)
