"""What a compiled program does, read from its HLO text: kernels, loops, collectives."""

import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# fmt: off
_WITHOUT_KERNEL = frozenset((
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional",
    "call", "after-all", "opt-barrier", "partition-id", "replica-id",
))
# fmt: on
_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}  # fmt: skip
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    line: str

    @property
    def called(self) -> list[str]:
        """Computations that run once as part of this instruction."""
        found = re.search(r"(?:to_apply|calls|called_computations)=\{?([^\s,}]+)", self.line)
        branches = re.search(r"branch_computations=\{([^}]*)\}", self.line)
        either = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", self.line)
        names = [found[1]] if found else branches[1].split(", ") if branches else either
        return [name.lstrip("%") for name in names]

    @property
    def body(self) -> str:
        """Of a loop: the computation of one turn."""
        return re.search(r"body=%?([\w.\-]+)", self.line)[1]

    @property
    def turns(self) -> int | None:
        """Of a loop: how many turns it takes; None if only the device knows."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"', self.line)
        return int(found[1]) if found else None

    @property
    def array_bytes(self) -> list[int]:
        """Bytes of each array of the result."""
        return [_array_bytes(kind, dims) for kind, dims in _ARRAY.findall(self.shape)]


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices, as often as it happens in a step."""

    kind: str
    """One of `COLLECTIVES`."""
    bytes: int
    """Of the largest array that goes in or out, on one device."""
    devices: int
    """That take part; 0 where the text does not say."""
    times: int
    """In a step."""


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """What one turn of the loop over steps comes to."""

    kernels: int
    """Kernels that are launched, those in inner loops once."""
    inner_loops: int
    host_loops: int
    """Inner loops and branches whose length or choice is decided at run time: on a GPU the host
    waits for it."""
    collectives: tuple[Collective, ...]


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a module by name, and the name of the entry.

    Raises:
      ValueError: if the text has no entry.
    """
    result: dict[str, list[Instruction]] = {}
    current, entry = None, None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = result.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(Instruction(found[1], found[2], found[3], line))
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of an HLO module")
    return result, entry


def step_profile(text: str, unknown_turns: int = 1) -> StepProfile:
    """What a step does, in a program that is a loop over steps: the largest loop of its entry.

    Args:
      text: of a compiled HLO module.
      unknown_turns: of inner loops whose number of turns is known at run time only; the text for
        TPUs tells it of none.

    Raises:
      ValueError: if there is no loop, as with a single step.
    """
    module, entry = computations(text)
    bodies = [each.body for each in module[entry] if each.opcode == "while"]
    if not bodies:
        raise ValueError("the program has no loop over steps")
    body = max(bodies, key=lambda name: len(module[name]))
    kernels, inner, host, exchanges = 0, 0, 0, []
    for each, times, fused in _walk(module, body, 1, unknown_turns):
        if each.opcode == "while":
            inner += 1
            host += each.turns is None
        elif each.opcode == "conditional":
            host += 1
        elif not fused and each.opcode not in _WITHOUT_KERNEL and "-done" not in each.opcode:
            kernels += 1
        kind = each.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            exchanges.append(_collective(each, kind, times))
    return StepProfile(kernels, inner, host, tuple(exchanges))


def _walk(
    module: dict[str, list[Instruction]],
    name: str,
    times: int,
    unknown_turns: int,
    fused: bool = False,
) -> Iterator[tuple[Instruction, int, bool]]:
    """Instructions of a computation and of what it runs, how often, and whether within a kernel."""
    for each in module.get(name, ()):
        yield each, times, fused
        if each.opcode == "while":
            turns = unknown_turns if each.turns is None else each.turns
            yield from _walk(module, each.body, times * turns, unknown_turns)
        elif each.opcode in ("call", "conditional", "fusion", "async-start"):
            for called in each.called:
                within = fused or each.opcode in ("fusion", "async-start")
                yield from _walk(module, called, times, unknown_turns, within)


def _collective(each: Instruction, kind: str, times: int) -> Collective:
    sizes = each.array_bytes
    # Combined exchanges have tuples of results; those of `-start` hold operands and results.
    largest = max(sizes) if each.opcode.endswith("-start") else sum(sizes)
    if kind == "reduce-scatter":
        largest *= max(_group_size(each.line), 1)
    return Collective(kind, largest, _group_size(each.line), times)


def _group_size(line: str) -> int:
    """Devices of a group, from `replica_groups={{0,1},...}` or `[groups,size]<=[...]`."""
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return found[1].count(",") + 1
    return 2 if "source_target_pairs=" in line else 0


def _array_bytes(kind: str, dims: str) -> int:
    return math.prod(int(size) for size in dims.split(",") if size) * _BYTES.get(kind, 4)


def largest_arrays(text: str, count: int) -> list[tuple[int, str, str]]:
    """Bytes, type and origin in the source of the largest arrays that instructions make."""
    module, _ = computations(text)
    found: dict[str, tuple[int, str, str]] = {}
    for lines in module.values():
        for each in lines:
            if each.opcode in ("parameter", "tuple", "get-tuple-element", "bitcast", "while"):
                continue
            for kind, dims in _ARRAY.findall(each.shape):
                origin = re.search(r'op_name="([^"]*)"', each.line)
                name = f"{kind}[{dims}]"
                size = _array_bytes(kind, dims)
                found.setdefault(name, (size, name, origin[1] if origin else ""))
    return sorted(found.values(), reverse=True)[:count]
