"""The program of an export as ONNX, its tensors inside, checked against what JAX computes."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from mqsa_jax.errors import UserError
from mqsa_jax.export.program import CountedProgram, Tensors, TrainedProgram

TOLERANCE = 1e-5
"""Largest difference from JAX, in units of the largest value, that is taken for rounding."""
LARGEST_BYTES = 2**31 - 1
"""What protobuf, the format of an ONNX file, can hold."""
INPUT = "history"


def write_onnx(
    path: Path,
    program: TrainedProgram | CountedProgram,
    tensors: Tensors,
    num_items: int,
    max_len: int,
) -> dict[str, Any]:
    """Writes the program as ONNX: `history` [B, N] int32 to the outputs, by name.

    Args:
      path: the file.
      program: of the tensors and a history.
      tensors: of the model; they become part of the file.
      num_items, max_len: V, and items of a history that are read, for the check's histories.

    Returns:
      What `config.json` says of the file.

    Raises:
      UserError: if the tensors are too large for the format, or ONNX Runtime computes something
        else than JAX.
    """
    import onnxruntime

    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > LARGEST_BYTES:
        raise UserError(
            f"--onnx: the tensors have {size / 2**30:.1f} GiB, an ONNX file holds less than 2; "
            "export without it, and use the StableHLO program"
        )
    tensors = {name: jnp.asarray(tensor) for name, tensor in tensors.items()}
    model = _converted(program, tensors)
    content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    difference = 0.0
    for history_BN in _examples(num_items, max_len):
        actual = session.run(program.outputs, {INPUT: history_BN})
        expected = jax.jit(program)(tensors, history_BN)
        for name, array in zip(program.outputs, actual, strict=True):
            difference = max(difference, _difference(name, array, np.asarray(expected[name])))
    path.write_bytes(content)
    return {
        "opset": next(each.version for each in model.opset_import if not each.domain),
        "checked_with": f"onnxruntime {onnxruntime.__version__}",
        "largest_difference": difference,
    }


def _converted(program: TrainedProgram | CountedProgram, tensors: Tensors) -> Any:
    """The ONNX model, by jax2onnx."""
    with _quiet():
        from jax2onnx import to_onnx

        shape = jax.export.symbolic_shape("B, N")
        history = jax.ShapeDtypeStruct(shape, jnp.int32)
        # Traced here: jax2onnx replaces functions of JAX while it traces.
        traced = jax.make_jaxpr(
            lambda history_BN: [program(tensors, history_BN)[name] for name in program.outputs]
        )(history)
        return to_onnx(
            lambda history_BN: _evaluated(traced, [history_BN]),
            inputs=[history],
            input_names=[INPUT],
            output_names=program.outputs,
            return_mode="proto",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of jax2onnx, which passes over a plugin that raises one as an error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _evaluated(traced: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """What a traced function gives, in operations that jax2onnx 0.13 lowers as they are meant.

    Calls are inlined; pads and stacks become concatenations, products Einstein sums, as there may
    be several batch axes. ONNX Runtime selects no booleans: they become a disjunction.
    """
    values: dict[Any, Any] = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    values |= dict(zip(traced.jaxpr.invars, arguments, strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in traced.jaxpr.eqns:
        inputs = [value_of(atom) for atom in equation.invars]
        inner = equation.params.get("call_jaxpr") or equation.params.get("jaxpr")
        if equation.primitive.name == "pad":
            results = [_padded(*inputs, equation.params["padding_config"])]
        elif equation.primitive.name == "dot_general":
            results = [_product(*inputs, equation.params["dimension_numbers"])]
        elif equation.primitive.name == "select_n" and inputs[1].dtype == bool:
            results = [_selected(*inputs)]
        elif equation.primitive.name == "stack":
            results = [_stacked(inputs, equation.params["axis"])]
        elif isinstance(inner, ClosedJaxpr) and equation.primitive.name != "scan":
            results = _evaluated(inner, inputs)
        else:
            results = equation.primitive.bind(*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values |= dict(zip(equation.outvars, results, strict=True))
    return [value_of(atom) for atom in traced.jaxpr.outvars]


def _padded(array: Any, fill: Any, padding: Sequence[Sequence[Any]]) -> Any:
    """`lax.pad` without gaps inside and without negative widths."""
    for axis, (low, high, _) in enumerate(padding):
        before, after = (
            [_filled(fill, (*array.shape[:axis], width, *array.shape[axis + 1 :]))] if width else []
            for width in (int(low), int(high))
        )
        if before or after:
            array = jax.lax.concatenate([*before, array, *after], axis)
    return array


def _product(left: Any, right: Any, dimensions: Any) -> Any:
    """`lax.dot_general`, as an Einstein sum."""
    (left_sum, right_sum), (left_batch, right_batch) = dimensions
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left_names = [next(letters) for _ in left.shape]
    right_names = [next(letters) for _ in right.shape]
    for axis, other in zip((*left_batch, *left_sum), (*right_batch, *right_sum), strict=True):
        right_names[other] = left_names[axis]
    batch = [left_names[axis] for axis in left_batch]
    summed = {left_names[axis] for axis in left_sum}
    free = [name for name in left_names + right_names if name not in summed and name not in batch]
    subscripts = f"{''.join(left_names)},{''.join(right_names)}->{''.join(batch + free)}"
    return jnp.einsum(subscripts, left, right)


def _selected(which: Any, if_false: Any, if_true: Any) -> Any:
    """`lax.select_n` of booleans."""
    return (which & if_true) | (~which & if_false)


def _stacked(arrays: Sequence[Any], axis: int) -> Any:
    """The arrays along a new axis."""
    return jax.lax.concatenate([jax.lax.expand_dims(array, (axis,)) for array in arrays], axis)


def _filled(value: Any, shape: Sequence[Any]) -> Any:
    """An array of one value; `jnp.full` is not JAX's own while jax2onnx traces."""
    return jax.lax.broadcast_in_dim(value, tuple(shape), ())


def _examples(num_items: int, max_len: int) -> Iterator[np.ndarray]:
    """Histories [B, N] of several lengths, shorter and longer than is read, and invalid ones."""
    rng = np.random.default_rng(0)
    history_BN = rng.integers(0, num_items, (4, max_len)).astype(np.int32)
    for row, length in enumerate((max_len, max(max_len // 2, 1), 1, 0)):
        history_BN[row, : max_len - length] = -1
    yield history_BN
    yield rng.integers(0, num_items, (1, max_len + 3)).astype(np.int32)
    yield np.array([[0], [num_items]], np.int32)


def _difference(name: str, actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference in units of the largest value; UserError above `TOLERANCE`."""
    if actual.shape == expected.shape and (np.isnan(actual) == np.isnan(expected)).all():
        scale = max(np.nanmax(np.abs(expected), initial=0.0), 1e-30)
        difference = float(np.nanmax(np.abs(actual - expected), initial=0.0) / scale)
        if difference <= TOLERANCE:
            return difference
    raise UserError(
        f"--onnx: ONNX Runtime computes another {name} than JAX; export without it, and report it"
    )
