"""safe_documents: what people and tools write is read as TAO reads it; what could do harm is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from safe_documents import MAX_BYTES, MAX_DEPTH, DocumentError, dump_yaml, interpolated, read_json, read_yaml

ROOT = Path(__file__).resolve().parents[2]
READ = {
    "1e-4": 1e-4, "1.e3": 1000.0, "-.5e+2": -50.0, "5.": 5.0, "1_000": 1000, "0x10": 16, "0o17": 15, "-0": 0,
    ".inf": math.inf, "-.inf": -math.inf, "off": False, "Yes": True, "~": None, "": None, "null": None,
    "010": "010", "007": "007", "1:30": "1:30", "2020-01-01": "2020-01-01", "12:30:45": "12:30:45", "1e": "1e",
    "0x": "0x", "'1'": "1", "!!str 1": "1", "!!float 3": 3.0, "! 1": "1", "|\n  1\n": "1\n", "nan": "nan",
}  # fmt: skip
REFUSED = {
    "duplicate key": ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: the key 'c' stands there twice"),
    "number as key": ("1: 2", "a key must be text, but got '1'"),
    "boolean as key": ("on: 2", "a key must be text, but got 'on'"),
    "list as key": ("? [a]\n: 3", "a key must be text, but got a list or mapping"),
    "anchor within itself, list": ("a: &x [*x]", "must refer to an anchor that is complete before it"),
    "anchor within itself, mapping": ("a: &x {b: *x}", "must refer to an anchor that is complete before it"),
    "merge of itself": ("a: &x {<<: *x}", "must refer to an anchor that is complete before it"),
    "merge of a number": ("<<: 3", "<< must merge a mapping"),
    "set": ("a: !!set {b}", "tag:yaml.org,2002:set is not allowed"),
    "object": ("a: !!python/object/apply:os.system [x]", "is not allowed"),
    "bytes": ("a: !!binary aGk=", "is not allowed"),
    "a tag that lies": ("a: !!int abc", "is not of the kind its tag says"),
    "two documents": ("a: 1\n---\nb: 2", "a second document begins"),
    "400 digits": ("a: " + "9" * 400, "is beyond 64 bits"),
    "100,000 digits": ("a: 0x" + "f" * 100_000, "is beyond 64 bits"),
    "a number that overflows": ("a: 1e999", "is too large"),
    "control characters": ("a: \x07", "not valid YAML"),
    "an unfinished list": ("a: [1", "not valid YAML: while parsing a flow sequence at line 1, column 4"),
    "too many values": ("- a\n" * 200_001, "more than 200000 values"),
}
DEEP = {"lists": "[", "mappings": "{a: ", "lines": "- ", "keys": "? "}


@pytest.mark.parametrize("text", READ)
def test_scalars(text: str) -> None:
    value = read_yaml(f"a: {text}")["a"]
    assert value == READ[text]
    assert type(value) is type(READ[text])


def test_not_a_number() -> None:
    assert math.isnan(read_yaml(".nan"))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(DocumentError, match="^my.yaml: ") as caught:
        read_yaml(text, "my.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("kind", DEEP)
def test_deep_documents(kind: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safe_documents.yaml_reading.LOADER", getattr(yaml, loader))
    with pytest.raises(DocumentError, match="nested deeper|not valid YAML|a key must be text"):
        read_yaml(DEEP[kind] * 100_000)
    assert read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(DocumentError, match="nested deeper than 64 levels"):
        read_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_a_billion_laughs(form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for n in range(1, 30):
        lines.append(f"a{n}: &a{n} " + form.format(", ".join([f"*a{n - 1}"] * 10)))
    with pytest.raises(DocumentError, match="more than 200000 values, those of aliases included"):
        read_yaml("\n".join(lines))


def test_aliases_are_copies_and_merges_keep_what_is_said() -> None:
    document = read_yaml("a: &a {x: [1], y: 2}\nb: {y: 3, <<: *a}\nc: *a\nd: {<<: [{y: 4}, *a]}")
    assert document["b"] == {"x": [1], "y": 3}
    assert document["d"] == {"x": [1], "y": 4}
    document["c"]["x"].append(5)
    assert document["a"]["x"] == [1]


@pytest.mark.parametrize("path", sorted((ROOT / "references").glob("*.yaml")), ids=lambda p: p.name)
def test_our_own_files_read_as_any_reader_reads_them(path: Path) -> None:
    assert read_yaml(path) == yaml.safe_load(path.read_text())


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXT
    | st.from_regex(r"\A[-+]?[0-9_.:]{1,6}(e[-+]?[0-9]{1,3})?\Z"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
@example({"\x85": None})
@example(["a\u2028", "\u2029b c"])
def test_what_is_written_is_read_back(value: Any) -> None:
    assert read_yaml(dump_yaml(value)) == value


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_read_or_refused(text: str) -> None:
    said = ""
    try:
        read_yaml(text)
    except DocumentError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"name": "Größe"}', encoding=encoding)
    assert read_yaml(path) == read_json(path) == {"name": "Größe"}


FILES = {
    "not text": (b'{"a": "\xff"}', "must be UTF-8 text, but byte 7 is none"),
    "too large": (b" " * (MAX_BYTES + 1), "must have at most 4 MiB"),
    "deep": (b"[" * 100_000, "nested deeper than 64 levels|not valid JSON"),
    "deep and whole": (b"[" * 65 + b"]" * 65, "nested deeper than 64 levels"),
    "cut short": (b'{"a": 1', "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "digits": (b"9" * 5000, "Exceeds the limit|not valid JSON"),
}


@pytest.mark.parametrize("name", FILES)
def test_json_refused(name: str, tmp_path: Path) -> None:
    content, message = FILES[name]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DocumentError, match=message) as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_json_as_deep_as_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, {"b": "[" * 100}]}))
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": "[" * 100}]}


def test_a_folder_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="must be a file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "folder", ["/data/réseau/日本 語", "/a b/" + "long name " * 40 + "c", "/x: y #z", "/😀"]
)
def test_a_path_is_written_in_one_line_as_it_is(folder: str) -> None:
    """A shell's or awk's reader finds it."""
    text = dump_yaml({"from": folder, "next": 1})
    assert folder in text
    assert text.count("\n") == 2
    assert read_yaml(text) == {"from": folder, "next": 1}


def test_references_grow_without_no_bound() -> None:
    """A hundred references of a hundred, and so on, and lists that hold one another."""
    wide = {f"k{n}": [f"${{k{n + 1}}}"] * 50 for n in range(20)} | {"k20": 1}
    with pytest.raises(DocumentError, match="larger than"):
        interpolated(wide, wide)
    long = {f"k{n}": f"${{k{n + 1}}}" * 50 for n in range(20)} | {"k20": "x"}
    with pytest.raises(DocumentError, match="larger than"):
        interpolated(long, long)
    deep = {f"k{n}": [[[[f"${{k{n + 1}}}"]]]] for n in range(30)} | {"k30": 1}
    with pytest.raises(DocumentError, match="nest it deeper"):
        interpolated(deep, deep)
    chain = {f"k{n}": f"${{k{n + 1}}}" for n in range(90)} | {"k90": 1}
    found, wrong = interpolated(chain, chain)
    assert found["k80"] == 1
    assert "more than" in wrong["k0"]


def test_a_folder_that_is_called_like_a_reference_is_none(tmp_path: Path) -> None:
    (tmp_path / "b${a}").mkdir()
    document = {"a": "q", "there": f"{tmp_path}/b${{a}}/new/x", "not": f"{tmp_path}/c${{a}}/x"}
    assert interpolated(document, document) == ({**document, "not": f"{tmp_path}/cq/x"}, {})


def test_a_reference_is_a_copy() -> None:
    document = {"a": "${b}", "b": {"c": [1]}}
    found, wrong = interpolated(document, document)
    assert found == {"a": {"c": [1]}, "b": {"c": [1]}}
    assert not wrong
    assert found["a"]["c"] is not found["b"]["c"]
