"""Own models and pairs: from a folder or a GGUF file, with or without a chat template."""

import hashlib
import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import AarlabError, BadInput, Conflict, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.wire import TaskInfo
from aarlab.testbed.models.catalogue import add_own, catalogue_of
from aarlab.testbed.models.pull import pull
from aarlab.testbed.models.record import read_record


@pytest.fixture
def root(tmp_path):
    return DataRoot(tmp_path / "home")


def write(root, value):
    root.path.mkdir(exist_ok=True)
    (root.path / "models.yaml").write_text(yaml.safe_dump(value))


def test_an_own_folder_and_gguf_are_pulled_by_name(root, tiny_folders, tiny_gguf):
    add_own(root, "models", "mine", {"folder": str(tiny_folders["qwen3"]), "context": 64})
    add_own(root, "models", "quantised", {"gguf": str(tiny_gguf)})
    add_own(root, "pairs", "mine", {"weak": "mine@1", "strong": "quantised@3", "more_layers": [2]})
    for name in ("mine", "quantised"):
        record = read_record(pull(name, root))
        assert (record.name, record.n_blocks, record.width) == (name, 3, 32)
    pair = catalogue_of(root).pair("mine")
    assert (pair.weak.layer, pair.strong.model, pair.more_layers) == (1, "quantised", (2,))


def test_the_tokenizers_chat_template_is_taken(root, tiny_folders, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(tiny_folders["llama"], folder)
    template = (
        "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    add_own(root, "models", "chatty", {"folder": str(folder), "template": "chat"})
    made = read_record(pull("chatty", root)).template
    assert (made.opening, made.prompt_end, made.alone_opening) == ("<u>", "</u><a>", "<a>")
    add_own(root, "models", "none", {"folder": str(tiny_folders["llama"]), "template": "chat"})
    with pytest.raises(BadInput, match="no chat template"):
        pull("none", root)


@pytest.mark.parametrize(("value", "says"), [
    ({"models": {"m": {}}}, "exactly one of folder"),
    ({"models": {"m": {"folder": "x", "hf": "a/b"}}}, "exactly one of folder"),
    ({"models": {"m": {"hf": "a/b", "sha256": "0" * 64}}}, "belongs to a gguf"),
    ({"models": {"m": {"hf": "a/b", "layers": 3}}}, "layers"),
    ({"models": {"smollm2-135m": {"hf": "a/b"}}}, "built-in name"),
    ({"pairs": {"p": {"weak": "smollm2-135m", "strong": "smollm2-135m@2"}}}, "weak"),
    ({"pairs": {"p": {"weak": "gone@1", "strong": "smollm2-135m@2"}}}, "names no known model"),
    (["a"], "models.yaml"),
])  # fmt: skip
def test_wrong_entries_are_named(root, value, says):
    write(root, value)
    with pytest.raises(BadInput, match=says):
        catalogue_of(root)


def test_a_taken_name_and_a_wrong_entry_leave_the_file_as_it_was(root):
    add_own(root, "models", "mine", {"hf": "a/b"})
    before = (root.path / "models.yaml").read_text()
    with pytest.raises(Conflict, match="taken"):
        add_own(root, "models", "mine", {"hf": "c/d"})
    with pytest.raises(BadInput):
        add_own(root, "pairs", "p", {"weak": "gone@1", "strong": "mine@2"})
    with pytest.raises(BadInput):
        add_own(root, "models", "other", {})
    assert (root.path / "models.yaml").read_text() == before
    with pytest.raises(NotFound, match="mine"):
        catalogue_of(root).model("other")


def removed(root, monkeypatch, *words):
    """The error that `aarlab models remove` ends with, None where it worked."""
    monkeypatch.setenv("AARLAB_HOME", str(root.path))
    done = CliRunner().invoke(cli, ["models", "remove", *words])
    assert done.exception is None or isinstance(done.exception, AarlabError), done.output
    return done.exception and str(done.exception)


def write_info(root, version, pair, settings):
    info = TaskInfo(
        name="words", kind="verification", title="", description="", pair=pair, n_train=1,
        n_search=1, teacher_seeds=[0], settings=settings, content_hash="0" * 64,
    )  # fmt: skip
    folder = root.public / f"words@{version}"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(info.model_dump_json())
    return folder


def test_a_model_is_removed_when_nothing_needs_it(root, tiny_folders, monkeypatch):
    add_own(root, "models", "mine", {"folder": str(tiny_folders["llama"]), "context": 64})
    add_own(root, "models", "other", {"hf": "a/b"})
    add_own(root, "pairs", "both", {"weak": "mine@1", "strong": "mine@3"})
    pull("mine", root)
    task = write_info(root, "0" * 12, "both", {})
    said = removed(root, monkeypatch, "mine", "--yes", "--force")  # a folder may change: no --force
    assert "pairs both" in said and "tasks words@000000000000" in said
    assert "tasks words@000000000000" in removed(root, monkeypatch, "both", "--yes", "--force")
    shutil.rmtree(task)
    assert "use --yes" in removed(root, monkeypatch, "both")
    assert removed(root, monkeypatch, "both", "--yes") is None
    assert (root.models / "mine" / "model.json").is_file()
    assert removed(root, monkeypatch, "mine", "--yes") is None
    assert not (root.models / "mine").exists() and not list(root.path.glob(".removing-*"))
    known = catalogue_of(root)
    assert "mine" not in known.models and "both" not in known.pairs and "other" in known.models
    assert "no model 'mine'" in removed(root, monkeypatch, "mine", "--yes")


def test_weights_of_a_pinned_model_may_go_by_force_and_come_back(root, tiny_gguf, monkeypatch):
    sha256 = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    add_own(root, "models", "small", {"gguf": str(tiny_gguf), "sha256": sha256})
    pull("small", root)
    write_info(root, "1" * 12, "gauss", {"student": {"model": "small"}})
    assert "--force" in removed(root, monkeypatch, "small", "--yes")
    assert removed(root, monkeypatch, "small", "--yes", "--force") is None
    assert not (root.models / "small").exists() and "small" in catalogue_of(root).models
    assert read_record(pull("small", root)).name == "small"


def test_built_in_entries_are_not_removed(root, monkeypatch):
    assert "weights are not here" in removed(root, monkeypatch, "smollm2-135m", "--yes")
    assert "built-in pair stays" in removed(root, monkeypatch, "embedded", "--yes")


@pytest.mark.parametrize(("make", "error", "says"), [
    (lambda p: {"folder": str(p / "none")}, NotFound, "no folder"),
    (lambda p: {"folder": str(p)}, BadInput, "holds no config.json"),
    (lambda p: {"gguf": str(p)}, NotFound, "no file"),
    (lambda p: {"gguf": str(p / "models.yaml")}, BadInput, "not a GGUF file"),
])  # fmt: skip
def test_a_source_that_is_not_there_is_refused_when_it_is_added(root, make, error, says):
    root.path.mkdir()
    (root.path / "models.yaml").write_text("models: {}\n")
    with pytest.raises(error, match=says):
        add_own(root, "models", "mine", make(root.path))
    assert (root.path / "models.yaml").read_text() == "models: {}\n"


@pytest.mark.parametrize("given", [
    {"weak": "smollm2-135m@31", "strong": "smollm2-135m@9"},
    {"weak": "smollm2-135m@3", "strong": "smollm2-135m@9", "more_layers": [12, 99]},
])  # fmt: skip
def test_a_layer_that_the_model_does_not_have_is_refused(root, given):
    with pytest.raises(BadInput, match=r"asks for layer (31|99) of smollm2-135m, which has 30"):
        add_own(root, "pairs", "mine", given)
    assert not (root.path / "models.yaml").exists()


def test_a_file_of_own_models_is_read_as_strictly_as_any(root):
    root.path.mkdir()
    path = root.path / "models.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodels:\n  mine: {hf: a/b}\n")
    assert catalogue_of(root).model("mine").title == "a/b"
    path.write_text("models:\n  mine: {hf: a/b}\n  mine: {hf: c/d}\n")
    for use in (lambda: catalogue_of(root), lambda: add_own(root, "models", "x", {"hf": "a/b"})):
        with pytest.raises(BadInput, match=r"models\.yaml, line 3: .*'mine' is given twice"):
            use()
    path.write_text("[1, 2]")
    with pytest.raises(BadInput, match=r"models\.yaml"):
        add_own(root, "models", "x", {"hf": "a/b"})
