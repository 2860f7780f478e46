"""The model card of an export: `README.md` with the header that the Hugging Face Hub reads.

All that it says comes from `config.json` of the export. The licence is left to the user.
"""

import json
from collections.abc import Sequence
from typing import Any

from mqsa_jax.export.folder import COUNTS, INDEXES, MODEL, ONNX, PROGRAM, VOCABULARY
from mqsa_jax.models.registry import MODELS

NAMES = {"beauty": "Beauty", "sports": "Sports", "toys": "Toys", "yelp": "Yelp"}
"""Proper names of the public data sets."""
FILES = {
    MODEL: "all tensors: item vectors, parameters, transition term",
    PROGRAM: "the program, histories in, user vectors out, for `jax.export`",
    ONNX: "the same program for ONNX Runtime, with its tensors",
    VOCABULARY: "`index` and `item_id` of each item",
    COUNTS: "how often items and transitions occur in training",
    INDEXES["usearch"]: "approximate index of the item vectors, for USearch",
    INDEXES["faiss"]: "approximate index of the item vectors, for Faiss",
}
"""What each file holds."""
EXCLUDED = {
    "history": "items consumed before are left out of the ranking",
    "window": "items among those that the model reads are left out of the ranking",
    "none": "no item is left out of the ranking",
}


def model_card(stored: dict[str, Any], files: Sequence[str]) -> str:
    """The text of the card.

    Args:
      stored: `config.json` of the export.
      files: names of the export's files.
    """
    parts = [
        _header(stored),
        f"# {stored['title']} on {_data(stored)}",
        _summary(stored),
        _section("Use", _use(stored)),
        _section("Intended use and limits", _limits(stored)),
        _section("Data", _data_facts(stored)),
        _section("Evaluation", _evaluation(stored)),
        _section("Configuration", _table(["setting", "value"], _settings(stored))),
        _section(
            "Files",
            _table(["file", "content"], [[f"`{n}`", FILES[n]] for n in files if n in FILES]),
        ),
        _section("Versions", _versions(stored)),
        _section(
            "Licence", "Not chosen yet: add `license:` to the header, and say here what holds."
        ),
        _section("Citation", _citation(stored)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(head: str, text: str) -> str:
    return f"## {head}\n\n{text}"


def _data(stored: dict[str, Any]) -> str:
    name = stored["data"]["name"]
    return NAMES.get(name, name)


def _header(stored: dict[str, Any]) -> str:
    """The YAML between two lines of dashes; strings are JSON's, which YAML reads."""
    lines = [
        "library_name: mqsa-jax",
        "pipeline_tag: other",
        "tags:",
        *(
            f"- {tag}"
            for tag in ("recommendation", "sequential-recommendation", "jax", "stablehlo")
        ),
        *(["- onnx"] if "onnx" in stored else []),
    ]
    test = stored["metrics"]["test"]
    if test is not None:
        lines += [
            "model-index:",
            f"- name: {json.dumps(stored['title'])}",
            "  results:",
            "  - task:",
            "      type: sequential-recommendation",
            "    dataset:",
            f"      name: {json.dumps(_data(stored))}",
            f"      type: {json.dumps(stored['data']['name'])}",
            "      split: test",
            "    metrics:",
        ]
        for name, value in _figures(test).items():
            lines += [f"    - type: {json.dumps(name)}", f"      value: {value:.6f}"]
    return "\n".join(["---", *lines, "---"])


def _figures(result: dict[str, Any]) -> dict[str, float]:
    """The metrics among the values of a result."""
    return {
        name: value
        for name, value in result.items()
        if name == "MRR" or name.startswith(("HR@", "NDCG@"))
    }


def _summary(stored: dict[str, Any]) -> str:
    return (
        f"{stored['title']}: {MODELS[stored['model']].summary}. It ranks {stored['num_items']:,} "
        f"items as the next one of a history, of which it reads the last {stored['max_len']}."
    )


def _use(stored: dict[str, Any]) -> str:
    after = "scores = outputs['score']"
    if "score" not in stored["outputs"]:
        after = "scores = np.asarray(outputs['user_vector']) @ tensors['item_vectors'].T"
    if "term_item" in stored["outputs"]:
        after += (
            "\nrow = np.arange(len(scores))[:, None]\n"
            "np.add.at(scores, (row, outputs['term_item']), outputs['term_score'])"
        )
    code = f"""import jax.export
import numpy as np
from safetensors.numpy import load_file

tensors = load_file("{MODEL}")
program = jax.export.deserialize(open("{PROGRAM}", "rb").read())
history = np.array([[-1, 3, 1, 2]], np.int32)  # indices, the newest last, -1 in front
outputs = program.call(tensors, history)
{after}  # [histories, items]"""
    ids = f"`{VOCABULARY}` has the `item_id` of each index."
    own = (
        "`mqsa_jax.load_model(folder).recommend([...], k=10)` does all of it, with the data's ids."
    )
    return f"```python\n{code}\n```\n\n{ids} {own}"


def _limits(stored: dict[str, Any]) -> str:
    lines = [
        "It is made to rank the items of its vocabulary for users with a history of them; it knows "
        "no other items, no users, no contents and no times.",
        "It repeats what its training data hold: popular items gain, and biases of the platform "
        "that logged them stay.",
        "Figures hold for the data and the protocol below alone. Test on your own before you rely "
        "on it, in particular where recommendations matter to people's health, money or safety.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _data_facts(stored: dict[str, Any]) -> str:
    fingerprint = stored["data"]["fingerprint"] or "unknown"
    return (
        f"{_data(stored)}: {stored['num_items']:,} items; fingerprint of the histories "
        f"`{fingerprint}`. The data are not part of the export, but for item ids and counts."
    )


def _evaluation(stored: dict[str, Any]) -> str:
    test, valid = stored["metrics"]["test"], stored["metrics"]["valid"]
    if test is None:
        return "Not tested: the run holds no test figures of the exported epoch."
    protocol = (
        f"Leave-one-out: the last item of each of {test['users']:,} users is the target, all "
        f"{test['items']:,} items are ranked, {EXCLUDED[test['exclude_seen']]}. "
        + (f"Epoch {stored['epoch']} was best on validation." if stored["epoch"] else "")
    )
    figures = _figures(test)
    rows = [[name, f"{value:.4f}", _cell(valid, name)] for name, value in figures.items()]
    return f"{protocol.strip()}\n\n{_table(['metric', 'test', 'validation'], rows)}"


def _cell(valid: dict[str, float] | None, name: str) -> str:
    return f"{valid[name]:.4f}" if valid and name in valid else ""


def _settings(stored: dict[str, Any]) -> list[list[str]]:
    skipped = {"format_version", "dataset"}
    return [
        [f"`{name}`", str(value)]
        for name, value in stored["config"].items()
        if name not in skipped and value is not None
    ]


def _versions(stored: dict[str, Any]) -> str:
    lowered = stored["stablehlo"]
    last = lowered["loads_in_jax_released_until"]
    until = f", that is in releases until {last}" if last else ""
    made = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    return (
        f"Exported on {stored['exported_on']} with {made}. `{PROGRAM}` is lowered for "
        f"{', '.join(lowered['platforms'])}; it loads in {lowered['guarantee']} "
        f"(jax {lowered['jax']}){until}. The other files do not expire."
    )


def _citation(stored: dict[str, Any]) -> str:
    return (
        "Tianyu Zhu et al., *Collaboration and Transition: Distilling Item Transitions into "
        "Multi-Query Self-Attention for Sequential Recommendation*, WSDM 2024, arXiv 2311.01056."
    )


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
