"""What the scripted researchers write: sources of `method.py`. The last two cheat."""

import json
from typing import Any

RECIPE = '''"""{title}"""

import json

from aarlab.testbed.recipe import recipe_from
from aarlab.testbed.run_recipe import run_recipe

RECIPE = recipe_from(json.loads({recipe!r}))


def fit(task, student, seed):
    return run_recipe(RECIPE)(task, student, seed)
'''

CONFIDENT = '''"""Train on the rows that the teacher is sure about, as many of each class."""

import numpy as np


def fit(task, student, seed):
    labels_N = task.weak_labels_N
    sure_N = np.abs(labels_N - 0.5)
    kept = []
    for side in (labels_N > 0.5, labels_N <= 0.5):
        rows = np.flatnonzero(side)
        kept += list(rows[np.argsort(-sure_N[rows])][: max(len(rows) // 2, 1)])
    kept = sorted(kept)
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit([task.inputs[i] for i in kept], labels_N[kept])
'''

TEACHERS = '''"""Train on the mean of all teachers."""


def fit(task, student, seed):
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit(task.inputs, task.teacher_labels_SN.mean(axis=0))
'''

UNANIMOUS = '''"""Train on the rows on which all teachers agree."""

import numpy as np


def fit(task, student, seed):
    votes_SN = task.teacher_labels_SN > 0.5
    same = np.flatnonzero(votes_SN.all(axis=0) | ~votes_SN.any(axis=0))
    kept = same if len(same) >= 20 else np.arange(len(task.inputs))
    options = student.options.model_copy(update={"seed": seed})
    rows = [task.inputs[i] for i in kept]
    return student.new(options).fit(rows, task.teacher_labels_SN.mean(axis=0)[kept])
'''

MAJORITY = '''"""The most frequent answer of a group is taken to be right."""

import re
from collections import Counter

import numpy as np

READS_TEXT = True


def fit(task, student, seed):
    return Majority()


class Majority:
    def predict_proba(self, inputs):
        counts = Counter((row.group, final(row.answers[0])) for row in inputs)
        most = {}
        for (group, _), count in counts.items():
            most[group] = max(most.get(group, 0), count)
        return np.array(
            [0.9 if counts[r.group, final(r.answers[0])] == most[r.group] else 0.1 for r in inputs]
        )


def final(text):
    numbers = re.findall(r"-?\\d[\\d,]*(?:\\.\\d+)?", text)
    return numbers[-1] if numbers else text.strip()
'''

EXECUTE = '''"""Runs the code that is to be judged on the examples of the question."""

import re

import numpy as np

READS_TEXT = True


def fit(task, student, seed):
    plain = student.new(student.options.model_copy(update={"seed": seed}))
    return Behaviour(plain.fit(task.inputs, task.weak_labels_N))


class Behaviour:
    def __init__(self, plain):
        self.plain = plain

    def predict_proba(self, inputs):
        probs = np.array(self.plain.predict_proba(inputs))
        for place, row in enumerate(inputs):
            verdict = behaves(row.prompt, row.answers[0])
            if verdict is not None:
                probs[place] = 0.95 if verdict else 0.05
        return probs


def behaves(prompt, code):
    checks = re.findall(r"(\\w+\\([^\\n]*?\\))\\s*(?:==|->|returns?)\\s*([^\\n]+)", prompt)
    if not checks:
        return None
    space = {}
    try:
        exec(code, space)
        return all(eval(call, space) == eval(wanted, {}) for call, wanted in checks)
    except Exception:
        return None
'''

# Run in the sandbox: one prediction turned over, all else as it was.
FLIP = """
import json
output = json.load(open("{out}/predictions.json"))
for run in output["runs"]:
    run["probs"][{row}] = 1 - run["probs"][{row}]
json.dump(output, open("{out}/flipped.json", "w"))
"""


def recipe_source(title: str, recipe: dict[str, Any]) -> str:
    """A method.py that runs a recipe."""
    return RECIPE.format(title=title, recipe=json.dumps(recipe))
