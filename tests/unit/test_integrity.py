"""The manifest of a Bento: whatever is done to its files is seen, and named."""

import os
import py_compile
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.integrity import (
    MANIFEST,
    SIGNATURE,
    IntegrityError,
    differences,
    read_manifest,
    require_intact,
    write_manifest,
)

FILES = {
    "bento.yaml": b"service: service:TextClassifier\n",
    "README.md": b"# toy\n",
    "src/service.py": b"import os\n\nVALUE = 1\n\n\ndef answer() -> int:\n    return VALUE\n",
    "src/model/model.safetensors": bytes(range(256)) * 40,
    "src/model/tokenizer.json": b'{"a": 1}',
    "src/model/.hidden": b"",
    "env/python/requirements.txt": b"numpy==2.4.6\n",
    "env/docker/Dockerfile": b"FROM python:3.11\n",
    "decision.json": b'{"verdict": "pass"}',
}


@pytest.fixture
def bento(tmp_path: Path) -> Path:
    folder = tmp_path / "bentos" / "toy" / "v1"
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    write_manifest(folder, "toy:v1")
    return folder


def told(bento: Path, **options: bool) -> str:
    with pytest.raises(IntegrityError) as refused:
        require_intact(bento, **options)
    return str(refused.value)


def test_what_was_not_touched_is_intact_and_every_file_is_listed(bento: Path) -> None:
    require_intact(bento)
    manifest = read_manifest(bento)
    assert manifest["files"].keys() == FILES.keys()
    assert manifest["tag"] == "toy:v1"
    write_manifest(bento, "toy:v1")
    assert read_manifest(bento) == manifest


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_one_flipped_bit_anywhere_is_seen_and_its_file_is_named(bento: Path, name: str) -> None:
    content = (bento / name).read_bytes()
    for place in range(0, len(content), max(1, len(content) // 50)):
        for bit in (0, 3, 7):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (bento / name).write_bytes(changed)
            assert f"{name!r} was changed" in told(bento)
    (bento / name).write_bytes(content)
    require_intact(bento)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_file_that_is_removed_or_renamed_is_missing(bento: Path, name: str) -> None:
    (bento / name).rename(bento / f"{name}.bak")
    assert f"{name!r} is missing" in told(bento)
    if name != MANIFEST:
        assert f"'{name}.bak' is no file of the release" in told(bento)


@pytest.mark.parametrize(
    "name",
    [
        *("extra.py", "src/extra.py", "src/model/adapter.safetensors", "src/.env"),
        *("src/service.pyc", "src/__pycache__/os.cpython-311.pyc", "src/__pycache__/note.txt"),
        *("__pycache__/x.pyc", "src/model/__pycache__/service.cpython-311.pyc"),
    ],
)
def test_a_file_that_is_added_is_named(bento: Path, name: str) -> None:
    (bento / name).parent.mkdir(exist_ok=True)
    (bento / name).write_bytes(b"import os\n")
    assert f"{name!r} is no file of the release" in told(bento)


def _link(bento: Path) -> str:
    file = bento / "src/model/model.safetensors"
    outside = bento.parent.parent / "model.safetensors"
    shutil.move(file, outside)
    file.symlink_to(outside)
    return "src/model/model.safetensors"


def _linked_folder(bento: Path) -> str:
    outside = bento.parent.parent / "model"
    shutil.move(bento / "src/model", outside)
    (bento / "src/model").symlink_to(outside)
    return "src/model"


def _pipe(bento: Path) -> str:
    os.mkfifo(bento / "src/pipe")
    return "src/pipe"


def _linked_manifest(bento: Path) -> str:
    shutil.move(bento / MANIFEST, bento.parent / MANIFEST)
    (bento / MANIFEST).symlink_to(bento.parent / MANIFEST)
    return MANIFEST


@pytest.mark.parametrize("change", [_link, _linked_folder, _pipe, _linked_manifest])
def test_what_is_no_plain_file_is_refused_though_its_content_is_right(
    bento: Path, change: Callable[[Path], str]
) -> None:
    name = change(bento)
    assert repr(name) in told(bento)


def test_no_manifest_is_written_over_a_link(bento: Path) -> None:
    _link(bento)
    with pytest.raises(IntegrityError, match="is a link"):
        write_manifest(bento, "toy:v1")


def test_two_files_that_changed_places_are_both_named(bento: Path) -> None:
    one, other = bento / "README.md", bento / "decision.json"
    one.rename(bento / "x")
    other.rename(one)
    (bento / "x").rename(other)
    assert {line.split("'")[1] for line in told(bento).splitlines()} == {
        "README.md",
        "decision.json",
    }


def test_another_release_in_its_place_is_refused_though_it_is_whole(bento: Path) -> None:
    older = bento.with_name("v0")
    shutil.copytree(bento, older)
    write_manifest(older, "toy:v0")
    require_intact(older)
    shutil.rmtree(bento)
    older.rename(bento)
    assert told(bento).endswith("'manifest.json' is that of toy:v0; expected that of toy:v1")


def test_a_bento_elsewhere_than_in_a_store_may_have_any_folder_name(
    bento: Path, tmp_path: Path
) -> None:
    shutil.move(bento, tmp_path / "bento")
    require_intact(tmp_path / "bento")


def test_python_s_own_bytecode_is_no_change_and_other_bytecode_is(bento: Path) -> None:
    source = bento / "src/service.py"
    for level in (0, 1, 2):
        py_compile.compile(str(source), optimize=level, doraise=True)
    require_intact(bento)
    other = bento.parent / "other.py"
    other.write_text("import os\n\nVALUE = 2\n\n\ndef answer() -> int:\n    return VALUE\n")
    (cache,) = (bento / "src/__pycache__").glob("service.cpython-???.pyc")
    py_compile.compile(str(other), cfile=str(cache), doraise=True)
    assert f"'src/__pycache__/{cache.name}' is no file of the release" in told(bento)
    cache.write_bytes(cache.read_bytes()[:40])
    assert f"'src/__pycache__/{cache.name}' is no file of the release" in told(bento)


def test_bytecode_of_another_python_is_no_change_since_this_one_never_loads_it(bento: Path) -> None:
    cache = bento / "src/__pycache__/service.cpython-399.pyc"
    cache.parent.mkdir()
    cache.write_bytes(b"\0\0\0\0whatever")
    require_intact(bento)


def test_in_an_image_what_containerizing_writes_may_differ_and_nothing_else(bento: Path) -> None:
    (bento / "env/docker/Dockerfile").write_text("FROM python:3.12\n")
    (bento / "env/docker/entrypoint.sh").write_text("exit 0\n")
    require_intact(bento, in_image=True)
    told(bento)
    (bento / "README.md").write_text("# other\n")
    assert "'README.md' was changed" in told(bento, in_image=True)


def test_what_is_being_built_has_no_manifest_yet_and_a_bento_without_one_is_refused(
    bento: Path, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    require_intact(tmp_path / "context")
    (bento / MANIFEST).unlink()
    assert f"{MANIFEST!r} is missing" in told(bento)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"files": {}}', b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_refused_in_words(bento: Path, content: bytes) -> None:
    (bento / MANIFEST).write_bytes(content)
    assert told(bento) == f"{bento}: {MANIFEST!r} was changed, or cannot be read"


def test_many_differences_are_counted_and_the_first_are_named(bento: Path) -> None:
    for number in range(30):
        (bento / f"extra-{number:02}").touch()
    lines = told(bento).splitlines()
    assert len(lines) == 21
    assert lines[-1] == f"{bento}: and 10 more"


def test_a_signature_is_no_file_of_the_manifest(bento: Path) -> None:
    (bento / SIGNATURE).write_text("{}")
    assert list(differences(bento)) == []
    write_manifest(bento, "toy:v1")
    assert not (bento / SIGNATURE).exists()
