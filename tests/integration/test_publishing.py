"""Releases on an object store: published whole or not seen, pulled only as they were released."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bucket import CREDENTIALS, ENDPOINT, Bucket, Fault, Upload, serve_bucket
from key_pairs import key_pair
from loopback import CLOSED
from toy_bentos import PIPELINE, release, toy_bento, with_version
from typer.testing import CliRunner, Result

from configs.errors import BentoError, ConfigError
from configs.schema import PipelineConfig
from flows.cli import app
from tasks.history import append, event, read_history
from tasks.integrity import MANIFEST, SIGNATURE, read_manifest, write_manifest
from tasks.process import environment_with
from tasks.publishing import (
    publish_release,
    published_at,
    push,
    require_publishable,
    unpublish_pruned,
)
from tasks.pulling import Pulled, pull
from tasks.releases import (
    bento_store,
    champion_tag,
    place_of,
    point_to,
    read_release,
    require_signed_release,
    require_whole_release,
)
from tasks.rollback import roll_back

EKIBEN = str(Path(sys.executable).with_name("ekiben"))
ADDRESS = "s3://bucket/releases"
VERSIONS = ("v1", "v2", "v3")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bento = toy_bento(tmp_path_factory.mktemp("built"), "v1")
    for version in VERSIONS[1:]:
        with_version(bento, version)
    return bento.parent


@dataclass(frozen=True)
class Machine:
    """Homes of one machine; entering makes them this process's."""

    folder: Path
    patch: pytest.MonkeyPatch

    def enter(self) -> None:
        for name in ("EKIBEN_HOME", "BENTOML_HOME"):
            self.patch.setenv(name, str(self.folder / name.lower()))


@pytest.fixture
def maker(built: Path, homes: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the machine that released v1, whose homes are entered."""
    machine = Machine(homes / "maker", monkeypatch)
    machine.enter()
    shutil.copytree(built, bento_store() / "bentos" / PIPELINE)
    made("v1")
    return machine


@pytest.fixture
def other(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine that has nothing yet."""
    return Machine(homes / "other", monkeypatch)


@pytest.fixture
def bucket(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Return the server of `s3://bucket`, which is empty; requests are not repeated by botocore."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (homes / "bucket").mkdir()
    with serve_bucket(homes / "bucket") as server:
        for name, value in {**CREDENTIALS, ENDPOINT: server.url, "AWS_MAX_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def objects(homes: Path, bucket: Bucket) -> Path:
    """Return the folder of the pipeline's objects."""
    return homes / "bucket" / "releases" / PIPELINE


def made(version: str) -> str:
    """Make a version the champion, as a run does."""
    before = champion_tag(PIPELINE)
    number = version.removeprefix("v")
    place = bento_store() / "bentos" / PIPELINE / version
    tag = release(place, before, f"2026-01-0{number}T00:00:00+00:00")
    append(PIPELINE, event("released", tag, before))
    return tag


def config(address: str | None = ADDRESS) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": PIPELINE,
            "data": {"uri": "rows.csv", "labels": ["one", "two"]},
            "gate": {"accuracy": {"min": 0.5}},
            "release": {"publish": address},
        }
    )


def publish(version: str, address: str = ADDRESS) -> None:
    publish_release(config(address), read_release(f"{PIPELINE}:{version}"))


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def object_of(objects: Path, version: str, name: str) -> Path:
    """Return the object of a release's file."""
    described = read_manifest(objects / version)["files"][name]
    return objects / version / str(described["sha256"])


# --- Published and pulled -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "file", "memory"])
def test_a_release_is_pulled_by_another_machine_as_it_was_published(
    kind: str, maker: Machine, other: Machine, bucket: Bucket, homes: Path
) -> None:
    places = {"s3": ADDRESS, "file": f"file://{homes}/nas", "memory": f"memory://{homes.name}/r"}
    address = places[kind]
    require_publishable(config(address))
    publish("v1", address)
    made("v2")
    publish("v2", address)
    files = {version: snapshot(place_of(f"toy:{version}")) for version in ("v1", "v2")}
    released = read_release("toy:v2")

    other.enter()
    assert pull(f"{address}/toy") == Pulled("toy:v2", None)
    require_whole_release("toy:v2")
    assert snapshot(place_of("toy:v2")) == files["v2"]
    assert champion_tag(PIPELINE) == "toy:v2"
    assert pull(f"{address}/toy:v1") == Pulled("toy:v1", "toy:v2")
    assert snapshot(place_of("toy:v1")) == files["v1"]
    assert [told.what for told in read_history(PIPELINE)] == ["pulled", "pulled"]
    record = read_release("toy:v2")
    assert record.bento_path == place_of("toy:v2")
    assert record.model_copy(
        update={"bento_path": released.bento_path, "report": released.report}
    ) == released.model_copy(update={"previous": None})


def test_objects_come_first_then_the_manifest_and_the_pointer_last(
    maker: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    manifest = read_manifest(place_of("toy:v1"))
    digests = {file["sha256"] for file in manifest["files"].values()}
    keys = [key.removeprefix("releases/toy/") for key in bucket.puts]
    assert {*keys[:-3]} == {f"v1/{digest}" for digest in digests}
    assert keys[-3:] == [f"v1/{manifest['digest']}.record", "v1/manifest.json", "latest"]
    assert (objects / "latest").read_text() == "v1"


def test_publishing_again_puts_nothing(maker: Machine, bucket: Bucket) -> None:
    publish("v1")
    before = len(bucket.puts)
    publish("v1")
    assert command("push", PIPELINE).stdout == f"toy:v1 is the champion at {ADDRESS}\n"
    assert len(bucket.puts) == before


def test_a_record_tells_nothing_of_the_machine_that_made_it(
    maker: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    (record,) = (objects / "v1").glob("*.record")
    assert str(maker.folder) not in record.read_text()


def test_pulling_what_is_here_fetches_no_file_and_tells_no_event(
    maker: Machine, other: Machine, bucket: Bucket
) -> None:
    publish("v1")
    other.enter()
    pull(f"{ADDRESS}/toy")
    fetched = len(bucket.asked("GET"))
    assert pull(f"{ADDRESS}/toy") == Pulled("toy:v1", "toy:v1")
    assert len(bucket.asked("GET")) - fetched < 6  # the pointer, the manifest, the record
    assert len(read_history(PIPELINE)) == 1
    assert read_release("toy:v1").previous is None


def test_a_file_that_goes_up_in_parts_is_whole(
    maker: Machine, other: Machine, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize: 2_000)
    publish("v1")
    assert any("partNumber=2" in path for path in bucket.asked("PUT"))
    assert bucket.uploads == {}
    assert readers(other) == "toy:v1"


# --- Killed, cut off, refused ---------------------------------------------------------------------


def readers(other: Machine, address: str = ADDRESS) -> str:
    """Return what a new machine sees of the store: a whole release, or that there is none."""
    shutil.rmtree(other.folder, ignore_errors=True)
    other.enter()
    try:
        tag = pull(f"{address}/toy").tag
    except BentoError:
        assert champion_tag(PIPELINE) is None
        assert [place_of(f"toy:{version}").exists() for version in VERSIONS] == [False] * 3
        return "nothing"
    require_whole_release(tag)
    return tag


def test_a_reader_sees_the_old_release_or_the_new_one_wherever_the_store_fails(
    maker: Machine, other: Machine, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every put from the Nth on fails, for every N, which leaves what a kill there would."""
    from fsspec.implementations.memory import MemoryFileSystem

    put, left = MemoryFileSystem.put_file, [10**6]

    def put_file(system: Any, *arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("the store does not answer")
        return put(system, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    store = MemoryFileSystem()
    seen = []
    for number in range(100):
        address = f"memory://{homes.name}-{number}"
        left[0] = 10**6
        maker.enter()
        point_to("toy:v1")
        publish("v1", address)
        made("v2")
        left[0] = number
        with suppress(BentoError):
            publish("v2", address)
        seen.append(readers(other, address))
        if left[0] >= 0:
            break
    assert len(seen) > 20
    assert seen == ["toy:v1"] * (len(seen) - 1) + ["toy:v2"]
    store.rm("/", recursive=True)


_PUBLISH = """
import sys
from configs.schema import PipelineConfig
from tasks.publishing import publish_release
from tasks.releases import read_release
publish_release(PipelineConfig.model_validate_json(sys.argv[1]), read_release("toy:v2"))
"""


@pytest.mark.parametrize("at", ["src/model/card.json", MANIFEST, "latest"])
def test_the_next_run_goes_on_where_one_was_killed(
    at: str, maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    made("v2")
    files = read_manifest(place_of("toy:v2"))["files"]
    key = {MANIFEST: f"v2/{MANIFEST}", "latest": "latest"}.get(at) or f"v2/{files[at]['sha256']}"
    command_line = [sys.executable, "-c", _PUBLISH, config().model_dump_json()]
    with subprocess.Popen(command_line, env=environment_with()) as process:

        def kill(method: str, asked: str) -> Fault:
            if (method, asked) != ("PUT", f"releases/toy/{key}"):
                return None
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            return "cut"

        bucket.fault = kill
        assert process.wait(300) == -signal.SIGKILL
    bucket.fault = lambda method, asked: None
    assert readers(other) == "toy:v1"
    maker.enter()
    there = {path.name for path in (objects / "v2").iterdir()}
    put = len(bucket.puts)
    publish("v2")
    assert not {Path(path).name for path in bucket.puts[put:]} & there
    assert readers(other) == "toy:v2"


def test_a_pull_that_was_killed_shows_nothing_and_leaves_nothing_to_the_next(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    last = object_of(objects, "v1", sorted(read_manifest(objects / "v1")["files"])[-1])
    other.enter()
    command_line = [EKIBEN, "pull", f"{ADDRESS}/toy"]
    with subprocess.Popen(command_line, env=environment_with()) as process:

        def kill(method: str, key: str) -> Fault:
            if (method, key) != ("GET", f"releases/toy/v1/{last.name}"):
                return None
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            return "cut"

        bucket.fault = kill
        assert process.wait(300) == -signal.SIGKILL
    bucket.fault = lambda method, key: None
    assert list((bento_store() / ".ekiben-pull" / "v1").iterdir())
    assert not (bento_store() / "bentos").exists()
    assert champion_tag(PIPELINE) is None
    assert pull(f"{ADDRESS}/toy:latest") == Pulled("toy:v1", None)
    assert not (bento_store() / ".ekiben-pull").exists()


@pytest.mark.parametrize(
    "settings", [{"AWS_ACCESS_KEY_ID": "other"}, {ENDPOINT: CLOSED}], ids=["key", "network"]
)
def test_a_store_that_cannot_be_read_is_told_in_one_line(
    settings: dict[str, str], homes: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        BentoError, match=r"s3://bucket/releases/toy/latest: cannot be read"
    ) as told:
        pull(f"{ADDRESS}/toy")
    assert "\n" not in str(told.value)
    assert not (bento_store() / "bentos").exists()


@pytest.mark.parametrize("fault", ["cut", 500, 503])
def test_a_put_that_fails_once_is_made_again_by_the_library(
    fault: Fault, maker: Machine, other: Machine, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    failed: list[str] = []

    def once(method: str, key: str) -> Fault:
        if method == "PUT" and key.endswith(MANIFEST) and not failed:
            failed.append(key)
            return fault
        return None

    bucket.fault = once
    publish("v1")
    assert failed
    other.enter()
    assert pull(f"{ADDRESS}/toy").tag == "toy:v1"


@pytest.mark.parametrize("key", ["latest", f"v1/{MANIFEST}", "v1/"])
def test_a_put_that_is_lost_is_found_out(
    key: str, maker: Machine, bucket: Bucket, objects: Path
) -> None:
    def lose(method: str, asked: str) -> Fault:
        return "lost" if method == "PUT" and f"/toy/{key}" in f"/{asked}" else None

    bucket.fault = lose
    with pytest.raises(BentoError, match="was put without an error, but does not read back"):
        publish("v1")
    assert not (objects / "latest").exists()
    bucket.fault = lambda method, asked: None
    publish("v1")
    assert (objects / "latest").read_text() == "v1"


def test_an_upload_that_a_kill_left_is_ended_after_a_day_and_no_other(
    maker: Machine, bucket: Bucket
) -> None:
    bucket.uploads |= {
        "old": Upload("releases/toy/v0/0"),
        "young": Upload("releases/toy/v1/1", initiated="2999-01-01T00:00:00.000Z"),
        "another's": Upload("releases/toys/v0/0"),
    }
    publish("v1")
    assert bucket.uploads.keys() == {"young", "another's"}


def test_a_store_that_does_not_tell_of_its_uploads_is_published_to_all_the_same(
    maker: Machine, bucket: Bucket
) -> None:
    bucket.fault = lambda method, key: 500 if "uploads" in bucket.paths[-1] else None
    publish("v1")
    assert bucket.puts[-1].endswith("/latest")


def test_a_half_file_of_a_killed_process_goes_from_a_file_system_after_a_day(
    maker: Machine, homes: Path
) -> None:
    folder = homes / "nas" / PIPELINE / "v0"
    folder.mkdir(parents=True)
    for name in ("old.partial", "young.partial"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / "old.partial", (0, 0))
    publish("v1", f"file://{homes}/nas")
    assert [path.name for path in folder.iterdir()] == ["young.partial"]


# --- Refused before hours of training -------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "address", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "other"}, ADDRESS, "cannot be read"),
        ({ENDPOINT: CLOSED}, ADDRESS, "check the address, its credentials and the network"),
        ({}, "gopher://bucket/releases", "needs a package that is not installed"),
        ({}, "s3://bucket/${NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE is not set"),
        ({}, "file:///dev/null/releases", "cannot be"),
        ({}, "http://127.0.0.1:9/releases", "cannot be"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(
    settings: dict[str, str],
    address: str,
    words: str,
    homes: Path,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words) as refused:
        require_publishable(config(address))
    (problem,) = refused.value.problems
    assert problem.startswith("release.publish: ")
    assert "\n" not in problem
    assert "password" not in problem


def test_a_place_that_can_only_be_read_or_keeps_nothing_is_refused(bucket: Bucket) -> None:
    faults: tuple[Fault, ...] = (500, "lost")
    for fault in faults:
        bucket.fault = lambda method, key, fault=fault: fault if method == "PUT" else None  # type: ignore[misc]
        with pytest.raises(ConfigError, match=r"release\.publish: s3://bucket/releases/toy/"):
            require_publishable(config())


def test_a_place_that_can_be_written_is_left_as_it_was(bucket: Bucket, homes: Path) -> None:
    require_publishable(config())
    assert snapshot(homes / "bucket") == {}
    assert bucket.puts
    require_publishable(config(None))


def test_the_bucket_may_come_from_the_environment(
    maker: Machine, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, objects: Path
) -> None:
    monkeypatch.setenv("PLACE", "releases")
    publish("v1", "s3://bucket/${PLACE}")
    assert (objects / "latest").read_text() == "v1"
    assert push(PIPELINE) == published_at(PIPELINE) == "s3://bucket/${PLACE}"


# --- What was changed is not taken in -------------------------------------------------------------


def changed_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def test_a_changed_object_is_refused_and_put_right_by_the_next_run(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    file = object_of(objects, "v1", "src/model/card.json")
    for change in (changed_byte, lambda path: path.write_bytes(b"{}"), Path.unlink):
        change(file)
        other.enter()
        with pytest.raises(
            BentoError, match=r"toy:v1: 'src/model/card\.json' (was changed|is mis)"
        ):
            pull(f"{ADDRESS}/toy")
        assert champion_tag(PIPELINE) is None
        assert not place_of("toy:v1").exists()
        assert not list(bento_store().glob(".ekiben-*/*"))
        maker.enter()
        publish("v1")
    other.enter()
    assert pull(f"{ADDRESS}/toy").tag == "toy:v1"


def test_an_object_too_many_is_not_brought(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    for name in ("sitecustomize.py", "src/adapter.bin"):
        (objects / "v1" / name).parent.mkdir(exist_ok=True)
        (objects / "v1" / name).write_bytes(b"x")
    files = snapshot(place_of("toy:v1"))
    other.enter()
    pull(f"{ADDRESS}/toy")
    assert snapshot(place_of("toy:v1")) == files


def forged(objects: Path, **names: str | None) -> None:
    """Publish v1's manifest anew, as whoever can write the bucket could: a name for another."""
    tree = json.loads((objects / "v1" / MANIFEST).read_text())
    old = tree["digest"]
    for given, wanted in names.items():
        file = tree["files"].pop(given)
        if wanted is not None:
            tree["files"][wanted] = file
    rewritten(objects, tree, old)


def rewritten(objects: Path, tree: dict[str, Any], old: str) -> None:
    import hashlib

    del tree["digest"]

    def written(value: dict[str, Any]) -> bytes:
        return f"{json.dumps(value, indent=1, sort_keys=True)}\n".encode()

    tree["digest"] = hashlib.sha256(written(tree)).hexdigest()
    (objects / "v1" / MANIFEST).write_bytes(written(tree))
    shutil.copy(objects / "v1" / f"{old}.record", objects / "v1" / f"{tree['digest']}.record")


@pytest.mark.parametrize(
    "name",
    [
        "../../../escaped",
        "/tmp/escaped",
        "src//escaped",
        "src/./escaped",
        "src\\..\\escaped",
        "src/esc\naped",
        "src",
        "bento.yaml/below",
        SIGNATURE,
        MANIFEST,
        "",
    ],
)
def test_a_manifest_that_names_a_place_outside_is_refused(
    name: str, maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    forged(objects, **{"README.md": name})
    other.enter()
    before = {path for path in other.folder.parent.rglob("*") if "scaped" in path.name}
    with pytest.raises(BentoError, match="expected paths within the release alone"):
        pull(f"{ADDRESS}/toy")
    assert {path for path in other.folder.parent.rglob("*") if "scaped" in path.name} == before
    assert not place_of("toy:v1").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": []}, "names no files"),
        ({"files": {}}, "names no 'bento.yaml'"),
        ({"files": {"bento.yaml": {"sha256": "../../x", "size": 1}}}, "no size and SHA-256"),
        ({"files": {"bento.yaml": ["a"]}}, "no size and SHA-256"),
        ({"tag": "toy:v2"}, "its manifest is that of 'toy:v2'"),
    ],
)
def test_a_manifest_that_is_none_of_the_release_is_refused(
    changes: dict[str, Any],
    words: str,
    maker: Machine,
    other: Machine,
    bucket: Bucket,
    objects: Path,
) -> None:
    publish("v1")
    tree = json.loads((objects / "v1" / MANIFEST).read_text())
    rewritten(objects, tree | changes, tree["digest"])
    other.enter()
    with pytest.raises(BentoError, match=words):
        pull(f"{ADDRESS}/toy")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (f"v1/{MANIFEST}", b"{}", "'manifest.json' was changed"),
        (f"v1/{MANIFEST}", None, "is not published there, or not to its end"),
        ("latest", None, "no release is published there"),
        ("latest", b"../../v1", "names '../../v1', which is no version"),
        ("latest", b"", "which is no version"),
        ("latest", b"\xff\xfe", "which is no version"),
        ("latest", b"v9", "toy:v9: is not published there"),
        ("record", b"{}", "its record cannot be read"),
        ("record", b"[]", "its record cannot be read"),
        ("record", None, "is not published there, or not to its end"),
    ],
)
def test_what_is_damaged_or_missing_is_told_in_words(
    name: str,
    content: bytes | None,
    words: str,
    maker: Machine,
    other: Machine,
    bucket: Bucket,
    objects: Path,
) -> None:
    publish("v1")
    file = objects / name
    if name == "record":
        (file,) = (objects / "v1").glob("*.record")
    file.write_bytes(content) if content is not None else file.unlink()
    other.enter()
    shown = command("pull", f"{ADDRESS}/toy")
    assert isinstance(shown.exception, BentoError)
    assert words in str(shown.exception)
    assert champion_tag(PIPELINE) is None


def test_a_record_of_another_release_is_refused(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path
) -> None:
    publish("v1")
    made("v2")
    publish("v2")
    (one,), (two,) = ((objects / version).glob("*.record") for version in ("v1", "v2"))
    shutil.copy(one, two)
    other.enter()
    with pytest.raises(BentoError, match="its record is that of another release"):
        pull(f"{ADDRESS}/toy")


@pytest.mark.parametrize(
    "address", ["toy", "bucket/toy", "s3://bucket", "s3://user:password@bucket/toy", "s3://b/T:v1"]
)
def test_an_address_that_is_none_of_a_release_is_refused(homes: Path, address: str) -> None:
    done = subprocess.run(
        [EKIBEN, "pull", address],
        env=environment_with(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "password" not in done.stderr


# --- Signatures -----------------------------------------------------------------------------------


def test_a_signed_release_is_pulled_under_its_key_alone(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path, homes: Path
) -> None:
    from tasks.signing import sign

    private, public = key_pair(homes, "key")
    _, another = key_pair(homes, "another")
    publish("v1")
    other.enter()
    with pytest.raises(BentoError, match=r"toy:v1: .+is not signed, and .+ is required"):
        pull(f"{ADDRESS}/toy", public)
    assert not place_of("toy:v1").exists()

    maker.enter()
    sign(place_of("toy:v1"), place_of("toy:v1") / SIGNATURE, private)
    publish("v1")
    other.enter()
    pull(f"{ADDRESS}/toy")
    assert command("pull", f"{ADDRESS}/toy", "--public-key", str(public)).exit_code == 0
    require_signed_release("toy:v1", public)
    with pytest.raises(BentoError, match="is not signed by the owner of"):
        pull(f"{ADDRESS}/toy", another)
    with pytest.raises(ConfigError, match="cannot be used as a public key"):
        pull(f"{ADDRESS}/toy", homes / "none.pub")


def test_what_was_published_anew_by_another_without_the_key_is_refused(
    maker: Machine, other: Machine, bucket: Bucket, objects: Path, homes: Path
) -> None:
    from tasks.signing import sign

    private, public = key_pair(homes, "key")
    sign(place_of("toy:v1"), place_of("toy:v1") / SIGNATURE, private)
    publish("v1")
    old = read_manifest(objects / "v1")["digest"]
    forged(objects, **{"README.md": None})
    new = read_manifest(objects / "v1")["digest"]
    shutil.copy(objects / "v1" / f"{old}.signature", objects / "v1" / f"{new}.signature")
    other.enter()
    with pytest.raises(BentoError, match="is not signed by the owner of"):
        pull(f"{ADDRESS}/toy", public)
    assert not place_of("toy:v1").exists()


# --- Rolled back and pruned -----------------------------------------------------------------------


@pytest.fixture
def three(maker: Machine, bucket: Bucket) -> None:
    """Release and publish v1 to v3."""
    publish("v1")
    for version in VERSIONS[1:]:
        made(version)
        publish(version)


def test_a_rollback_moves_the_pointer_of_the_store_too(
    three: None, other: Machine, bucket: Bucket, objects: Path
) -> None:
    shown = command("rollback", PIPELINE)
    assert shown.stdout.endswith(
        f"toy:v2 is the champion, in the place of toy:v3\nand at {ADDRESS}\n"
    )
    assert (objects / "latest").read_text() == "v2"
    other.enter()
    assert pull(f"{ADDRESS}/toy").tag == "toy:v2"


def test_a_rollback_holds_here_though_the_store_does_not_answer(
    three: None, maker: Machine, bucket: Bucket, objects: Path
) -> None:
    bucket.fault = lambda method, key: 503
    shown = command("rollback", PIPELINE)
    assert isinstance(shown.exception, BentoError)
    assert "toy:v2: is whole in the local store, but not published" in str(shown.exception)
    assert "`ekiben push toy`" in str(shown.exception)
    assert champion_tag(PIPELINE) == "toy:v2"
    assert (objects / "latest").read_text() == "v3"
    bucket.fault = lambda method, key: None
    command("push", PIPELINE)
    assert (objects / "latest").read_text() == "v2"


def test_what_was_rolled_back_here_is_pulled_by_its_version_alone(
    three: None, other: Machine, bucket: Bucket
) -> None:
    other.enter()
    pull(f"{ADDRESS}/toy:v2")
    pull(f"{ADDRESS}/toy")
    roll_back(PIPELINE)
    assert champion_tag(PIPELINE) == "toy:v2"
    with pytest.raises(BentoError, match=r"toy:v3: .+ rolled it back here to toy:v2"):
        pull(f"{ADDRESS}/toy")
    assert champion_tag(PIPELINE) == "toy:v2"
    pull(f"{ADDRESS}/toy:v3")
    assert champion_tag(PIPELINE) == "toy:v3"


def test_pruning_removes_from_the_store_what_it_removes_here_and_says_so(
    three: None, other: Machine, bucket: Bucket, objects: Path
) -> None:
    (objects / "v0").mkdir()  # another machine's
    (objects / "v0" / MANIFEST).write_text("{}")
    shown = command("prune", PIPELINE, "--keep", "0", "--dry-run").stdout
    assert f"toy:v1 would go at {ADDRESS}\n" in shown
    assert (objects / "v1" / MANIFEST).exists()
    shown = command("prune", PIPELINE, "--keep", "0").stdout
    assert f"toy:v1 is removed at {ADDRESS}\n" in shown
    assert not list((objects / "v1").glob("*"))
    assert (objects / "v0" / MANIFEST).exists()
    for version in ("v2", "v3"):
        other.enter()
        assert pull(f"{ADDRESS}/toy:{version}").tag == f"toy:{version}"


def test_pruning_goes_on_where_the_store_failed_and_takes_the_manifest_first(
    three: None, maker: Machine, bucket: Bucket, objects: Path
) -> None:
    removed: list[str] = []

    def fails(method: str, key: str) -> Fault:
        if method in ("DELETE", "POST"):
            removed.append(key)
        return 500 if len(removed) > 1 else None

    bucket.fault = fails
    shown = command("prune", PIPELINE, "--keep", "0")
    assert isinstance(shown.exception, BentoError)
    assert not (objects / "v1" / MANIFEST).exists()
    assert list((objects / "v1").iterdir())
    bucket.fault = lambda method, key: None
    assert unpublish_pruned(PIPELINE, set()) == ["toy:v1"]
    assert not list((objects / "v1").glob("*"))


def test_what_was_never_published_is_neither_pushed_nor_looked_for(maker: Machine) -> None:
    assert push(PIPELINE) is None
    assert unpublish_pruned(PIPELINE, {"toy:v1"}) == []
    assert isinstance(command("push", PIPELINE).exception, ConfigError)


# --- Two writers ----------------------------------------------------------------------------------


def another_run(built: Path, machine: Machine, report: str) -> None:
    """Release v1 on another machine, from the same config and data: another report stands in it."""
    machine.enter()
    place = bento_store() / "bentos" / PIPELINE / "v1"
    shutil.copytree(built / "v1", place)
    (place / "report.html").write_text(report)
    write_manifest(place, "toy:v1")
    made("v1")


def test_two_machines_that_publish_one_version_at_once_cannot_tear_it(
    built: Path, maker: Machine, homes: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket,
    objects: Path, other: Machine,
) -> None:  # fmt: skip
    """Whoever comes second publishes all of his between any two puts of the first."""
    second = Machine(homes / "second", monkeypatch)
    another_run(built, second, "<p>second</p>")
    maker.enter()
    (place_of("toy:v1") / "report.html").write_text("<p>first</p>")
    write_manifest(place_of("toy:v1"), "toy:v1")
    for between in (0, 20, 35, 40, 41, 42, 43):
        shutil.rmtree(objects, ignore_errors=True)
        started = len(bucket.puts)
        nested: list[str] = []

        def meanwhile(
            method: str, key: str, started: int = started, between: int = between,
            nested: list[str] = nested,
        ) -> Fault:  # fmt: skip
            if method == "PUT" and not nested and len(bucket.puts) - started > between:
                nested.append(key)
                done = subprocess.run(
                    [sys.executable, "-c", _PUSH, config().model_dump_json()],
                    env=environment_with(
                        EKIBEN_HOME=str(second.folder / "ekiben_home"),
                        BENTOML_HOME=str(second.folder / "bentoml_home"),
                    ),
                    check=False,
                )
                assert done.returncode == 0
            return None

        bucket.fault = meanwhile
        maker.enter()
        publish("v1")
        bucket.fault = lambda method, key: None
        assert readers(other) == "toy:v1"
        assert (place_of("toy:v1") / "report.html").read_text() == "<p>first</p>"


_PUSH = _PUBLISH.replace("toy:v2", "toy:v1")


def test_the_pointer_that_is_put_last_holds(
    built: Path, maker: Machine, homes: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket,
    other: Machine, objects: Path,
) -> None:  # fmt: skip
    second = Machine(homes / "second", monkeypatch)
    another_run(built, second, "<p>second</p>")
    maker.enter()
    publish("v1")
    made("v2")
    publish("v2")
    second.enter()
    publish("v1")
    assert readers(other) == "toy:v1"
    maker.enter()
    publish("v2")
    assert readers(other) == "toy:v2"
