"""Files of rows of anybody: what is read, and what is refused at which line and why."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.rows import Faults, read_rows

ODD = "a\u2028b\x85c\x0cd\x1ce\u2029f"


def read(path: Path, **limits: int) -> list[dict[str, Any]]:
    """All rows; raises BadInput with the faults."""
    faults = Faults()
    rows = [row.values for row in read_rows(path, faults, **limits)]
    faults.refuse()
    return rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_lines_end_at_line_feeds_only(file: Path) -> None:
    rows = [{"q": ODD}, {"q": "two"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(file) == rows
    table = file.with_name("rows.csv")
    table.write_bytes(b"\xef\xbb\xbfq,n\r\n" + f'"{ODD}",1\r\n"x\ny",2\r\n'.encode())
    assert read(table) == [{"q": ODD, "n": "1"}, {"q": "x\ny", "n": "2"}]


def test_a_csv_field_may_be_long_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    path, before = tmp_path / "long.csv", csv.field_size_limit()
    path.write_text("q,n\n" + "x" * 300_000 + ",1\n")
    assert len(read(path)[0]["q"]) == 300_000
    assert csv.field_size_limit() == before


BAD: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"a": 1}\n\xff\xfe\n', r"line 2: not UTF-8 \(byte 0xFF at column 1\); save the"),
    ("a.jsonl", '{"a": "é"}\n'.encode("latin-1"), r"byte 0xE9 at column 8"),
    ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ("a.csv", "q,n\nx,1\n".encode("utf-16"), "UTF-16 text"),
    ("a.jsonl", gzip.compress(b"{}", mtime=0), "its name must end in .gz"),
    ("a.jsonl", b'{"a": 1, "label": 1, "label": 0}\n', "the key 'label' is given twice"),
    ("a.jsonl", b'{"a": Infinity}\n', "Infinity is not a number"),
    ("a.jsonl", b'{"a": "\\ud800"}\n', "lone surrogate"),
    ("a.jsonl", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}\n", "nested over"),
    ("a.jsonl", b"7\n", "expected a JSON object, got int"),
    ("a.json", b'[{"a": 1}, 2]', "row 2: expected a JSON object"),
    ("a.json", b'[{"a": 1},', "not JSON"),
    ("a.jsonl.gz", b"{}", "not a whole gzip file"),
    ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 100, mtime=0)[:-9], "not a whole gzip file"),
    ("a.csv", b"q,q\n1,2\n", "the column 'q' is given twice"),
    ("a.csv", b"q,\n1,2\n", "a column without a name"),
    ("a.csv", b"q;n\nx;1\n", "separated by ';'; save the file with commas"),
    ("a.csv", b"q,n\nx,1,2\n", "line 2: 3 fields, the header has 2 columns"),
    ("a.csv", b'q,n\nx,1\n"y,2\nz,3\n', "line 3: not CSV|at or after this line"),
    ("a.csv", "q,n\ncafé,1\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 0xE9 at column 4\)"),
    ("a.parquet", b"PAR1 nonsense", "not a readable Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "says"), BAD)
def test_what_cannot_be_read_says_where_and_why(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        read(tmp_path / name)
    assert name in str(caught.value) and len(str(caught.value)) < 400


def test_a_folder_an_unknown_format_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(BadInput, match="is a folder; give a file"):
        read(tmp_path / "x.jsonl")
    (tmp_path / "x.tsv").touch()
    with pytest.raises(BadInput, match="unknown format"):
        read(tmp_path / "x.tsv")
    with pytest.raises(NotFound, match="no file"):
        read(tmp_path / "none.csv")


def test_a_gzip_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 50_000_000, mtime=0))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadInput, match="unpacks to over 1 MiB"):
        read(path, max_bytes=2**20)
    plain = tmp_path / "large.jsonl"
    plain.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(BadInput, match="over 1 MiB"):
        read(plain, max_bytes=2**20)


def test_all_faults_are_counted_and_the_first_ones_shown(file: Path) -> None:
    good, bad = b'{"a": 1}\n', b'{"a": NaN}\n'
    file.write_bytes((good + bad) * 50 + b"".join(b'{"a": %d' % i + b"\n" for i in range(5)))
    faults = Faults()
    assert len(list(read_rows(file, faults))) == 50 and len(faults) == 55
    with pytest.raises(BadInput, match=r"55 faults(.|\n)*line 2: .*\(and 49 more of this kind\)"):
        faults.refuse()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(texts, values, max_size=3), max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_json_says_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    dumped = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    (folder / "a.jsonl").write_bytes("\n".join(dumped).encode())
    (folder / "b.json.gz").write_bytes(gzip.compress(f"[{', '.join(dumped)}]".encode()))
    assert read(folder / "a.jsonl") == rows
    assert read(folder / "b.json.gz") == rows


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_csv_says_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([("one", "two"), *rows])
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    path.write_bytes(out.getvalue().encode())
    assert [tuple(row.values()) for row in read(path)] == rows


@given(st.binary(max_size=200), st.sampled_from(["jsonl", "json", "csv", "jsonl.gz", "parquet"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_rows_or_a_fault(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"a.{suffix}"
    path.write_bytes(content)
    try:
        read(path)
    except BadInput as refused:
        assert f"a.{suffix}" in str(refused)
