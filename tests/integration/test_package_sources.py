"""`pypi://` sources, read through pip's own configuration from package indexes made here."""

import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import datasets
import pytest
from index import sdist, wheel, write_index
from loopback import CLOSED, serve_folder

from configs.errors import SourceError
from configs.schema import Data
from tasks.digests import file_digest
from tasks.ingest import read_dataset
from tasks.packages import pip_options
from tasks.progress import listening
from tasks.sources import fetch

SECRET = "opensesame"
ROWS = b"text,label\nLunch at noon?,ham\nWIN a prize NOW,spam\n"
LETTERS = {"letters/data/rows.csv": ROWS, "letters/data/deep/more.csv": b"more\n"}
WHEEL = wheel(
    {**LETTERS, "letters/__init__.py": b"raise SystemExit", "letters-1.0.dist-info/X": b""}
)
SDIST = sdist({f"notes-2.0/{path}": content for path, content in LETTERS.items()})
ZIP_SDIST = wheel({f"old-0.1/{path}": content for path, content in LETTERS.items()})
ARCHIVES = {
    "letters-1.0-py3-none-any.whl": WHEEL,
    "letters-0.9-cp27-cp27m-win32.whl": wheel({"letters/data/rows.csv": b"of another platform"}),
    "notes-2.0.tar.gz": SDIST,
    "old-0.1.zip": ZIP_SDIST,
}
URI = "pypi://letters==1.0/letters/data/rows.csv"


@pytest.fixture(autouse=True)
def no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what this machine's pip is set to; each test sets its own."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Return the folder of an index that holds all archives."""
    return write_index(tmp_path / "index", ARCHIVES)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder; a link would show as a broken test."""
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def copies(homes: Path) -> list[str]:
    """Return the names of all copies of sources, whole or not, locks aside."""
    sources = homes / "ekiben_home" / "sources"
    return [path.name for path in sources.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pypi://letters==1.0/letters/data/rows.csv", ROWS),
        ("pypi://LETTERS==1/letters/data/rows.csv", ROWS),
        ("pypi://letters==0.9/letters/data/rows.csv", b"of another platform"),
        ("pypi://letters==1.0/letters/data", {"rows.csv": ROWS, "deep/more.csv": b"more\n"}),
        ("pypi://notes==2.0/letters/data/rows.csv", ROWS),
        ("pypi://notes==2.0/letters/data", {"rows.csv": ROWS, "deep/more.csv": b"more\n"}),
        ("pypi://old==0.1/letters/data/deep/", {"more.csv": b"more\n"}),
    ],
)
def test_a_file_or_folder_is_read_out_of_a_wheel_or_sdist(
    uri: str,
    expected: bytes | dict[str, bytes],
    homes: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())

    path = fetch(uri).path

    assert path.name == uri.rstrip("/").rsplit("/", 1)[-1]
    assert (files(path) if path.is_dir() else path.read_bytes()) == expected
    assert len(copies(homes)) == 1


@dataclass(frozen=True)
class Setting:
    """One way to tell pip where packages are; {good} and {other} are folders of two indexes."""

    id: str
    file: str = ""
    environment: tuple[tuple[str, str], ...] = ()


NO_EXTRA = "find-links =\nextra-index-url =\n"
"""What is set for the whole machine would show through."""
SETTINGS = [
    Setting("index-url in the environment", environment=(("PIP_INDEX_URL", "file://{good}"),)),
    Setting(
        "find-links, one a folder that is not there, without an index",
        "[global]\nno-index = true\n",
        (("PIP_FIND_LINKS", "{good}/absent {good}/letters"),),
    ),
    Setting(
        "extra-index-url beside an index without the package",
        environment=(
            ("PIP_INDEX_URL", "file://{good}/absent"),
            ("PIP_EXTRA_INDEX_URL", "file://{good}"),
        ),
    ),
    Setting(
        "several lines of a file",
        "[global]\nindex-url = file://{good}/absent\nfind-links =\n"
        "extra-index-url =\n  file://{good}/absent\n  file://{good}\n",
    ),
    Setting(
        "the section of pip download over the global one",
        f"[global]\nindex-url = file://{{other}}\n{NO_EXTRA}"
        "[download]\nindex-url = file://{good}\n",
    ),
    Setting(
        "the environment over a file",
        f"[global]\nindex-url = file://{{other}}\n{NO_EXTRA}"
        "[download]\nindex-url = file://{other}\n",
        (("PIP_INDEX_URL", "file://{good}"),),
    ),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.id)
def test_packages_are_found_where_pip_is_set_to_look(
    setting: Setting,
    homes: Path,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = {"letters-1.0-py3-none-any.whl": wheel({"letters/data/rows.csv": b"not these"})}
    places = {"good": index, "other": write_index(tmp_path / "other", theirs)}
    if setting.file:
        (tmp_path / "pip.conf").write_text(setting.file.format(**places))
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for name, value in setting.environment:
        monkeypatch.setenv(name, value.format(**places))

    assert fetch(URI).path.read_bytes() == ROWS


def test_no_index_asks_no_index(homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_folder(index) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        monkeypatch.setenv("PIP_NO_INDEX", "yes")

        with pytest.raises(SourceError, match="no-index and has no find-links") as refused:
            fetch(URI)

    assert_one_line(refused.value, "pypi://letters==1.0", "`pip config list`")
    assert server.requests == []


def test_a_copy_is_kept_and_needs_no_index_and_no_pip(
    homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    pin = f"{URI}#sha256={file_digest_of(ROWS, homes)}"
    first = fetch(URI)
    shutil.rmtree(index)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(homes / "broken.conf"))
    (homes / "broken.conf").write_text("no section here")
    told: list[str] = []

    with listening(lambda stage, done, total, note: told.append(note)):
        again = fetch(pin)

    assert (again.path, again.digest) == (first.path, first.digest)
    assert told == []


def test_a_copy_that_is_not_what_was_pinned_is_dropped(
    homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    pin = f"{URI}#sha256={file_digest_of(ROWS, homes)}"
    copy = fetch(pin).path
    copy.write_bytes(b"changed on this disk")

    with pytest.raises(SourceError, match="not the pinned") as refused:
        fetch(pin)
    assert_one_line(refused.value, URI, "check it and pin the new digest")
    assert not copy.exists()

    assert fetch(pin).path.read_bytes() == ROWS


def test_two_at_once_fetch_once(homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bytes] = []
    with serve_folder(index) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        threads = [Thread(target=lambda: found.append(fetch(URI).path.read_bytes())) for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == [ROWS, ROWS]
    assert server.paths == ["/letters/", "/letters/letters-1.0-py3-none-any.whl"]


def test_nothing_of_a_package_is_run(
    homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "was-run"
    run = f"from pathlib import Path; Path({str(marker)!r}).touch()".encode()
    backend = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    source = {
        "setup.py": run,
        "backend.py": run,
        "pyproject.toml": backend,
        "trap/__init__.py": run,
    }
    archive = sdist(
        {f"trap-1.0/{path}": content for path, content in {**source, **LETTERS}.items()}
    )
    index = write_index(tmp_path / "index", {"trap-1.0.tar.gz": archive})
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    (tmp_path / "pip.py").write_bytes(run)  # python -m pip would take it from here
    monkeypatch.chdir(tmp_path)

    path = fetch("pypi://trap==1.0/letters/data/rows.csv").path

    assert path.read_bytes() == ROWS
    assert not marker.exists()


HARMLESS = {"pack/rows.csv": ROWS, "pack/..rows.csv": b"two dots are a name too"}
CLIMBING = ["pack/../../climbed.csv", "../climbed.csv", "pack/../../../../climbed.csv"]


@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_links_devices_and_paths_that_climb_out_are_left_in_the_package(
    kind: str, homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passwords.txt").write_text(SECRET)
    outside = str(tmp_path / "passwords.txt")
    contents = {**HARMLESS, **dict.fromkeys(CLIMBING, b"climbed")}
    links = {"pack/link.csv": outside, "pack/folder": str(tmp_path), "pack/near.csv": "rows.csv"}
    if kind == "whl":
        name, archive = "pack-1.0-py3-none-any.whl", wheel(contents, links)
    else:
        name = "pack-1.0.tar.gz"
        others = {f"pack-1.0/{path}": (tarfile.SYMTYPE, target) for path, target in links.items()}
        others["pack-1.0/pack/hard.csv"] = (tarfile.LNKTYPE, outside)
        others["pack-1.0/pack/pipe.csv"] = (tarfile.FIFOTYPE, "")
        archive = sdist({f"pack-1.0/{path}": c for path, c in contents.items()}, others)
    index = write_index(tmp_path / "index", {name: archive})
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())

    path = fetch("pypi://pack==1.0/pack").path

    assert files(path) == {"rows.csv": ROWS, "..rows.csv": HARMLESS["pack/..rows.csv"]}
    assert list(tmp_path.rglob("climbed.csv")) == []
    with pytest.raises(SourceError, match="holds no such file or folder"):
        fetch("pypi://pack==1.0/pack/link.csv")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("pypi://letters==1.1/letters", ("pypi://letters==1.1", "no such package or version")),
        ("pypi://absent==1.0/letters", ("no such package or version", "404", "pip config list")),
        (f"{URI}x", ("/letters/data/rows.csvx", "no such file or folder", "zipfile -l")),
        ("pypi://letters==1.0/data/rows.csv", ("no such file or folder", "letters-1.0-py3")),
        ("pypi://letters/rows.csv", ("pypi://letters/rows.csv", "with an exact version")),
        ("pypi://letters==1.*/rows.csv", ("pypi://letters==1.*", "with an exact version")),
        ("pypi://letters==1.0/../../rows.csv", ("the path must lie inside the package",)),
        ("pypi://damaged==1.0/rows.csv", ("damaged-1.0.tar.gz cannot be unpacked", "mirror")),
        ("pypi://cut==1.0/rows.csv", ("cut-1.0.tar.gz cannot be unpacked", "mirror")),
        ("pypi://forged==1.0/rows.csv", ("cannot be fetched", "HashMismatchError", "pip config")),
        ("pypi://odd==1.0!x/rows.csv", ("cannot be fetched", "InvalidRequirement")),
    ],
)
def test_what_the_index_does_not_have_is_told_in_one_line_with_a_cure(
    uri: str,
    parts: tuple[str, ...],
    homes: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    torn = {"damaged-1.0.tar.gz": b"no archive", "cut-1.0.tar.gz": SDIST[:-40]}
    write_index(index, torn)
    write_index(index, {"forged-1.0.tar.gz": SDIST})
    (index / "forged" / "forged-1.0.tar.gz").write_bytes(SDIST + b"\0")
    with serve_folder(index) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)

        with pytest.raises(SourceError) as refused:
            fetch(uri)

    assert_one_line(refused.value, *parts)
    assert copies(homes) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"PIP_INDEX_URL": f"{CLOSED}/simple"}, ("ConnectError", "check the network")),
        ({"PIP_INDEX_URL": f"http://u:{SECRET}@127.0.0.1:9/simple"}, ("ConnectError",)),
        ({"PIP_CERT": "/absent/ca.pem"}, ("FileNotFoundError", "pip config list")),
        ({"PIP_TIMEOUT": "soon"}, ("`pip config list` fails", "'soon'", "mend pip's")),
        ({"PIP_CONFIG_FILE": "broken.conf"}, ("broken.conf", "no section headers", "mend pip's")),
    ],
)
def test_a_setting_of_pip_that_cannot_work_is_told_in_one_line(
    settings: dict[str, str],
    parts: tuple[str, ...],
    homes: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(homes)
    (homes / "broken.conf").write_text(f"index-url = https://u:{SECRET}@127.0.0.1:9/simple\n")
    for name, value in {"PIP_INDEX_URL": index.as_uri(), **settings}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SourceError) as refused:
        fetch(URI)

    assert_one_line(refused.value, *parts)


@pytest.mark.parametrize("status", [401, 500])
def test_an_index_that_refuses_is_told_with_its_answer(
    status: int, homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_folder(index, status=status) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("://", f"://u:{SECRET}@"))

        with pytest.raises(SourceError) as refused:
            fetch(URI)

    assert_one_line(refused.value, "no such package or version", f"({status})")


@pytest.mark.parametrize("way", ["password in the URL", "token in the URL", "netrc"])
def test_a_private_index_is_signed_in_to_as_pip_does(
    way: str, homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in = f"{SECRET}:" if way == "token in the URL" else f"user:{SECRET}"
    told: list[str] = []
    with serve_folder(index, sign_in=sign_in) as server:
        in_url = {"password in the URL": f"user:{SECRET}@", "token in the URL": f"{SECRET}@"}
        monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("://", f"://{in_url.get(way, '')}"))
        (homes / "netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
        monkeypatch.setenv("NETRC", str(homes / "netrc") if way == "netrc" else os.devnull)

        with listening(lambda stage, done, total, note: told.append(note)):
            path = fetch(URI).path

    assert path.read_bytes() == ROWS
    assert told
    assert SECRET not in "".join(told)


def test_a_csv_inside_a_package_is_ingested_to_rows_that_are_memory_mapped(
    homes: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())

    manifest = read_dataset(Data(uri=URI, labels=["ham", "spam"]))

    assert manifest.source == URI
    assert manifest.source_digest == file_digest_of(ROWS, homes)
    assert manifest.label_counts == {"ham": 1, "spam": 1}
    rows = datasets.Dataset.from_parquet(str(manifest.path("rows.parquet")), cache_dir=str(homes))
    assert rows.cache_files
    assert rows["text"][:] == ["Lunch at noon?", "WIN a prize NOW"]


def test_pip_options_are_read_as_pip_itself_would_apply_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\ntimeout=60\ncert=/a'b.pem\n[list]\ntimeout=1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "one two")

    options = pip_options()

    assert options["timeout"] == "60"
    assert options["cert"] == "/a'b.pem"
    assert options["trusted-host"] == "one two"


def assert_one_line(error: SourceError, *parts: str) -> None:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 420
    assert SECRET not in said
    for part in parts:
        assert part in said


def file_digest_of(content: bytes, folder: Path) -> str:
    file = folder / "to-digest"
    file.write_bytes(content)
    return file_digest(file)
