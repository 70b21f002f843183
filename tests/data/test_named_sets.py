"""Public data sets by name, on miniature sources of invented sentences: rules, checks, folders."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from aarlab.cli.main import cli, run_safely
from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound, Unreachable
from aarlab.testbed.tasks.data import check_disjoint, normalised
from aarlab.testbed.tasks.datasets import named, source_files
from aarlab.testbed.tasks.datasets.forms import longer_is_better, make_rows
from aarlab.testbed.tasks.datasets.named import NamedSet, parse_sets, shipped_sets
from aarlab.testbed.tasks.datasets.named_folder import copy_finished, is_finished, write_named
from aarlab.testbed.tasks.datasets.near_duplicates import WORD, clusters
from aarlab.testbed.tasks.datasets.source_files import downloaded, local_files, wanted_files
from aarlab.testbed.tasks.folder import read_folder
from aarlab.testbed.tasks.settings_file import task_settings

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
STEMS = ("train_label", "train_unlabel", "train_hidden", "test")
COUNTS = dict(zip(STEMS, (20, 60, 60, 80), strict=True))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {"title": "Which?", "pair": "embedded", "teacher": {"layer": 3}}
Row = dict[str, Any]


def sentence(rng: random.Random, n_words: int) -> str:
    """Words of no language, so that no two sentences are alike."""
    syllables = ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "ze")
    return " ".join("".join(rng.choices((*syllables, "x"), k=rng.randint(2, 4)))
                    for _ in range(n_words))  # fmt: skip


def statement_file(seed: int, n: int = 800) -> str:
    """Statements that begin with "I may" (safe) or "I take" (unsafe); the safe ones are shorter."""
    rng, lines = random.Random(seed), []
    for i in range(n):
        safe = i % 2 == 0
        text = ("I may " if safe else "I take ") + sentence(rng, rng.randint(3, 9 if safe else 11))
        answer = " No" if safe else " Yes"
        lines.append({"question": "?", "statement": text, "answer_matching_behavior": answer})
    return json_text(lines)


def choice_file(seed: int, matching_is_safe: bool, n: int = 150) -> str:
    rng, lines = random.Random(seed), []
    for i in range(n):
        answers = [f"safe {sentence(rng, 3)}", f"risky {sentence(rng, 4)}"]
        safe_is_a = i % 3 == 0
        first, second = answers if safe_is_a else answers[::-1]
        choices = "\n\nChoices:\n" if i % 2 else "\n\n"
        label = " (A)" if safe_is_a == matching_is_safe else " (B)"
        question = f"{sentence(rng, 12)}?{choices} (A) {first}\n (B) {second}"
        lines.append({"question": question, "answer_matching_behavior": label})
    return json_text(lines)


def scenario_file(seed: int, n: int = 300) -> str:
    """Pairs of a nice and a sour end; some share their first words."""
    rng, lines = random.Random(seed), []
    for i in range(n):
        start = sentence(rng, 4) if i % 5 else f"I went out {sentence(random.Random(i // 50), 6)}"
        lines.append(f'"{start}, nice {sentence(rng, 2)}.",{start} sour {sentence(rng, 2)}.\n')
    return "".join(lines)


def json_text(rows: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


SOURCES = {
    "rows/takes-over.jsonl": statement_file(1),
    "rows/hides.jsonl": statement_file(2),
    "ask/yields.jsonl": choice_file(3, True),
    "ask/grabs.jsonl": choice_file(4, False),
    "csv/first.csv": scenario_file(5),
    "csv/hard.csv": scenario_file(6),
    "LICENSE": "Anyone may use these invented sentences.\n",
}
FORMS: dict[str, Row] = {
    "statement_pairs": {"folder": "rows", "prompt": "Say something.", "shared_percent": 60},
    "statements": {"folder": "rows", "prompt": "Say something.", "shared_percent": 60,
                   "pairs": COUNTS},
    "choices": {"folder": "ask", "shared_percent": 50, "matching_is_better": ["yields"]},
    "ordered_pairs": {"folder": "csv", "prompt": "Tell me.", "first_words": 9, "most_in_group": 12},
}  # fmt: skip


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spec_of(form: str, sources: dict[str, str] = SOURCES, **changed: Any) -> NamedSet:
    given = {**FORMS[form], **changed}
    folder = given.pop("folder")
    licence_file = {"LICENSE": sha256(SOURCES["LICENSE"])}
    source = {
        "repo": "nobody/sentences", "commit": COMMIT, "licence": "CC0-1.0",
        "licence_url": "https://example.org/cc0", "licence_file": licence_file, "credit": "Nobody",
    }  # fmt: skip
    return NamedSet.model_validate({
        "source": source, "form": form, "title": "Which?", "answer_words": [2, 40],
        "rows": COUNTS, "task": {key: SETTINGS[key] for key in ("pair", "teacher")},
        "files": {p: sha256(text) for p, text in sources.items() if p.startswith(folder)},
        **given,
    })  # fmt: skip


def files_of(spec: NamedSet, sources: dict[str, str] = SOURCES) -> dict[str, bytes]:
    return {path: sources[path].encode() for path in spec.files}


def rows_of(form: str, seed: int = 0) -> dict[str, list[Row]]:
    spec = spec_of(form)
    return make_rows("mini", spec, files_of(spec), seed).rows


def copy_of_repository(folder: Path) -> Path:
    for path, text in SOURCES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def answers(row: Row) -> list[str]:
    """The better answer first; of a verification row, the only one."""
    if "choice" in row:
        return [row["choice"]]
    pair = [row["first"], row["second"]]
    return pair if row["label"] == "A" else pair[::-1]


@pytest.mark.parametrize("form", FORMS)
def test_counts_and_balance_are_those_declared(form: str) -> None:
    rows = rows_of(form)
    assert {stem: len(lines) for stem, lines in rows.items()} == COUNTS
    for lines in rows.values():
        assert Counter(row["label"] in ("A", True) for row in lines) == {
            True: len(lines) / 2, False: len(lines) / 2,
        }  # fmt: skip
        assert len({row["id"] for row in lines}) == len(lines)
    labels = [row["label"] for row in rows["test"]]  # their order tells nothing
    assert 20 < sum(a == b for a, b in pairwise(labels)) < 60


def test_the_label_is_what_the_source_says() -> None:
    for row in (row for lines in rows_of("statement_pairs").values() for row in lines):
        safe, unsafe = answers(row)
        assert safe.startswith("I may ") and unsafe.startswith("I take ")
        assert {safe, unsafe} <= {json.loads(line)["statement"]
                                  for line in SOURCES[f"rows/{row['source']}.jsonl"].split("\n")
                                  if line}  # fmt: skip
    for row in (row for lines in rows_of("statements").values() for row in lines):
        assert row["label"] == row["choice"].startswith("I may ")
    for row in (row for lines in rows_of("choices").values() for row in lines):
        assert [text.split()[0] for text in answers(row)] == ["safe", "risky"]
        assert "Choices" not in row["prompt"] and "(A)" not in row["prompt"] + row["first"]
    for row in (row for lines in rows_of("ordered_pairs").values() for row in lines):
        assert [" nice " in text for text in answers(row)] == [True, False]


def test_lengths_of_a_pair_of_statements_do_not_tell_the_safe_one() -> None:
    lines = [row for some in rows_of("statement_pairs").values() for row in some]
    lengths = [sorted(map(len, answers(row))) for row in lines]
    assert all(5 * (more - less) <= less for less, more in lengths)
    assert longer_is_better(lines) == 0.5
    used = Counter(text for row in lines for text in answers(row))
    assert set(used.values()) == {1}


@pytest.mark.parametrize("form", FORMS)
def test_no_group_and_no_near_copy_is_in_two_files(form: str) -> None:
    stems = defaultdict[str, set[str]](set)
    rows = rows_of(form)
    for stem, lines in rows.items():
        for row in lines:
            stems[row["group"]].add(stem)
            if form == "ordered_pairs":
                for text in answers(row):
                    stems[" ".join(normalised(text).split()[:9])].add(stem)
    assert all(len(found) == 1 for found in stems.values())


def test_near_copies_go_into_one_file_and_contradictions_nowhere() -> None:
    text = SOURCES["rows/hides.jsonl"]
    lines = [json.loads(line) for line in text.split("\n") if line]
    copies = [
        {**line, "statement": line["statement"].upper() + " again"}
        for line in lines
        if len(line["statement"].split()) > 8
    ][:40]
    other = {"answer_matching_behavior": " Yes"}
    twice = [{**lines[0], **other}, lines[2], lines[2]]
    changed = {**SOURCES, "rows/hides.jsonl": json_text([*lines, *copies, *twice])}
    spec = spec_of("statement_pairs", changed)
    made = make_rows("mini", spec, files_of(spec, changed), 0)
    assert made.left_out == {"there with both labels": 2, "repeats": 2}
    groups, stems = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for stem, some in made.rows.items():
        for row in some:
            for statement in answers(row):
                base = normalised(statement).removesuffix(" again")
                stems[base].add(stem)
                groups[base].add(row["group"])
                assert base != normalised(lines[0]["statement"])
    assert all(len(found) == 1 for found in (*stems.values(), *groups.values()))


def test_equal_files_and_seed_make_equal_rows_and_another_seed_others() -> None:
    for form in FORMS:
        assert json.dumps(rows_of(form)) == json.dumps(rows_of(form))
        assert json.dumps(rows_of(form)) != json.dumps(rows_of(form, seed=1))


def test_single_statements_lie_in_the_files_of_their_pairs() -> None:
    pairs, singles = rows_of("statement_pairs"), rows_of("statements")
    for stem in STEMS:
        paired = {text for row in pairs[stem] for text in answers(row)}
        assert {row["choice"] for row in singles[stem]} <= paired


@pytest.mark.parametrize("form", FORMS)
def test_a_written_folder_loads_and_says_where_it_is_from(tmp_path: Path, form: str) -> None:
    spec = spec_of(form)
    files = {**files_of(spec), "LICENSE": SOURCES["LICENSE"].encode()}
    written = write_named("mini", spec, files, tmp_path / "a", 3)
    assert written.rows == COUNTS
    data = read_folder(tmp_path / "a", "mini")
    check_disjoint(data.splits)
    assert data.kind == spec.kind and len(data.splits["train_hidden"].examples) == 60
    about = (tmp_path / "a" / "DATASET.md").read_text()
    for said in ("nobody/sentences", COMMIT, "CC0-1.0", "--seed 3", *spec.files.values()):
        assert said in about
    assert yaml.safe_load((tmp_path / "a" / "task.yaml").read_text()) == SETTINGS
    assert (tmp_path / "a" / "LICENSE.txt").read_text() == SOURCES["LICENSE"]
    write_named("mini", spec, files, tmp_path / "b", 3)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with pytest.raises(Conflict, match="a exists"):
        write_named("mini", spec, files, tmp_path / "a", 3)


@pytest.mark.parametrize(("form", "path", "text", "says"), [
    ("statements", "rows/hides.jsonl", "[1]\n", "rows/hides.jsonl, line 1: expected a JSON object"),
    ("statement_pairs", "rows/hides.jsonl", '{"statement": "x"}\n', "line 1: expected the texts"),
    ("statement_pairs", "rows/hides.jsonl",
     '{"statement": "a b c", "answer_matching_behavior": "maybe"}\n', "'maybe', not Yes or No"),
    ("statement_pairs", "rows/hides.jsonl", "\n", "too few pairs"),
    ("choices", "ask/grabs.jsonl", '{"question": "x", "answer_matching_behavior": " (C)"}\n',
     r"not \(A\) or \(B\)"),
    ("choices", "ask/grabs.jsonl", '\n\n{"a": NaN}\n', "line 3: not JSON"),
    ("ordered_pairs", "csv/hard.csv", "one only\n", "csv/hard.csv, line 1: expected two texts"),
    ("ordered_pairs", "csv/hard.csv", 'a b,"c d\n', "not CSV"),
])  # fmt: skip
def test_source_rows_of_another_form_are_refused_at_their_line(
    tmp_path: Path, form: str, path: str, text: str, says: str
) -> None:
    changed = {**SOURCES, path: text}
    many = {**COUNTS, "test": 800}
    counts = {"rows": many, "pairs": many} if form == "statements" else {"rows": many}
    spec = spec_of(form, changed, **counts)
    with pytest.raises(BadInput, match=says):
        write_named("mini", spec, files_of(spec, changed), tmp_path / "out", 0)
    assert not list(tmp_path.iterdir())


@given(
    st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=7).map(" ".join), max_size=14),
    st.sampled_from([20, 50, 60, 100]),
)
@settings(max_examples=200)
def test_clusters_are_those_of_comparing_every_two_texts(texts: list[str], percent: int) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = WORD.findall(text)
        return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}

    found = list(range(len(texts)))
    for one in range(len(texts)):
        for other in range(one):
            a, b = grams(texts[one]), grams(texts[other])
            if 100 * len(a & b) >= percent * len(a | b):
                old, new = max(found[one], found[other]), min(found[one], found[other])
                found = [new if root == old else root for root in found]
    assert clusters(texts, percent) == found


def test_texts_with_the_same_content_words_are_one_cluster() -> None:
    texts = ["I would like more power", "power: more of that I like!", "I would like more money"]
    assert clusters(texts, 60, content_words=True) == [0, 0, 2]
    assert clusters(texts, 60) == [0, 1, 2]


class Counting(SimpleHTTPRequestHandler):
    """Serves a folder and counts; answers 503 to the first `busy` requests."""

    asked: list[str]
    busy: int

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if len(self.asked) <= self.busy:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path, type[Counting]]]:
    """The URL of a server, the folder of the repository that it serves, and its handler."""
    monkeypatch.setattr(source_files, "WAIT_S", 0.0)
    repository = copy_of_repository(tmp_path / "www" / "nobody" / "sentences" / COMMIT)
    handler = type("Handler", (Counting,), {"asked": [], "busy": 0})
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "www"))
    )
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", repository, handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_are_downloaded_once_and_a_busy_server_is_asked_again(
    tmp_path: Path, served: tuple[str, Path, type[Counting]]
) -> None:
    url, _, handler = served
    handler.busy = 2
    spec, seen = spec_of("choices"), list[str]()

    def counted(paths: Any) -> Iterator[str]:
        for path in paths:
            seen.append(path)
            yield path

    found = downloaded("mini", spec, url, tmp_path / "kept", counted)
    assert found == {path: SOURCES[path].encode() for path in wanted_files(spec)}
    assert seen == list(wanted_files(spec)) and len(handler.asked) == len(seen) + 2
    assert handler.asked[-1] == f"/nobody/sentences/{COMMIT}/ask/grabs.jsonl"
    (tmp_path / "kept/nobody/sentences" / COMMIT / "ask/grabs.jsonl").write_text("changed")
    handler.asked.clear()
    handler.busy = 0
    assert downloaded("mini", spec, url, tmp_path / "kept") == found
    assert handler.asked == [f"/nobody/sentences/{COMMIT}/ask/grabs.jsonl"]


def test_a_changed_or_missing_file_or_no_server_is_an_error_with_what_to_do(
    tmp_path: Path, served: tuple[str, Path, type[Counting]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, repository, handler = served
    spec, kept = spec_of("choices"), tmp_path / "kept"
    (repository / "ask/grabs.jsonl").write_text("changed")
    with pytest.raises(
        Damaged, match=r"ask/grabs.jsonl of nobody/sentences: expected sha256 .*got"
    ):
        downloaded("mini", spec, url, kept)
    assert not (kept / "nobody/sentences" / COMMIT / "ask/grabs.jsonl").exists()
    (repository / "ask/grabs.jsonl").unlink()
    handler.asked.clear()
    with pytest.raises(Unreachable, match=r"HTTP status 404.*--from FOLDER"):
        downloaded("mini", spec, url, kept)
    assert len(handler.asked) == 1  # a missing file stays missing
    with pytest.raises(
        Unreachable, match=rf"git clone https://github.com/nobody.*checkout {COMMIT}"
    ):
        downloaded("mini", spec, "http://127.0.0.1:9", kept)
    monkeypatch.setattr(source_files, "MAX_BYTES", 10)
    with pytest.raises(Damaged, match="for one file"):
        downloaded("mini", spec, url, tmp_path / "new")


def test_a_local_copy_is_checked_file_by_file(tmp_path: Path) -> None:
    spec, folder = spec_of("statements"), copy_of_repository(tmp_path / "copy")
    whole = {path: SOURCES[path].encode() for path in wanted_files(spec)}
    assert local_files("mini", spec, folder) == whole
    del whole["LICENSE"]
    assert local_files("mini", spec, folder / "rows") == whole
    (folder / "rows/hides.jsonl").write_bytes(SOURCES["rows/hides.jsonl"].encode() + b"\n")
    with pytest.raises(Damaged, match=r"1 of 2 files are not those of .*: rows/hides.jsonl \("):
        local_files("mini", spec, folder)
    (folder / "rows/hides.jsonl").unlink()
    with pytest.raises(
        NotFound, match=r"lacks 1 of the 2 files of mini: rows/hides.jsonl\. --from"
    ):
        local_files("mini", spec, folder)


def finished(folder: Path, form: str = "statement_pairs") -> Path:
    spec = spec_of(form)
    write_named("mini", spec, files_of(spec), folder, 0)
    return folder


def test_a_finished_folder_is_checked_and_copied(tmp_path: Path) -> None:
    folder, spec = finished(tmp_path / "done"), spec_of("statement_pairs")
    (folder / "DATASET.md").write_text("# Mine\n\nBy hand.\n")
    assert is_finished(folder) and not is_finished(copy_of_repository(tmp_path / "copy"))
    assert copy_finished("mini", spec, folder, tmp_path / "out").rows == COUNTS
    for stem in STEMS:
        text = (folder / f"{stem}.jsonl").read_text()
        assert (tmp_path / "out" / f"{stem}.jsonl").read_text() == text
        assert sha256(text) in (tmp_path / "out" / "DATASET.md").read_text()
    about = (tmp_path / "out" / "DATASET.md").read_text()
    assert "> By hand." in about and "CC0-1.0" in about and str(tmp_path) not in about
    assert yaml.safe_load((tmp_path / "out" / "task.yaml").read_text()) == SETTINGS


def test_a_finished_folder_of_another_set_or_with_faults_is_refused(tmp_path: Path) -> None:
    folder, spec, out = finished(tmp_path / "done"), spec_of("statement_pairs"), tmp_path / "out"
    with pytest.raises(BadInput, match="preference rows; mini has verification rows"):
        copy_finished("mini", spec_of("statements"), folder, out)
    other = spec_of("statement_pairs", prompt="Say something else.")
    with pytest.raises(
        BadInput, match=r"train_label, row 1: prompt 'Say something.'; that of mini"
    ):
        copy_finished("mini", other, folder, out)
    text = (folder / "test.jsonl").read_text()
    (folder / "test.jsonl").write_text(text.replace('"source": "hides"', '"source": "hid"', 1))
    with pytest.raises(BadInput, match=r"test, row \d+: source 'hid', no source file of mini"):
        copy_finished("mini", spec, folder, out)
    (folder / "test.jsonl").write_text(text.replace('"label": "A"', '"label": "C"', 1))
    with pytest.raises(BadInput, match=r"test.jsonl, line \d+: unknown label 'C'"):
        copy_finished("mini", spec, folder, out)
    (folder / "test.jsonl").unlink()
    with pytest.raises(NotFound, match=r"test\.jsonl does not exist"):
        copy_finished("mini", spec, folder, out)
    assert not out.exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside this repository")
@pytest.mark.parametrize("name", shipped_sets())
def test_the_shared_folders_are_finished_folders_of_these_sets(tmp_path: Path, name: str) -> None:
    spec = shipped_sets()[name]
    written = copy_finished(name, spec, SHARED / name, tmp_path / "out")
    assert written.rows == spec.rows.by_file()
    for stem in STEMS:
        file = f"{stem}.jsonl"
        assert (tmp_path / "out" / file).read_bytes() == (SHARED / name / file).read_bytes()


def test_a_declaration_that_does_not_fit_names_set_and_field() -> None:
    good = yaml.safe_load((Path(named.__file__).parent / "named.yaml").read_text())

    def refused(**changed: Any) -> str:
        sets = {"persona": {**good["sets"]["persona"], **changed}}
        with pytest.raises(BadInput) as caught:
            parse_sets(json.dumps({"sources": good["sources"], "sets": sets}).encode(), "mine.yaml")
        return str(caught.value)

    assert "mine.yaml: persona.source" in refused(source="nowhere")
    assert "persona.files" in refused(files={"a.jsonl": "abc"})
    assert "no file nope" in refused(matching_is_better=["nope"])
    assert "the other forms need one" in refused(prompt=None)
    assert "pairs is for statements" in refused(form="statements")
    assert "first_words is for ordered_pairs" in refused(form="ordered_pairs", shared_percent=None)
    with pytest.raises(BadInput, match="expected sources and sets"):
        parse_sets(b"[]", "mine.yaml")


def test_shipped_sets_are_pinned_and_credited() -> None:
    sets = shipped_sets()
    assert list(sets) == ["persona", "persona-single", "wellbeing", "ai-risk"]
    assert {name: (s.source.licence, len(s.files)) for name, s in sets.items()} == {
        "persona": ("CC-BY-4.0", 36), "persona-single": ("CC-BY-4.0", 36),
        "wellbeing": ("MIT", 3), "ai-risk": ("CC-BY-4.0", 8),
    }  # fmt: skip
    for spec in sets.values():
        assert "arXiv" in spec.source.credit and spec.source.commit in spec.source.clone


def test_the_settings_of_shipped_sets_are_those_of_a_build() -> None:
    for name, spec in shipped_sets().items():
        read = task_settings({"title": spec.title, **spec.task}, name)
        assert (read.pair, read.teacher.layer, read.teacher.share) == ("embedded", 3, 0.5)
        assert read.teacher.noise == (1.0 if name == "wellbeing" else 1.5)
        assert (read.student.layer, read.student.more_layers) == (15, (0, 12))
        assert read.splits.seed == "private" and read.log_likelihoods == "sample"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and the miniature sets under the names of the shipped ones."""
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(
        named, "shipped_sets",
        lambda: {"persona": spec_of("statement_pairs"), "ai-risk": spec_of("choices")},
    )  # fmt: skip
    return tmp_path


def fetch(*arguments: object) -> int:
    words = ("task", "fetch", *map(str, arguments))
    return run_safely(lambda: get_command(cli).main(list(words), standalone_mode=False))


def test_the_command_downloads_and_names_the_next_step(
    home: Path,
    served: tuple[str, Path, type[Counting]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AARLAB_SOURCES_URL", served[0])
    assert fetch("persona", "--out", home / "out") == 0
    said = capsys.readouterr().out
    for part in (
        f"https://github.com/nobody/sentences at {COMMIT[:12]}",
        "licence CC0-1.0 (https://example.org/cc0)",
        "Nobody",
        "downloading 3 files of nobody/sentences",
        f"wrote {home}/out: train_label 20, train_unlabel 60, train_hidden 60, test 80 rows",
        f"next: aarlab task build {home}/out",
    ):
        assert part in said
    assert fetch("persona", "--out", home / "again", "--from", served[1]) == 0
    for path in (home / "out").iterdir():
        assert path.read_bytes() == (home / "again" / path.name).read_bytes()
    assert fetch("persona", "--out", home / "copy", "--from", home / "out") == 0
    assert "checking and copying the finished folder" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "says"), [
    (("persna",), "did you mean persona?"),
    (("ai_risk",), "did you mean ai-risk?"),
    (("persona",), "cannot download LICENSE from 127.0.0.1"),
    (("persona", "--from", "{}/none"), "none is not there: a copy of nobody/sentences"),
    (("persona", "--from", "{}/part/train_label.jsonl"), "is a file; --from takes a folder"),
    (("persona", "--from", "{}"), "lacks 2 of the 2 files of persona"),
    (("persona", "--from", "{}/part"), "part/train_unlabel.jsonl does not exist"),
    (("persona", "--from", "{}/part", "--seed", "1"), "--seed is for generating rows"),
    (("persona", "--files", "{}/none"), "give a local copy of it by --from"),
    (("persona", "--rows", "5"), "--rows is for mappings"),
    (("persona", "--skip-bad-rows"), "--skip-bad-rows is for mappings"),
    (("sciq", "--from", "{}/part"), "--from is for sets by name"),
])  # fmt: skip
def test_bad_input_is_exit_code_2_and_writes_nothing(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.setattr(source_files, "WAIT_S", 0.0)
    monkeypatch.setenv("AARLAB_SOURCES_URL", "http://127.0.0.1:9")
    (home / "part").mkdir()
    (home / "part" / "train_label.jsonl").write_text("")
    words = [one.replace("{}", str(home)) for one in arguments]
    assert fetch(*words, "--out", home / "out") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (home / "out").exists() and not list(home.glob(".out*"))


def test_an_occupied_folder_is_refused_before_anything_is_downloaded(
    home: Path, served: tuple[str, Path, type[Counting]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch("persona", "--out", served[1], "--from", served[1]) == 2
    assert "exists; choose another --out" in capsys.readouterr().err
    assert not served[2].asked and not (home / "home").exists()


def test_mappings_lists_sets_with_source_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task", "mappings", "--json"]
    assert run_safely(lambda: get_command(cli).main(words, standalone_mode=False)) == 0
    listed = json.loads(capsys.readouterr().out)
    sets = {one["set"]: one for one in listed["sets"]}
    assert sets["wellbeing"]["source"]["licence"] == "MIT"
    assert sets["persona-single"]["kind"] == "verification"
    assert "sciq" in [one["mapping"] for one in listed["mappings"]]
