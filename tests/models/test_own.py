"""Own models and pairs: from a folder or a GGUF file, with or without a chat template."""

import json
import shutil

import pytest
import yaml

from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.own import add_own, catalogue_of
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
        with pytest.raises(BadInput, match=r"models\.yaml, line 3: .*'mine' is there twice"):
            use()
    path.write_text("[1, 2]")
    with pytest.raises(BadInput, match=r"models\.yaml"):
        add_own(root, "models", "x", {"hf": "a/b"})
