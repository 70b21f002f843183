"""Read the request with a few patterns, run the answer, compare. No teacher, no strong model."""

import math
import re

import numpy as np

READS_TEXT = True  # without this line its verified run ends at the first row.prompt
INPUTS = [list(np.random.default_rng(seed).integers(-12, 13, 9)) for seed in range(12)]
MAPS = [
    (r"the squares of", lambda x, k: x * x),
    (r"the cubes of", lambda x, k: x**3),
    (r"the absolute values of", lambda x, k: abs(x)),
    (r"the negated values of", lambda x, k: -x),
    (r"(\d+) plus each of", lambda x, k: x + k),
    (r"(\d+) times each of", lambda x, k: x * k),
    (r"(\d+) less than each of", lambda x, k: x - k),
    (r"", lambda x, k: x),
]
TESTS = [
    (r"the even numbers", lambda x, k: x % 2 == 0),
    (r"the odd numbers", lambda x, k: x % 2 == 1),
    (r"the positive numbers", lambda x, k: x > 0),
    (r"the negative numbers", lambda x, k: x < 0),
    (r"the numbers greater than (\d+)", lambda x, k: x > k),
    (r"the numbers smaller than (\d+)", lambda x, k: x < k),
    (r"the numbers divisible by (\d+)", lambda x, k: x % k == 0),
    (r"the numbers other than (\d+)", lambda x, k: x != k),
]
TOTALS = [
    (r"the sum of", sum),
    (r"the product of", math.prod),
    (r"the largest of", lambda xs: max([0, *xs])),
    (r"the smallest of", lambda xs: min([0, *xs])),
    (r"a list of", list),
    (r"the number of different values among", lambda xs: len(set(xs))),
]


def fit(task, student, seed):
    return Runs()


class Runs:
    def predict_proba(self, inputs):
        return np.array([right(e.prompt, e.answers[0]) for e in inputs])


def right(prompt, answer):
    space = {"math": math}
    try:
        exec(answer, space)
        function = next(v for n, v in space.items() if n not in ("math", "__builtins__"))
        given = [list(map(int, xs)) for xs in INPUTS]
        return 0.95 if all(function(xs) == asked(prompt, xs) for xs in given) else 0.05
    except Exception:
        return 0.05


def asked(prompt, xs):
    total, _ = first(TOTALS, prompt)
    change, k = first(MAPS, prompt)
    test, limit = first(TESTS, prompt)
    return total([change(x, k) for x in xs if test(x, limit)])


def first(patterns, prompt):
    for pattern, function in patterns:
        if found := re.search(pattern, prompt):
            return function, int(found.group(1)) if found.groups() else 0
    raise ValueError(prompt)
