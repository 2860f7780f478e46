"""GRU4Rec: the cell's equations, the layers, the initial parameters."""

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.layers.gru import GRU, gru_init, gru_layer

ROWS, T, D = 2, 7, 4
LAYOUT = np.array([[0, 0, 0, 1, 1, 1, -1], [-1, 2, 2, 2, 2, 2, 3]], np.int32)
HISTORIES = [(0, slice(0, 3)), (0, slice(3, 6)), (1, slice(1, 6)), (1, slice(6, 7))]
MODEL = GRU(num_layers=2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def expected_layer(params, x_TD):
    """The equations in float64, gate by gate and position by position, of one history."""
    gates = [slice(0, D), slice(D, 2 * D), slice(2 * D, 3 * D)]
    W, U = (
        [(params[side]["kernel"][:, gate], params[side]["bias"][gate]) for gate in gates]
        for side in ("input", "recurrent")
    )
    h, states = np.zeros(D), []
    for x in x_TD:
        from_x = [x @ kernel + bias for kernel, bias in W]
        from_h = [h @ kernel + bias for kernel, bias in U]
        r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        n = np.tanh(from_x[2] + r * from_h[2])
        h = (1 - z) * n + z * h
        states.append(h)
    return np.stack(states)


def random_params(rng):
    blank = jnp.zeros((ROWS, T, D)), jnp.zeros((ROWS, T), jnp.int32), None
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), *blank)["params"]
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_agrees_with_the_oracle_with_and_without_masks(rng):
    run = jax.jit(lambda params, *inputs: MODEL.apply({"params": params}, *inputs))
    for masked in (False, True, True):
        params, x = random_params(rng), rng.normal(size=(ROWS, T, D)).astype(np.float32)
        masks = {
            name: (rng.random((ROWS, T, width)) < 0.7).astype(np.float32) / 0.7
            for name, width in MODEL.mask_widths(D, T).items()
        }
        out = run(params, x, LAYOUT, masks if masked else None)
        params = jax.tree.map(np.float64, params)
        for row, columns in HISTORIES:
            y_TD = x[row, columns].astype(np.float64)
            for layer in ("layer_0", "layer_1"):
                y_TD = expected_layer(params[layer], y_TD)
                y_TD = y_TD * masks[layer][row, columns] if masked else y_TD
            y_TD = y_TD @ params["output"]["kernel"] + params["output"]["bias"]
            np.testing.assert_allclose(out[row, columns], y_TD, rtol=1e-4, atol=1e-4)


def test_the_state_starts_anew_with_each_history():
    # z = sigmoid(0) = 1/2 and n = tanh(30) = 1, so that h' = (1 + h) / 2.
    zeros = {"kernel": jnp.zeros((1, 3)), "bias": jnp.zeros(3)}
    params = {"input": {**zeros, "bias": jnp.array([0.0, 0.0, 30.0])}, "recurrent": zeros}
    segment_ids_T = jnp.array([4, 4, 4, 1, 1, -1, -1, 7])
    states = gru_layer(params, jnp.ones((8, 1)), segment_ids_T).ravel().tolist()
    assert states[:5] == [0.5, 0.75, 0.875, 0.5, 0.75]
    assert states[7] == 0.5


def test_masks_are_one_a_layer():
    assert GRU(num_layers=3).mask_widths(64, 50) == {"layer_0": 64, "layer_1": 64, "layer_2": 64}


def test_initial_parameters():
    params = jax.device_get(gru_init(jax.random.key(3), 32))
    limit = (6 / (32 + 96)) ** 0.5
    for side in ("input", "recurrent"):
        kernel = params[side]["kernel"]
        assert kernel.shape == (32, 96)
        assert 0.98 * limit < np.abs(kernel).max() <= limit
        # A uniform distribution on [-a, a] has deviation a / sqrt(3).
        np.testing.assert_allclose(kernel.std(), limit / 3**0.5, rtol=0.05)
        assert not params[side]["bias"].any()
    assert (params["input"]["kernel"] != params["recurrent"]["kernel"]).all()
