"""The page on data shows every key of `task.yaml`, with its default where it has one."""

import re
from pathlib import Path

from aarlab.core.foreign_yaml import read_yaml
from aarlab.testbed.tasks.settings_file import TaskSettings, task_settings

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_names_every_key_and_reads_as_it_stands():
    (block,) = re.findall(r"```yaml\n(title: .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    value = read_yaml(block.encode(), "the page")
    settings = task_settings(value, "the page")
    for part in ("", "teacher", "student", "seeds", "splits"):
        model = getattr(settings, part) if part else settings
        shown = value[part] if part else value
        assert shown.keys() == type(model).model_fields.keys(), part
    assert settings.seeds.ceilings == 16
    defaults = TaskSettings()
    for key in ("log_likelihoods", "log_likelihood_rows", "restyled_rows", "near_duplicates",
                "repeated_questions", "train_hidden", "certify", "splits"):  # fmt: skip
        assert getattr(settings, key) == getattr(defaults, key), key
