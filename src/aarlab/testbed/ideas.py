"""Classify a method snapshot into one of the eleven families and measure its size.

The same files always get the same answer. Loads no numpy and no torch: the server calls it when a
campaign is exported. Patterns are regular expressions over words spelled with spaces (`ccs_es` is
`ccs es`), in a plain table, so that a reader can change why a method was put where it is.

Covered: code that does not parse, hostile nesting, binary and huge files (they show nothing).
Not covered: code that another file builds at run time.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aarlab.core.errors import BadInput
from aarlab.core.ideas import FAMILY_KEYS, Complexity, Idea, IdeaFamily
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.testbed.recipes.recipe import RECIPE_FILE, STAGES, Recipe, normal, recipe_from_json

__all__ = ["CLASSIFIER", "idea_of"]


MAX_SOURCE = 200_000
MAX_WORD = 60
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True, slots=True)
class Features:
    """`words`: every name, import and short string of the code, spelled with spaces.

    `settings`: the recipe's options that are in effect and not at their default, `stage.name`.
    `complexity` is None where nothing parses.
    """

    words: frozenset[str]
    settings: Mapping[str, str]
    is_recipe: bool
    complexity: Complexity | None


def features_of(files: Mapping[str, bytes]) -> Features:
    sources = [c for p, c in sorted(files.items()) if p.endswith(".py") and len(c) <= MAX_SOURCE]
    parsed = [(tree, source) for source in sources if (tree := _parsed(source)) is not None]
    words = {word for tree, _ in parsed for word in _words(tree)}
    recipe = _recipe(files.get(RECIPE_FILE))
    settings = {} if recipe is None else _settings(recipe)
    size = Complexity(
        lines=sum(_code_lines(tree, source) for tree, source in parsed),
        nodes=sum(_n_nodes(tree) for tree, _ in parsed),
        options=None if recipe is None else len(settings),
    )
    return Features(frozenset(words), settings, recipe is not None, size if parsed else None)


def spelled(name: str) -> str:
    """Spell `fitCcs_probe` as `fit ccs probe`, so that one pattern reads code and prose."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower()


def _parsed(source: bytes) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return parse_python(source)
    except UNPARSABLE:
        return None


def _words(tree: ast.Module) -> Iterator[str]:
    docstrings = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        for name in _names(node):
            yield spelled(name)
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings and len(node.value) <= MAX_WORD:  # type: ignore[attr-defined]
            yield spelled(node.value)  # type: ignore[attr-defined]


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg | ast.keyword):
        yield node.arg or ""
    elif isinstance(node, ast.alias):
        yield node.name
        yield node.asname or ""
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    kinds = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(tree):
        body = node.body if isinstance(node, kinds) else []
        first = body[0] if body else None
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_text and isinstance(first.value.value, str):  # type: ignore[union-attr]
            yield first.value  # type: ignore[union-attr]


def _n_nodes(tree: ast.Module) -> int:
    """Count nodes without docstrings and without load / store marks, which say nothing."""
    marks = sum(isinstance(node, ast.expr_context) for node in ast.walk(tree))
    return sum(1 for _ in ast.walk(tree)) - marks - 2 * sum(1 for _ in _docstrings(tree))


def _code_lines(tree: ast.Module, source: bytes) -> int:
    inside = {
        line
        for node in _docstrings(tree)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines: set[int] = set()
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type not in _NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):  # what the parser alone takes
        return len([line for line in source.split(b"\n") if line.strip()])
    return len(lines - inside)


def _recipe(content: bytes | None) -> Recipe | None:
    try:
        return None if content is None else normal(recipe_from_json(content.decode()))
    except (BadInput, UnicodeDecodeError):
        return None


def _settings(recipe: Recipe) -> dict[str, str]:
    found = {}
    for stage in STAGES:
        options = getattr(recipe, stage)
        for name, field in type(options).model_fields.items():
            value = getattr(options, name)
            if value != field.default:
                found[f"{stage}.{name}"] = str(value)
    return found


WORDS: dict[IdeaFamily, tuple[str, ...]] = {
    "loss": (
        r"\bloss(es)?\b(?! (curve|traject|gap|differ))",
        r"\bcross entropy\b",
        r"\breverse (kl|ce|cross)\b",
        r"\baux(iliary)? conf",
        r"\bvanilla\b",
        r"\b(product|window|focal|hinge|brier) (loss|target)",
        r"^(product|window|entropy)$",
        r"\bself targets?\b",
        r"\bmargin loss\b|\btemperature scaled loss\b",
    ),
    "selection": (
        r"\bselect(ed|ion|ing)?\b",
        r"\bfilter(s|ed|ing)?\b",
        r"\bdrop(s|ped)? (the )?(worst|rows|noisy|low)|\bneighbourhood (drop|logistic|component)\b",
        r"\bkeep (only|the|top|fraction|share)|\bkept (rows|share|half)\b|\btop rows\b",
        r"\bconfident( labels| rows| subset)?\b(?! first)",
        r"\boverlap density\b",
        r"\bcore ?set\b|\bsubset\b|\bprun(e|ed|ing)\b",
        r"\bneighbour(s|hood)?\b|\bneighbor(s|hood)?\b|\bknn\b",
    ),
    "reweighting": (
        r"\bre ?weigh(t|ts|ted|ting)?\b",
        r"\b(sample|row|example|instance) weights?\b|\bweights? (n|rows|each|by)\b"
        r"|\bweigh(s|ed)?\b",
        r"\bimportance\b",
        r"\bdensity ratio\b",
        r"\bcalibrated weights?\b|\breliability weights?\b",
    ),
    "relabelling": (
        r"\bre ?label(s|l?ed|l?ing)?\b",
        r"\bposterior\b",
        r"\bchannel\b|\bnoise (model|rate|matrix|transition)|\btransition matrix\b",
        r"\bem\b|\bexpectation maximi[sz]ation\b",
        r"\bdenois(e|ed|ing)\b",
        r"\blabel propagation\b|\bpropagat(e|ed|ion)\b",
        r"\b(label|platt|isotonic) (correction|calibration)|\brecalibrat",
        r"\bdawid\b|\bconfusion matrix\b",
    ),
    "elicitation": (
        r"\bzero shot\b",
        r"\bfew shot\b|\bin context\b",
        r"\belicit(s|ed|ation|ing)?\b",
        r"\bicm\b|\bcoheren(t|ce)\b",
        r"\bprompt(s|ed|ing)\b|\b(own|tuned|instruction) prompt\b|\bprompt template",
        r"\bown (knowledge|answers?|belief)|\bknows\b",
        r"\bpmi\b|\banswer logp\b|\bmargins?\b",
        r"\bconsisten(t|cy) (rows|labels|check)|\bconsistent rows\b",
        r"\bverdict margins\b",
    ),
    "probing": (
        r"\bccs\b|\bcontrast (consistent|states|pairs?)\b",
        r"\bvinc\b",
        r"\bprobe(s|d)?\b|\bprobing\b",
        r"\btruth (mean|pca|direction|probe)|\bdirection in\b",
        r"\bpca\b|\bprincipal\b|\bsvd\b",
        r"\bhidden states?\b|\brepresentations?\b|\bactivations?\b",
        r"\bbest layer\b|\bsweep(s)? layers\b|\bper layer\b",
        r"\bdifference in means\b|\bsteering\b",
    ),
    "teachers": (
        r"\bensemble(s|d)?\b",
        r"\b(several|multiple|many|all|more) (weak )?teachers\b|\bvanilla teachers\b",
        r"\bteacher labels( sn)?\b",
        r"\bboost(ed|ing)?\b|\badaboost\b",
        r"\bco supervised\b|\bmixture of (teachers|experts)\b|\bclosest teacher\b",
        r"\bmajority vote\b|\bvot(e|es|ing)\b",
        r"\bbayesian\b|\bbeta labels\b",
        r"\breliability\b",
    ),
    "curriculum": (
        r"\bcurriculum\b",
        r"\beas(y|ier|iest) (to|before|first|half|share|rows)\b|\bconfident first\b"
        r"|\bhard (last|later)\b",
        r"\b(training|learning) dynamics\b|\blearning speed\b",
        r"\bsmall loss\b|\bco teaching\b",
        r"\bloss (curve|traject|gap|differ)|\bforgetting\b|\bmemoris",
        r"\bearly (stop|stopping|stopped)\b",
        r"\bmdl\b|\bepiplexity\b|\bdescription length\b",
        r"\bgo on\b|\bwarm ?up\b|\banneal",
    ),
    "self_training": (
        r"\bself train(s|ed|ing)?\b",
        r"\bpseudo ?labels?\b",
        r"\bdistil(l|led|lation|ling)?\b",
        r"\bborn again\b",
        r"\bbootstrap(s|ped|ping)?\b",
        r"\bout of fold\b|\bcross fit(ted)?\b",
        r"\btwo stage\b|\bco training\b|\bmean teacher\b|\bstudent teaches\b",
        r"\biterat(e|ed|ive) (training|labels|rounds)",
    ),
    "simplicity": (
        r"\bsimplicity\b|\bsimple(r|st)? (model|student|function)",
        r"\bregulari[sz](e|ed|er|ation)\b",
        r"\blow rank\b|\beffective rank\b|\bnuclear norm\b",
        r"\bweight decay\b|\bdropout\b|\bridge\b|\blasso\b",
        r"\blabel smoothing\b|\bsmoothing\b|\bmix ?up\b",
        r"\b(fewer|small|tiny) (parameters|heads?|epochs)",
        r"\bweight averag|\bswa\b|\bema\b",
        r"\bpenalty\b|\bspectral\b",
    ),
    "generation": (
        r"\bdebat(e|es|ed|er|ers)\b",
        r"\bcriti(c|cs|que|ques)\b",
        r"\bgenerat(e|es|ed|ive|ion) (finetuning|fine tuning|critique|text|answers?|reasoning)",
        r"\b(grpo|rlhf|reinforce|policy gradient|reward)\b",
        r"\bevolution(ary)?\b|\bes\b|\bfitness\b|\bevolve\b|\bantithetic\b",
        r"\bchain of thought\b|\breasoning\b|\bsample(d)? (answers|solutions)",
        r"\bgradient free\b|\bblack box (search|optimi)",
        r"\bwritten\b|\bgenerate options\b|\blm options\b",
    ),
}

SPECIFIC: dict[IdeaFamily, float] = {"loss": 0.5, "selection": 0.8, "reweighting": 0.8}
"""Any training code has a loss, rows and weights, so these words count less. Others count 1."""

TIES: tuple[IdeaFamily, ...] = (
    "generation",
    "probing",
    "curriculum",
    "simplicity",
    "teachers",
    "elicitation",
    "relabelling",
    "self_training",
    "reweighting",
    "selection",
    "loss",
)
"""Who wins with equal points: the family whose words are rarer in code."""

SETTINGS: dict[str, tuple[IdeaFamily, float]] = {
    "label.source=em_posterior": ("relabelling", 4.0),
    "label.source=zero_shot": ("elicitation", 4.0),
    "label.source=posterior": ("elicitation", 3.5),
    "label.source=blend": ("elicitation", 3.5),
    "label.source=teachers": ("teachers", 3.5),
    "label.source=votes": ("teachers", 3.5),
    "label.temperature": ("relabelling", 0.5),
    "select.kind": ("selection", 3.0),
    "train.order=confident_first": ("curriculum", 2.75),
    "train.rounds": ("self_training", 2.75),
    "train.weighting=confidence": ("reweighting", 2.5),
    "train.loss": ("loss", 2.25),
    "predict.kind=zero_shot": ("elicitation", 5.0),
    "predict.kind=blend": ("elicitation", 2.0),
    "predict.members": ("teachers", 1.75),
    "train.layers": ("teachers", 1.75),
    "train.hidden": ("simplicity", 1.0),
    "train.smoothing": ("simplicity", 1.0),
    "train.weight_decay": ("simplicity", 0.75),
    "train.epochs": ("simplicity", 0.5),
    "train.targets=hard": ("loss", 0.25),
}
"""Points of a recipe's options, earlier stages first: labels decide more than the number of
students. A recipe with none of them is plain training on the weak labels: `loss`."""


CLASSIFIER = "keywords-2"
"""Goes into every export; the number changes with the rules."""

NAME, CODE, PROSE = 3.0, 1.5, 1.0
PLAIN = 0.1  # a recipe with every option at its default
SHOWN = 8


class Points(NamedTuple):
    """Points of one family and what gave them."""

    family: IdeaFamily
    value: float
    why: str


def idea_of(
    snapshot: str, files: Mapping[str, bytes], name: str, texts: Iterable[str] = ()
) -> Idea:
    """Return the family with the most points; ties go by `TIES`. None without any point.

    A recipe is judged by its options alone: names and posts of control researchers repeat the
    direction that they were given. Code is judged by its own words, the snapshot's name, and the
    prose about it. Each pattern counts once per source.
    """
    features = features_of(files)
    points = list(_of_recipe(features)) if features.is_recipe else []
    points = points or list(_of_words(features, name, " ".join(texts)))
    scores = {
        family: round(total, 2)
        for family in FAMILY_KEYS
        if (total := sum(p.value for p in points if p.family == family)) > 0
    }
    best = max(scores, key=lambda f: (scores[f], -TIES.index(f)), default=None)
    ordered = sorted(points, key=lambda p: (p.family != best, -p.value, p.why))
    return Idea(
        snapshot=snapshot,
        family=best,
        classifier=CLASSIFIER,
        scores=scores,
        evidence=[f"{p.family}: {p.why}" for p in ordered[:SHOWN]],
        complexity=features.complexity,
    )


def _of_recipe(features: Features) -> Iterator[Points]:
    found = False
    for option, value in features.settings.items():
        key = f"{option}={value}"
        rule = SETTINGS.get(key) or SETTINGS.get(option)
        if rule is not None:
            found = True
            yield Points(*rule, f"recipe {key}")
    if not found:
        yield Points("loss", PLAIN, "recipe: plain training on the weak labels")


def _of_words(features: Features, name: str, prose: str) -> Iterator[Points]:
    sources = (
        ("name", NAME, [spelled(name)]),
        ("code", CODE, sorted(features.words)),
        ("text", PROSE, [spelled(prose)]),
    )
    for source, weight, texts in sources:
        for family in FAMILY_KEYS:
            for pattern in _patterns()[family]:
                hit = next((m for text in texts if (m := pattern.search(text))), None)
                if hit is not None:
                    value = weight * SPECIFIC.get(family, 1.0)
                    yield Points(family, value, f"{source} says “{hit.group().strip()}”")


@cache
def _patterns() -> dict[IdeaFamily, tuple[re.Pattern[str], ...]]:
    return {family: tuple(re.compile(word) for word in words) for family, words in WORDS.items()}
