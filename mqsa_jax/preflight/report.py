"""What a preflight found, in words."""

from typing import Any

from mqsa_jax.errors import UserError
from mqsa_jax.preflight.targets import GIB

MIB = 2**20


def in_words(result: dict[str, Any]) -> str:
    """Lines for a terminal, of what `preflight` returns."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in result["mesh"].items())
    sizes = result["sizes"]
    lines = [
        f"{result['topology']}: {result['chips']} x {result['chip']}, mesh {mesh}; "
        f"{sizes['items']:,} items, width {result['dim']}, {result['batch_size']:,} users a step",
        "",
        f"A chip has {result['hbm_bytes_per_chip'] / GIB:.2f} GiB.",
        _program("Training", result),
        f"  of which parameters {_mib(result['parameters'])}, moments {_mib(result['moments'])}, "
        f"average {_mib(result['average'])}",
        _program("Evaluation", result["evaluation"]),
    ]
    if result["kernels_per_step"] is not None:
        lines += ["", *_step(result)]
    return "\n".join(lines)


def check_fits(result: dict[str, Any]) -> None:
    """Raises UserError naming the largest arrays, if a program does not fit into a chip."""
    if result["fits"]:
        return
    programs = {"training": result, "evaluation": result["evaluation"]}
    for name, program in programs.items():
        total, memory = program["total_bytes_per_chip"], result["hbm_bytes_per_chip"]
        if total is None or total > memory:
            needs = "more" if total is None else f"{total / GIB:.2f} GiB"
            arrays = "; ".join(
                f"{shape} {size if isinstance(size, str) else _mib(size)}"
                for size, shape, _ in program["largest_arrays"]
            )
            raise UserError(
                f"{name} does not fit: it needs {needs} of {memory / GIB:.2f} GiB a chip. Largest "
                f"arrays: {arrays}. More chips along model, --shard-items all or a smaller "
                "--batch-size may help"
            )


def _program(name: str, program: dict[str, Any]) -> str:
    if program["total_bytes_per_chip"] is None:
        return f"{name} does not fit."
    parts = ", ".join(
        f"{kind} {_mib(program[f'{key}_bytes_per_chip'])}"
        for kind, key in (("arguments", "argument"), ("results", "output"),
                          ("temporaries", "temporary"), ("code", "code"))
    )  # fmt: skip
    return f"{name}: {program['total_bytes_per_chip'] / GIB:.2f} GiB ({parts})"


def _step(result: dict[str, Any]) -> list[str]:
    kinds: dict[str, list[float]] = {}
    for each in result["collectives"]:
        total = kinds.setdefault(each["kind"], [0, 0])
        total[0] += each["times"]
        total[1] += each["times"] * each["bytes"]
    exchanges = ", ".join(
        f"{times:.0f} {kind} of {_mib(size)}" for kind, (times, size) in sorted(kinds.items())
    )
    seconds = {name: value * 1e3 for name, value in result["seconds_by_kind"].items()}
    return [
        f"A step: {result['kernels_per_step']} kernels, {result['inner_loops']} inner loops; "
        f"the host waits for {result['host_loops']} loops and branches; "
        f"{result['flops_per_step_per_chip'] / 1e9:.4g} GFLOP a chip",
        f"Exchanges of a step, a chip: {exchanges or 'none'}",
        f"By roofline {result['seconds_per_step'] * 1e3:.3g} ms a step at least: arithmetic "
        f"{seconds['arithmetic']:.3g}, memory {seconds['memory']:.3g}, exchanges "
        f"{seconds['exchanges']:.3g}, launches {seconds['launches']:.3g} ms",
        *(f"  assumes {each}" for each in result["assumptions"]),
    ]


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"
