"""Digests: of bytes, folders, values, and of the code that made a step's output."""

import hashlib
from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import digests
from tasks.digests import code_digest, file_digest, file_digests, folder_digest, value_digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=10,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three files, one of them within another folder."""
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    for name, content in {"a.txt": b"a", "inner/b.txt": b"b", ".hidden": b""}.items():
        (made / name).write_bytes(content)
    return made


def test_a_file_has_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for content in (b"", b"abc", b"\x00" * 1_000_000):
        file.write_bytes(content)
        assert file_digest(file) == hashlib.sha256(content).hexdigest()


def test_every_file_of_a_folder_is_listed_by_its_path_within(folder: Path) -> None:
    expected = {"a.txt": b"a", "inner/b.txt": b"b", ".hidden": b""}
    assert file_digests(folder) == {
        name: hashlib.sha256(content).hexdigest() for name, content in expected.items()
    }


def test_a_folder_is_its_files_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    before = folder_digest(folder)
    (folder / "empty").mkdir()
    assert folder_digest(folder.rename(tmp_path / "moved")) == before


@pytest.mark.parametrize("change", ["content", "name", "addition", "removal"])
def test_a_folder_changes_with_any_of_its_files(folder: Path, change: str) -> None:
    before = folder_digest(folder)
    inner = folder / "inner/b.txt"
    match change:
        case "content":
            inner.write_bytes(b"B")
        case "name":
            inner.rename(folder / "inner/c.txt")
        case "addition":
            (folder / "inner/c.txt").write_bytes(b"")
        case "removal":
            (folder / ".hidden").unlink()
    assert folder_digest(folder) != before


@given(VALUES, VALUES)
def test_values_have_one_digest_if_and_only_if_they_are_the_same_json(one: Any, other: Any) -> None:
    assert (value_digest(one) == value_digest(other)) == (repr_of(one) == repr_of(other))


def repr_of(value: Any) -> str:
    """Return a value's text with the keys of its mappings in order."""
    if isinstance(value, dict):
        return str({key: repr_of(value[key]) for key in sorted(value)})
    return str([repr_of(item) for item in value]) if isinstance(value, list) else repr(value)


def test_the_order_of_keys_does_not_matter_and_that_of_items_does() -> None:
    assert value_digest({"a": 1, "b": 2}) == value_digest({"b": 2, "a": 1})
    assert value_digest([1, 2]) != value_digest([2, 1])
    assert value_digest((1, 2)) == value_digest([1, 2])


def test_a_diverged_loss_has_a_digest_too() -> None:
    assert value_digest({"loss": nan}) == value_digest({"loss": nan}) != value_digest({"loss": 0.0})


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        value_digest({"folder": Path("x")})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let `code_digest` look at a small project of this test's own."""
    for name in ("tasks/a.py", "tasks/worker/b.py", "configs/c.py", "bentos/x/d.py", "flows/e.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text("x = 1\n")
    monkeypatch.setattr(digests, "_PROJECT", tmp_path)
    code_digest.cache_clear()
    yield tmp_path
    code_digest.cache_clear()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("tasks/a.py", True),
        ("tasks/worker/b.py", True),
        ("tasks/new.py", True),
        ("configs/c.py", True),
        ("bentos/x/d.py", True),
        ("flows/e.py", False),
        ("configs/mine.yaml", False),
    ],
)
def test_an_edit_to_a_stage_changes_the_code_digest(project: Path, name: str, counts: bool) -> None:
    before = code_digest()
    (project / name).write_text("x = 2\n")
    code_digest.cache_clear()
    assert (code_digest() != before) == counts


def test_the_code_digest_does_not_depend_on_where_the_project_lies(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_digest()
    monkeypatch.setattr(digests, "_PROJECT", project.rename(project.with_name("moved")))
    code_digest.cache_clear()
    assert code_digest() == before
