"""The package as it is installed: what it needs, what its wheel holds, and that the wheel works."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mqsa_jax.extras import MODULES
from mqsa_jax.presets import default_config

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements.txt", ["test", "lint"]),
        ("requirements-spark.txt", ["spark"]),
        ("requirements-export.txt", ["onnx", "usearch", "faiss"]),
    ],
)
def test_files_of_requirements_are_those_of_the_package_and_its_extras(file, extras):
    lines = (ROOT / file).read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    expected = PROJECT["dependencies"] if file == "requirements.txt" else []
    for extra in extras:
        expected = expected + PROJECT["optional-dependencies"][extra]
    assert sorted(listed) == sorted(expected)


def test_modules_of_the_extras_are_those_of_their_requirements():
    for extra, modules in MODULES.items():
        required = [re.split("[=<>]", line)[0] for line in PROJECT["optional-dependencies"][extra]]
        # The module of `faiss-cpu` is `faiss`.
        names = [name.replace("-", "_").removesuffix("_cpu") for name in required]
        assert list(modules) == names


def test_every_package_of_the_source_is_in_the_wheel(wheel):
    sources = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.cc", "*.h", "py.typed", "*.html", "*.css", "*.js", "*.svg")
        for path in (ROOT / "mqsa_jax").rglob(pattern)
    }
    configs = {f"mqsa_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == sources | configs


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no checkout of git")
    for name in listed.stdout.splitlines():
        if name.startswith(("mqsa_jax/", "configs/")) or name in ("pyproject.toml", "README.md"):
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                copy.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(folder / "source")], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_trains_with_the_configuration_of_the_data_set(wheel, tmp_path):
    """Away from the checkout; the console command of an installed wheel calls the same function."""
    site, data = tmp_path / "site", tmp_path / "data"
    zipfile.ZipFile(wheel).extractall(site)
    data.mkdir()
    file = data / "small.txt"
    file.write_text(
        "".join(f"{u} {u % 7 + 1} {u % 5 + 8} {u % 3 + 13} 17 18\n" for u in range(1, 40))
    )
    program = (
        "import hashlib, sys\n"
        "from pathlib import Path\n"
        "from mqsa_jax.data import sources\n"
        "from mqsa_jax.__main__ import main\n"
        "small = Path('data/small.txt')\n"
        "small.rename('data/Toys_and_Games.txt')\n"
        "sha256 = hashlib.sha256(Path('data/Toys_and_Games.txt').read_bytes()).hexdigest()\n"
        "sources.SOURCES['toys'] = sources.Source('Toys_and_Games.txt', sha256)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = "train --dataset toys --model mqsa-ted-plus --epochs 1 --data-dir data --run-dir run"
    done = subprocess.run(
        [sys.executable, "-c", program, *flags.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    given = {"epochs": 1, "data_dir": "data", "run_dir": "run"}
    for name, value in (default_config("toys", "mqsa-ted-plus").flat() | given).items():
        assert name.endswith("_dir") or stored[name] == value, name
    assert stored["dim"] == 128
    assert json.loads((tmp_path / "run" / "test_metrics.json").read_text())["users"] == 39
