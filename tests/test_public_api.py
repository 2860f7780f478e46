"""What `import mqsa_jax` offers: to readers, to type checkers, and without waiting for JAX."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest

import mqsa_jax
from mqsa_jax.training import loop
from mqsa_jax.training.optimizer import TF_ADAM

SOURCE = Path(mqsa_jax.__file__)


def test_type_checkers_see_what_is_public():
    tree = ast.parse(SOURCE.read_text())
    block, hidden = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(hidden.test) == "not TYPE_CHECKING"
    assert [node.name for node in hidden.body] == ["__getattr__"]
    seen = {}
    for line in block.body:
        for alias in line.names:
            # `import x as x` is what makes a name public to a type checker.
            assert alias.name == alias.asname
            seen[alias.name] = line.module.removeprefix("mqsa_jax.")
    assert seen == mqsa_jax._HOMES
    assert (SOURCE.parent / "py.typed").exists()


@pytest.mark.parametrize("name", mqsa_jax.__all__)
def test_public_names_are_there_and_documented(name):
    value = getattr(mqsa_jax, name)
    assert value.__name__ == name and value.__doc__
    assert name in dir(mqsa_jax)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'train_step'"):
        _ = mqsa_jax.train_step


def test_importing_the_package_does_not_import_jax():
    program = "import sys, mqsa_jax; mqsa_jax.Config; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=SOURCE.parents[1]).returncode == 0


def test_the_program_of_the_documentation_runs(tmp_path, monkeypatch):
    """But for the training itself, which other tests run with such optimisers."""
    page = (SOURCE.parents[1] / "docs" / "usage.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "train", create_autospec(loop.train))
    exec(program.replace('"toys"', '"synthetic"'), {})
    experiment = loop.train.call_args.args[0]
    assert experiment.optimizer is not TF_ADAM
