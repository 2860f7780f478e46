"""What the scripts share that write pages from files of benchmarks."""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FILES = DOCS / "performance"
"""Texts of pages, and results of benchmarks."""


def load(name: str) -> dict[str, Any]:
    """Result of a benchmark; empty where there is none."""
    path = FILES / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def text(name: str) -> str:
    """What a page says, without its figures."""
    return (FILES / f"{name}_text.md").read_text().strip()


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def made_by(result: dict[str, Any], command: str) -> str:
    """Command, commit, machine and versions of a result."""
    made, versions = result["provenance"], result["versions"]
    commit = f"commit {made['commit']}, " if "commit" in made else ""
    return (
        f"`{command}`, {commit}{made['machine']}, python {versions['python']}, jax "
        f"{versions['jax']}."
    )
