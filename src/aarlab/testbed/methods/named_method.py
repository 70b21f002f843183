"""The method folder of a built-in method that is not a recipe."""

from aarlab.core.errors import BadInput
from aarlab.testbed.methods import METHODS

_SOURCE = '''"""The built-in method {name}."""

from aarlab.testbed.methods import METHODS

{reads}fit = METHODS["{name}"].fit
'''


def named_files(name: str) -> dict[str, str]:
    """Return the folder's files by path. The name is checked when the method runs.

    Raises BadInput for a name that is not a plain word.
    """
    if not name.isidentifier():
        raise BadInput(f"method name {name!r}: use letters, digits and _")
    reads = name in METHODS and METHODS[name].reads_texts
    return {"method.py": _SOURCE.format(name=name, reads="READS_TEXT = True\n" if reads else "")}
