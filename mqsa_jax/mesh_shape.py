"""The shape of a mesh as it is written on the command line: `data=-1,model=1`."""

import math

from mqsa_jax.errors import SettingError

AXES = ("data", "model")
"""Axes of the mesh, the outermost first."""


def axis_sizes(mesh: str) -> tuple[int, ...]:
    """Devices along each axis, one of them -1 at most: as many as there are.

    Raises:
      SettingError: if the text is not of that form.

    Example:
      >>> axis_sizes("model=4,data=-1")
      (-1, 4)
    """
    pairs = [part.partition("=") for part in mesh.replace(" ", "").split(",")]
    sizes = {name: value for name, _, value in pairs}
    numbers = {"-1", *(value for value in sizes.values() if value.isdecimal() and int(value))}
    known = len(pairs) == len(sizes) and sizes.keys() <= set(AXES)
    if not known or not numbers.issuperset(sizes.values()):
        raise SettingError(
            f"{{mesh}} must give the devices along each axis, like data=-1,model=2; got {mesh!r}"
        )
    # What is left out has one device, as in data=8.
    result = tuple(int(sizes.get(axis, 1)) for axis in AXES)
    if result.count(-1) > 1:
        raise SettingError(f"{{mesh}} may leave one axis to be filled by -1, got {mesh!r}")
    return result


def mesh_shape(mesh: str, num_devices: int) -> tuple[int, ...]:
    """Devices along each axis, of as many as there are.

    Raises:
      SettingError: if the mesh is of another number of devices.

    Example:
      >>> mesh_shape("data=-1,model=4", 16)
      (4, 4)
    """
    sizes = axis_sizes(mesh)
    fixed = math.prod(size for size in sizes if size > 0)
    filled = tuple(num_devices // fixed if size < 0 else size for size in sizes)
    if math.prod(filled) != num_devices:
        raise SettingError(
            f"{{mesh}} {mesh} does not fit {num_devices} device(s): {fixed} must "
            f"{'divide' if -1 in sizes else 'be'} their number; {{devices}} chooses fewer"
        )
    return filled
