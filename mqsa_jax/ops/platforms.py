"""One function of several implementations, chosen by the platform that a program is lowered for.

`jax.default_backend()` would be the wrong question: a program for a TPU may be lowered, exported or
compiled ahead of time on a CPU host.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

import jax
from jax.extend import core
from jax.interpreters import batching, mlir

Platform = Literal["cpu", "cpu_kernel", "gpu", "tpu"]
"""`cpu_kernel` stands for a program on a single CPU device that is not exported: XLA cannot split a
custom call over devices, and `jax.export` refuses it."""
_LOWERED = {"cpu": "cpu", "tpu": "tpu", "cuda": "gpu", "rocm": "gpu"}

_choice = core.Primitive("mqsa_jax_by_platform")
_choice.multiple_results = True


def by_platform(functions: Mapping[Platform, Callable[..., Any]], *args: Any) -> Any:
    """Calls the function of the platform that the program is lowered for.

    Not differentiable: for use inside `jax.custom_vjp` rules, or where no gradient flows. Outside
    `jit` a program is compiled for functions that are not equal to earlier ones, so give arguments
    that are no arrays by `bound`, not by closures.

    Args:
      functions: by platform, all of the same results; `gpu` stands for those that are missing, and
        `cpu` for `cpu_kernel`. A kernel's function may return None while it is traced, if it is
        not at hand; then `cpu` is called.
      args: pytrees of arrays, the arguments.

    Returns:
      What the functions return.
    """
    leaves, tree = jax.tree.flatten(args)
    out = jax.eval_shape(functions["gpu"], *args)
    out_leaves, out_tree = jax.tree.flatten(out)
    results = _choice.bind(
        *leaves,
        functions=tuple((name, _Flat(function, tree)) for name, function in functions.items()),
        shapes=tuple((leaf.shape, leaf.dtype) for leaf in out_leaves),
    )
    return out_tree.unflatten(results)


def bound(function: Callable[..., Any], /, **static: Hashable) -> Callable[..., Any]:
    """`functools.partial(function, **static)` that equals another one of the same parts."""
    return _Bound(function, tuple(static.items()))


@dataclasses.dataclass(frozen=True)
class _Bound:
    function: Callable[..., Any]
    static: tuple[tuple[str, Hashable], ...]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **dict(self.static), **options)


@dataclasses.dataclass(frozen=True)
class _Flat:
    """The function of flat arguments, with flat results."""

    function: Callable[..., Any]
    tree: Any

    def __call__(self, *leaves: Any) -> list[Any] | None:
        out = self.function(*self.tree.unflatten(leaves))
        return None if out is None else jax.tree.leaves(out)


@_choice.def_abstract_eval
def _(*args, functions, shapes):
    del args, functions
    return [jax.core.ShapedArray(shape, dtype) for shape, dtype in shapes]


@_choice.def_impl
def _(*args, **params):
    # Compiled even where jit is switched off: what is chosen shows in lowering alone.
    with jax.disable_jit(False):
        return _compiled(**params)(*args)


@functools.lru_cache(maxsize=256)
def _compiled(functions, shapes):
    return jax.jit(functools.partial(_choice.bind, functions=functions, shapes=shapes))


def _batched(args, dims, *, functions, shapes):
    size = next(arg.shape[dim] for arg, dim in zip(args, dims, strict=True) if dim is not None)
    mapped = tuple((name, _Mapped(function, tuple(dims))) for name, function in functions)
    shapes = tuple(((size, *shape), dtype) for shape, dtype in shapes)
    return _choice.bind(*args, functions=mapped, shapes=shapes), [0] * len(shapes)


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """`vmap` of a flat function, None where that is None."""

    function: Callable[..., list[Any] | None]
    dims: tuple[int | None, ...]

    def __call__(self, *leaves: Any) -> list[Any] | None:
        try:
            return jax.vmap(self._present, in_axes=self.dims)(*leaves)
        except _Absent:
            return None

    def _present(self, *leaves: Any) -> list[Any]:
        return _present(self.function(*leaves))


class _Absent(Exception):
    """A kernel that is not at hand."""


def _present(results: list[Any] | None) -> list[Any]:
    if results is None:
        raise _Absent
    return results


batching.primitive_batchers[_choice] = _batched


def _lower(platform: str, ctx: mlir.LoweringRuleContext, *args, functions, shapes):
    del shapes
    by_name = dict(functions)
    names = [platform, "gpu"]
    if platform == "cpu" and _single_device(ctx):
        names.insert(0, "cpu_kernel")
    for name in names:
        if name in by_name:
            try:
                lower = mlir.lower_fun(_present_results(by_name[name]), multiple_results=True)
                return lower(ctx, *args)
            except _Absent:
                continue
    raise AssertionError("by_platform needs a function for `gpu`")


def _present_results(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *leaves: _present(function(*leaves))


def _single_device(ctx: mlir.LoweringRuleContext) -> bool:
    """Whether the program runs on one device and is not exported; False where JAX does not say."""
    module = ctx.module_context
    if getattr(module.lowering_parameters, "for_export", True):
        return False
    context = module.axis_context
    mesh = getattr(context, "mesh", None)
    return getattr(context, "num_devices", getattr(mesh, "size", None)) == 1


for _name, _platform in _LOWERED.items():
    mlir.register_lowering(_choice, functools.partial(_lower, _platform), platform=_name)
mlir.register_lowering(_choice, functools.partial(_lower, "gpu"))
