"""Accuracy of the keyword classifier of ideas on the built-in methods; writes ideas.md beside it.

python benchmarks/ideas.py
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.core.ideas import Idea
from aarlab.testbed.ideas import CLASSIFIER, idea_of
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.method_folder import recipe_files

FAMILY_OF = dict(
    line.split()
    for line in """
vanilla loss
vanilla_soft loss
confident selection
aux_confidence loss
zero_shot elicitation
em_posterior relabelling
self_training self_training
product loss
window loss
entropy loss
reverse_kl loss
reverse_ce loss
linear_probe probing
label_smoothing simplicity
bootstrapping self_training
co_teaching curriculum
low_rank simplicity
calibrated_weights reweighting
neighbourhood_drop selection
neighbourhood_relabel relabelling
neighbourhood_logistic selection
neighbourhood_component selection
overlap_density selection
mdl_curriculum curriculum
epiplexity curriculum
reliability teachers
two_stage self_training
selective elicitation
vanilla_teachers teachers
ensemble_teachers teachers
co_supervised teachers
bayesian_ensemble teachers
zero_shot_tuned elicitation
ue_zero_shot elicitation
icm elicitation
em_posterior_templates relabelling
ccs_es probing
truth_mean probing
truth_pca probing
ccs probing
vinc probing
born_again self_training
es_finetuning generation
easy_to_hard curriculum
posterior_confident relabelling
posterior_neighbours relabelling
posterior_blend relabelling
generative_finetuning generation
critic generation
debate generation
""".strip().splitlines()
)
"""By hand, from the definitions in core/ideas.py and the papers; guards are no ideas."""


class Case(NamedTuple):
    condition: str
    method: str
    family: str
    idea: Idea


def cases() -> Iterator[Case]:
    for name, family in FAMILY_OF.items():
        method = METHODS[name]
        if method.recipe is not None:
            files = recipe_files(method.recipe)
            yield Case("recipe, name hidden", name, family, _idea(files, "method"))
        else:
            files = {"method.py": source_of(method.fit)}
            yield Case("code, name hidden", name, family, _idea(files, "method"))
            told = _idea(files, "method", [method.doc])
            yield Case("code and description, name hidden", name, family, told)
        yield Case("name only", name, family, _idea(named_files(name), name))


def source_of(fit: Any) -> str:
    """The function and all of its module that it uses, its own name and docstrings taken out."""
    tree = ast.parse(inspect.getsource(sys.modules[fit.__module__]))
    parts = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    todo, seen = [fit.__qualname__.split(".")[0]], list[str]()
    while todo:
        name = todo.pop()
        if name in parts and name not in seen:
            seen.append(name)
            todo += [n.id for n in ast.walk(parts[name]) if isinstance(n, ast.Name)]
    text = "\n".join(ast.unparse(parts[name]) for name in seen)
    return text.replace(fit.__qualname__.split(".")[0], "fit")


def _idea(files: dict[str, str], name: str, texts: list[str] | None = None) -> Idea:
    return idea_of("0" * 40, {p: t.encode() for p, t in files.items()}, name, texts or [])


def table() -> str:
    found = list(cases())
    lines = [
        "# Accuracy of the keyword classifier",
        "",
        f"`{CLASSIFIER}` on the {len(FAMILY_OF)} built-in methods that are no guards, against "
        "families given by hand. The rules were written by someone who knew these methods, so this "
        "is an upper bound: on foreign code expect less than in the second row. `python "
        "benchmarks/ideas.py` renews it.",
        "",
        "| what it sees | methods | right | wrong | not recognised |",
        "|---|---:|---:|---:|---:|",
    ]
    for condition in dict.fromkeys(case.condition for case in found):
        of = [case for case in found if case.condition == condition]
        right = sum(case.idea.family == case.family for case in of)
        none = sum(case.idea.family is None for case in of)
        lines.append(f"| {condition} | {len(of)} | {right} | {len(of) - right - none} | {none} |")
    lines += ["", "Not right:", "", "| what it sees | method | by hand | classifier |"]
    lines.append("|---|---|---|---|")
    lines += [
        f"| {c.condition} | {c.method} | {c.family} | {c.idea.family or 'none'} |"
        for c in found
        if c.idea.family != c.family
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(__file__).with_name("ideas.md")
    path.write_text(table(), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
