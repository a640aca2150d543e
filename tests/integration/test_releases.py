"""Releases: rolled back and restored, pruned, traced, verified and signed; torn at no instant."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from key_pairs import key_pair
from served_bentos import serving
from toy_bentos import PIPELINE, release, toy_bento, with_version
from typer.testing import CliRunner, Result

from configs.errors import BentoError, ConfigError
from flows.cli import app
from tasks.history import append, event, read_history, withdrawn
from tasks.integrity import SIGNATURE, write_manifest
from tasks.process import environment_with
from tasks.pruning import prune
from tasks.releases import (
    STAGING,
    bento_store,
    champion,
    pipelines,
    point_to,
    record_file,
    releases_of,
    require_signed_release,
    require_whole_release,
    store_locked,
)
from tasks.rollback import roll_back


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bento = toy_bento(tmp_path_factory.mktemp("built"), "v1")
    for version in ("v2", "v3", "v4", "v5"):
        with_version(bento, version)
    return bento.parent


@pytest.fixture
def released(built: Path, homes: Path) -> Path:
    """Release v1 to v5 of the toy in the test's own homes, one after the other."""
    store = bento_store() / "bentos" / PIPELINE
    shutil.copytree(built, store)
    previous = None
    for number in range(1, 6):
        tag = release(
            store / f"v{number}", previous=previous, at=f"2026-01-0{number}T00:00:00+00:00"
        )
        append(PIPELINE, event("released", tag, previous))
        (record_file(tag).with_name(f"v{number}.profile.json")).write_text("{}")  # as the line does
        previous = tag
    return store


def served_tag() -> str:
    record = champion(PIPELINE)
    assert record is not None
    return record.tag


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


# --- Rollback -------------------------------------------------------------------------------------


def test_a_rollback_serves_the_release_before_and_is_on_record(released: Path) -> None:
    assert roll_back(PIPELINE, reason="mislabels refunds") == "toy:v5"
    assert served_tag() == "toy:v4"
    told = read_history(PIPELINE)[-1]
    assert (told.what, told.tag, told.instead_of) == ("rolled back", "toy:v4", "toy:v5")
    assert told.reason == "mislabels refunds"
    assert told.by
    assert withdrawn(PIPELINE).keys() == {"toy:v5"}


def test_rolling_back_again_goes_one_further_and_never_forth(released: Path) -> None:
    for expected in ("toy:v4", "toy:v3", "toy:v2", "toy:v1"):
        roll_back(PIPELINE)
        assert served_tag() == expected
    with pytest.raises(BentoError, match="toy:v1: is the first release of 5"):
        roll_back(PIPELINE)
    assert withdrawn(PIPELINE).keys() == {"toy:v2", "toy:v3", "toy:v4", "toy:v5"}


def test_a_named_release_is_served_and_one_that_was_rolled_back_is_restored(released: Path) -> None:
    roll_back(PIPELINE, "toy:v2")
    assert served_tag() == "toy:v2"
    roll_back(PIPELINE, "toy:v5")
    assert served_tag() == "toy:v5"
    assert read_history(PIPELINE)[-1].what == "restored"
    assert withdrawn(PIPELINE) == {}


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("toy:v9", "Ekiben released no such version"),
        ("toy:v5", "is served already"),
        ("toy:v2", "'src/model/card.json' was changed"),
        ("toy:v3", "is not in the store"),
    ],
)
def test_what_cannot_be_served_is_not_rolled_back_to(released: Path, tag: str, words: str) -> None:
    (released / "v2/src/model/card.json").write_text("{}")
    shutil.rmtree(released / "v3")
    before = read_history(PIPELINE)
    with pytest.raises(BentoError, match=words):
        roll_back(PIPELINE, tag)
    assert served_tag() == "toy:v5"
    assert read_history(PIPELINE) == before


def test_a_release_that_was_pruned_or_rolled_back_is_passed_over(released: Path) -> None:
    roll_back(PIPELINE, "toy:v3")
    roll_back(PIPELINE, "toy:v5")
    shutil.rmtree(released / "v4")
    roll_back(PIPELINE)
    assert served_tag() == "toy:v3"


def test_a_release_that_was_restored_is_rolled_back_to_again(released: Path) -> None:
    for _ in range(2):
        roll_back(PIPELINE)
    for tag in ("toy:v4", "toy:v5"):
        roll_back(PIPELINE, tag)
    roll_back(PIPELINE)
    assert served_tag() == "toy:v4"


def test_a_release_without_all_that_marks_it_as_one_is_refused(released: Path) -> None:
    for name in ("manifest.json", "bento.yaml"):
        (released / "v2" / name).unlink()
    with pytest.raises(BentoError, match=r"toy:v2: 'manifest\.json' is missing"):
        require_whole_release("toy:v2")


def test_a_release_that_came_again_is_rolled_back_to_what_it_came_in_the_place_of(
    released: Path,
) -> None:
    append(PIPELINE, event("released", "toy:v2", "toy:v5"))  # as a run of its config does
    point_to("toy:v2")
    roll_back(PIPELINE)
    assert served_tag() == "toy:v5"
    assert withdrawn(PIPELINE).keys() == {"toy:v2"}
    roll_back(PIPELINE)
    assert served_tag() == "toy:v4"


def test_a_clock_that_was_set_back_changes_no_order(built: Path, homes: Path) -> None:
    store = bento_store() / "bentos" / PIPELINE
    shutil.copytree(built, store)
    previous = None
    for number, year in enumerate(("2026", "2040", "1970", "2001", "1999"), 1):
        at = f"{year}-01-01T00:00:00+00:00"
        tag = release(store / f"v{number}", previous=previous, at=at)
        append(PIPELINE, event("released", tag, previous).model_copy(update={"at": at}))
        previous = tag
    assert [record.tag for record in releases_of(PIPELINE)] == [f"toy:v{n}" for n in range(1, 6)]
    assert [pruned.tag for pruned in prune(PIPELINE, 3, dry_run=True)] == ["toy:v1", "toy:v2"]
    roll_back(PIPELINE)
    assert served_tag() == "toy:v4"
    assert read_history(PIPELINE)[-1].what == "rolled back"
    assert withdrawn(PIPELINE).keys() == {"toy:v5"}


def test_the_doctor_tells_of_a_champion_that_is_damaged(released: Path) -> None:
    told = command("doctor")
    assert told.exit_code == 0
    assert told.stdout.splitlines() == [
        "no run of this machine is dead",
        "toy:v5 is the champion, and whole",
    ]
    (released / "v5/src/model/card.json").write_text("{}")
    told = command("doctor")
    assert told.exit_code == 1
    assert "'src/model/card.json' was changed" in told.stdout


# --- Prune ----------------------------------------------------------------------------------------


def test_pruning_keeps_the_newest_the_champion_and_its_predecessor(released: Path) -> None:
    roll_back(PIPELINE, "toy:v3")
    would = [pruned.tag for pruned in prune(PIPELINE, 1, dry_run=True)]
    assert would == ["toy:v1", "toy:v4"]
    assert len([place for place in released.iterdir() if place.is_dir()]) == 5
    assert [pruned.tag for pruned in prune(PIPELINE, 1)] == would
    assert {place.name for place in released.iterdir() if place.is_dir()} == {"v2", "v3", "v5"}
    assert served_tag() == "toy:v3"
    roll_back(PIPELINE)
    assert served_tag() == "toy:v2"
    assert record_file("toy:v1").exists()
    assert not (bento_store() / STAGING).exists()


@pytest.mark.parametrize("keep", [0, 1, 5, 100])
def test_the_champion_and_its_predecessor_stay_whatever_is_kept(released: Path, keep: int) -> None:
    prune(PIPELINE, keep)
    for tag in ("toy:v5", "toy:v4"):
        require_whole_release(tag)
    assert prune(PIPELINE, keep) == []


# --- The commands ---------------------------------------------------------------------------------


def test_releases_lists_newest_first_what_is_served_and_what_became_of_the_rest(
    released: Path,
) -> None:
    roll_back(PIPELINE, "toy:v4")
    prune(PIPELINE, 0)
    lines = command("releases").stdout.splitlines()
    rows = [line.split() for line in lines if line.strip().startswith("toy:")]
    assert [row[0] for row in rows] == ["toy:v5", "toy:v4", "toy:v3", "toy:v2", "toy:v1"]
    assert " ".join(rows[0][2:]).startswith("pass pruned, rolled back 20")
    assert rows[1][2:] == ["pass", "champion"]
    assert rows[2][2:] == ["pass"]
    assert rows[3][2:] == rows[4][2:] == ["pass", "pruned"]


def test_nothing_released_is_said_in_words(homes: Path) -> None:
    assert command("releases").stdout.startswith("nothing was released yet")
    assert pipelines() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("releases", "other"),
        ("rollback", "other"),
        ("prune", "other", "--keep", "1"),
        ("rollback", "toy", "other:v1"),
        ("trace", "toy:v9"),
        ("verify", "toy:v9"),
        ("verify", "other"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_refused_without_a_traceback(
    released: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ekiben")), *arguments],
        env=environment_with(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert served_tag() == "toy:v5"


def test_rollback_and_prune_say_what_they_did(released: Path) -> None:
    assert "toy:v4 is the champion, in the place of toy:v5" in command("rollback", "toy").stdout
    assert "toy:v5 is the champion" in command("rollback", "toy", "v5").stdout
    shown = command("prune", "toy", "--keep", "2", "--dry-run").stdout
    assert "toy:v1 would go" in shown
    assert "3 releases" in shown
    assert (released / "v1").exists()
    assert "toy:v1 is removed" in command("prune", "toy", "--keep", "2").stdout
    assert not (released / "v1").exists()


# --- The store under a kill -----------------------------------------------------------------------

_HELD = """
import sys, time
from tasks.releases import store_locked
with store_locked() as staging:
    (staging / "half").mkdir()
    (staging / "half" / "model").write_bytes(b"x" * 1000)
    print("held", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_release_left_goes_with_the_next_and_its_lock_is_free(
    released: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HELD], env=environment_with(), stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        half = bento_store() / STAGING / "half"
        assert half.is_dir()
        holder.kill()
    assert half.is_dir()
    with store_locked() as staging:
        assert list(staging.iterdir()) == []
    assert not staging.exists()


def test_a_history_cut_off_by_a_kill_keeps_all_that_was_written_whole(released: Path) -> None:
    file = record_file("toy:v1").with_name("history.jsonl")
    before = read_history(PIPELINE)
    with file.open("ab") as stream:
        stream.write(b'{"at": "2026-')
    assert read_history(PIPELINE) == before
    append(PIPELINE, event("pruned", "toy:v1"))
    assert read_history(PIPELINE)[:-1] == before
    assert read_history(PIPELINE)[-1].what == "pruned"


def test_a_store_that_is_no_folder_is_told_in_words(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (homes / "file").write_text("")
    monkeypatch.setenv("BENTOML_HOME", str(homes / "file"))
    with pytest.raises(BentoError, match="cannot be written"), store_locked():
        raise AssertionError("the store was opened")


# --- What is served -------------------------------------------------------------------------------


def refused_by_bentoml(bento: Path, **variables: str) -> str:
    """Serve a Bento that must not start; return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", str(bento), "--port", "0"],
        env=environment_with(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "name", ["src/model/linear.safetensors", "src/model/card.json", "src/guard.py", "README.md"]
)
def test_the_service_refuses_to_start_with_a_changed_file_and_names_it(
    released: Path, name: str
) -> None:
    file = released / "v1" / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    shown = refused_by_bentoml(released / "v1")
    assert name in shown
    assert "Traceback" not in shown


def test_the_service_refuses_to_start_with_a_file_too_many_or_without_its_manifest(
    released: Path,
) -> None:
    (released / "v1/src/model/adapter.bin").write_bytes(b"x")
    assert "'src/model/adapter.bin' is no file of the release" in refused_by_bentoml(
        released / "v1"
    )
    (released / "v2/manifest.json").unlink()
    assert "'manifest.json' is missing" in refused_by_bentoml(released / "v2")


def test_the_service_refuses_to_start_where_it_is_itself_a_link(
    released: Path, tmp_path: Path
) -> None:
    service = released / "v1/src/service.py"
    service.rename(tmp_path / "service.py")
    service.symlink_to(tmp_path / "service.py")
    assert "'src/service.py' is a link" in refused_by_bentoml(released / "v1")


# --- Signatures -----------------------------------------------------------------------------------


@pytest.fixture
def keys(homes: Path) -> tuple[Path, Path]:
    return key_pair(homes, "key")


def test_a_signed_release_is_verified_and_served_under_its_key(
    released: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    from tasks.signing import sign

    private, public = keys
    bento = released / "v1"
    sign(bento, bento / SIGNATURE, private)
    require_whole_release("toy:v1")
    require_signed_release("toy:v1", public)
    with serving(bento, tmp_path, EKIBEN_SERVE_PUBLIC_KEY=str(public)) as served:
        assert served.post("/classify", {"texts": ["good"]}).json()[0]["label"] == "one"
    require_signed_release("toy:v1", public)


def test_what_is_unsigned_or_signed_by_an_older_key_is_refused_under_a_required_one(
    released: Path, keys: tuple[Path, Path], homes: Path
) -> None:
    from tasks.signing import sign

    _, public = keys
    with pytest.raises(BentoError, match=r"is not signed, and .+key\.pub is required"):
        require_signed_release("toy:v1", public)
    older, _ = key_pair(homes, "older")
    sign(released / "v1", released / "v1" / SIGNATURE, older)
    with pytest.raises(BentoError, match="is not signed by the owner of"):
        require_signed_release("toy:v1", public)
    shown = refused_by_bentoml(released / "v1", EKIBEN_SERVE_PUBLIC_KEY=str(public))
    assert "is not signed by the owner of" in shown
    assert "Traceback" not in shown


def test_a_changed_file_with_a_new_manifest_is_still_not_what_was_signed(
    released: Path, keys: tuple[Path, Path]
) -> None:
    from tasks.signing import sign

    private, public = keys
    bento = released / "v1"
    sign(bento, bento / SIGNATURE, private)
    signature = (bento / SIGNATURE).read_bytes()
    card = json.loads((bento / "src/model/card.json").read_text())
    (bento / "src/model/card.json").write_text(json.dumps(card | {"labels": ["two", "one"]}))
    write_manifest(bento, "toy:v1")
    (bento / SIGNATURE).write_bytes(signature)
    require_whole_release("toy:v1")
    with pytest.raises(BentoError, match=r"is not signed by the owner of .+card\.json"):
        require_signed_release("toy:v1", public)


def test_a_signature_of_another_release_or_a_damaged_one_is_refused(
    released: Path, keys: tuple[Path, Path]
) -> None:
    from tasks.signing import sign

    private, public = keys
    for version in ("v1", "v2"):
        sign(released / version, released / version / SIGNATURE, private)
    shutil.copy(released / "v1" / SIGNATURE, released / "v2" / SIGNATURE)
    with pytest.raises(BentoError, match="is not signed by the owner of"):
        require_signed_release("toy:v2", public)
    for content in (
        b"",
        b"{}",
        b"null",
        b"\xff\xfe",
        (released / "v1" / SIGNATURE).read_bytes()[:-40],
    ):
        (released / "v1" / SIGNATURE).write_bytes(content)
        with pytest.raises(BentoError, match="is not signed by the owner of"):
            require_signed_release("toy:v1", public)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\n", b"\0" * 100])
def test_a_file_that_is_no_key_is_told_before_anything_is_served(
    released: Path, tmp_path: Path, content: bytes
) -> None:
    from tasks.signing import SignatureError, require_private_key

    file = tmp_path / "no.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be used as a public key"):
        require_signed_release("toy:v1", file)
    with pytest.raises(SignatureError, match="cannot be used as a private key"):
        require_private_key(file)


def test_ekiben_serve_starts_nothing_that_was_changed_or_is_not_signed(
    released: Path, keys: tuple[Path, Path]
) -> None:
    ekiben = str(Path(sys.executable).with_name("ekiben"))

    def served(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ekiben, "serve", "toy", "--port", "0", *options],
            env=environment_with(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    unsigned = served("--public-key", str(keys[1]))
    assert unsigned.returncode == 1
    assert "is not signed, and" in unsigned.stdout
    (released / "v5/README.md").write_text("# other\n")
    changed = served()
    assert changed.returncode == 1
    assert "'README.md' was changed" in changed.stdout
    assert "Traceback" not in changed.stderr + unsigned.stderr
