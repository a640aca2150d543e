"""Secrets stay where the user put them: in no log, record, report, Bento, database or command line.

A line that releases, and lines that fail in every kind of place, run with canaries in environment
variables, addresses and keys, under one Prefect server whose database is searched byte by byte.
"""

import base64
import csv
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest
import yaml
from bucket import CREDENTIALS, ENDPOINT, serve_bucket
from canaries import canaries_in
from e2e_support import EKIBEN, Homes
from hub import serve_hub
from key_pairs import key_pair
from loopback import CLOSED, Server, serve_folder
from prefect_support import PrefectServer, prefect_server
from unsafe_models import a_pickle

from configs.loading import load_config
from configs.training import MINILM
from tasks.reading import read_rows
from tasks.sources import fetch

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
SECRETS = {
    "MAIL_PASSWORD": "cNrY01-mail%21password",
    "SHARE_TOKEN": "cNrY02-share-token",
    "SQL_PASSWORD": "cNrY03-sql-password",
    "HF_TOKEN": "hf_cNrY04hubtoken",
    "AWS_SECRET_ACCESS_KEY": "cNrY05/aws+secret/access/key",
    "AWS_SESSION_TOKEN": "cNrY06-aws-session",
    "WANDB_API_KEY": "cNrY07" + "0" * 34,
    "MLFLOW_TRACKING_PASSWORD": "cNrY08-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "cNrY09-mlflow-token",
    "OPENAI_API_KEY": "sk-cNrY10-openai",
    "GITHUB_TOKEN": "ghp_cNrY11github",
    "AZURE_STORAGE_KEY": "cNrY12-azure-storage",
    "GOOGLE_API_KEY": "cNrY13-google",
    "DATABASE_URL": "postgresql://ann:cNrY14-database@db.example/x",
    "PIP_EXTRA_INDEX_URL": "https://ann:cNrY15-index@index.example/simple",
    "SLACK_WEBHOOK": "https://hooks.example/cNrY16-slack",
    "SALT": "cNrY17-salt",
    "KEYRING_PASSPHRASE": "cNrY18-keyring",
    "FOLDER_TOKEN": "cNrY19-folder",
}
SIGN_IN = "reader:cNrY01-mail!password"
CANARIES = {
    *(f"cNrY{number:02}" for number in range(1, 20)),
    base64.b64encode(SIGN_IN.encode()).decode(),  # as a header of HTTP has it
}
ABSENT = "a" * 40


@dataclass
class Watched:
    """What a command came to: its code, all that it printed, and every command line it started."""

    code: int
    printed: str
    commands: set[str] = field(default_factory=set)


@dataclass
class Place:
    """One Prefect server, the homes of all runs, and what they read."""

    server: PrefectServer
    folder: Path
    files: Server

    def run(
        self,
        config: dict[str, Any],
        *arguments: str,
        seen: Callable[[psutil.Process], object] = lambda _: None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Watched:
        """Run `ekiben run` with the secrets set; `seen` is given its processes until it ends."""
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        log = self.folder / "printed.txt"
        with log.open("w") as printed:
            process = subprocess.Popen(
                [EKIBEN, "run", str(file), *arguments],
                env={**self.server.environment, **SECRETS, **variables},
                stdout=printed,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            commands: set[str] = set()
            watch = threading.Thread(target=_watch, args=(process, commands, seen))
            watch.start()
            code = process.wait(500)
            watch.join()
        return Watched(code, log.read_text(encoding="utf-8"), commands)

    def found(self, sought: Collection[str] = ()) -> dict[str, set[str]]:
        """Return which canaries, or others sought, are in bytes and names of all that the runs left."""
        homes, wanted = self.server.homes, [(each, each.encode()) for each in sought or CANARIES]
        found: dict[str, set[str]] = {}
        for home in (homes.ekiben, homes.bentoml, homes.prefect, self.folder / "server.log"):
            for path in [home] if home.is_file() else sorted(home.rglob("*")):
                content = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
                if canaries := {each for each, searched in wanted if searched in content}:
                    found[str(path)] = canaries
        return found


def _watch(
    process: "subprocess.Popen[bytes]", commands: set[str], seen: Callable[[psutil.Process], object]
) -> None:
    """Note the command lines of a process and all that it starts, until it ends."""
    while process.poll() is None:
        try:
            root = psutil.Process(process.pid)
            for each in [root, *root.children(recursive=True)]:
                commands.add(" ".join(each.cmdline()))
                seen(each)
        except psutil.Error:
            pass
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[Place]:
    """Start the server of Prefect and the one that rows are read from."""
    folder, served = tmp_path_factory.mktemp("secrets"), tmp_path_factory.mktemp("served")
    data = load_config(SMOKE).data
    rows = [(row.text, row.label) for row in read_rows(fetch(data.uri).path, data)][:700]
    for name, kept in (("rows.csv", rows), ("bad.csv", [(text, "?") for text, _ in rows[:20]])):
        with (served / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *kept])
    homes = Homes.under(folder / "homes", folder / "own-sources")
    homes.sources.unlink()
    shutil.copytree(sources, homes.sources)  # its own, since it is searched as well
    with (
        serve_folder(served, sign_in=SIGN_IN) as files,
        prefect_server(homes, folder / "server.log") as server,
    ):
        yield Place(server, folder, files)


def config_with(place: Place, name: str, file: str, **sections: Any) -> dict[str, Any]:
    """Return the config of a small line over a file behind a password and a token."""
    address = place.files.url.replace("://", "://reader:${MAIL_PASSWORD}@")
    return {
        "name": name,
        "data": {"uri": f"{address}/{file}?token=${{SHARE_TOKEN}}", "labels": ["ham", "spam"]},
        "training": {
            "base_model": MINILM, "num_hidden_layers": 1, "max_length": 32, "num_train_epochs": 1,
            "learning_rate": 1e-3, "device": "cpu",
        },
        "gate": {"accuracy": {"min": 0.6}, "min_test_rows": 20},
        "serving": {"forms": [], "proof_rows": 20},
    } | sections  # fmt: skip


@pytest.fixture(scope="module")
def released(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Watched, Path]:
    """Run a line to its release, signed and tracked; return what it came to and the private key."""
    private, _ = key_pair(tmp_path_factory.mktemp("keys"), "cNrY")
    config = config_with(
        place,
        "secrets",
        "rows.csv",
        release={"signing_key": str(private)},
        tracking={"report_to": ["tensorboard", "mlflow", "wandb"]},
    )
    # What MLflow and W&B would send lies in files: the canaries among their variables stay unused.
    return place.run(config, variables={"WANDB_MODE": "offline"}), private


def test_a_line_that_releases_leaves_no_secret_anywhere(
    place: Place, released: tuple[Watched, Path]
) -> None:
    ended, private = released
    assert ended.code == 0, ended.printed
    assert place.files.requests  # it was signed in to
    _require_clean(place, ended)
    assert place.found(private.read_text(encoding="ascii").splitlines()[1:-1]) == {}


def test_the_search_would_find_a_secret(place: Place) -> None:
    for name in ("db.sqlite", "cNrY07-name.txt"):
        planted = place.server.homes.prefect / name
        planted.write_bytes(b"\0\0x" + SECRETS["HF_TOKEN"].encode() + b"\0")
        assert place.found() == {str(planted): {"cNrY04"} | canaries_in(name, CANARIES)}
        planted.unlink()


def test_a_bento_that_cannot_be_proved_tells_no_secret(
    place: Place, released: tuple[Watched, Path]
) -> None:
    _, private = released
    shutil.rmtree(place.server.homes.ekiben / "steps" / "prove")
    config = config_with(place, "secrets", "rows.csv", release={"signing_key": str(private)})
    config["tracking"] = {"report_to": ["tensorboard", "mlflow", "wandb"]}
    # A key where a file of keys is meant: the service refuses to start with it.
    ended = place.run(
        config,
        variables={"WANDB_MODE": "offline", "EKIBEN_SERVE_API_KEY": SECRETS["OPENAI_API_KEY"]},
    )
    assert ended.code == 1, ended.printed
    assert "bentoml serve was not ready" in ended.printed
    _require_clean(place, ended)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"uri": "http://reader:${MAIL_PASSWORD}@127.0.0.1:9/${FOLDER_TOKEN}.csv?token=${SHARE_TOKEN}"},
            "cannot be fetched"),
        ({"uri": "FILES/rows.csv?token=${SHARE_TOKEN}"}, "cannot be fetched"),
        ({"uri": "FOLDER/${FOLDER_TOKEN}/rows.csv"}, "does not exist"),
        ({"uri": "sqlite:///FOLDER/rows.db?token=${SQL_PASSWORD}", "query": "SELECT a FROM b"},
            "no such table"),
        ({"uri": "mysql://ann:${SQL_PASSWORD}@127.0.0.1:9/x", "query": "SELECT a FROM b"},
            "driver is not installed"),
        ({"uri": f"hf://datasets/acme/mail@{ABSENT}"}, "cannot be fetched from the hub"),
        ({"uri": "s3://bucket/rows.csv"}, "cannot be fetched"),
    ],
    ids=["no host", "no sign-in", "no folder", "no table", "no driver", "hub", "S3"],
)  # fmt: skip
def test_a_source_that_refuses_is_told_of_without_a_secret(
    place: Place, data: dict[str, str], told: str
) -> None:
    (place.folder / "rows.db").touch()
    uri = data["uri"].replace("FOLDER/", f"{place.folder}/").replace("FILES", place.files.url)
    config = config_with(place, "refused", "rows.csv")
    config["data"] |= data | {"uri": uri}
    with (
        serve_hub({}, private={"datasets/acme/mail": "another"}) as hub,
        serve_bucket(place.folder) as bucket,
    ):
        settings = {**CREDENTIALS, "AWS_ACCESS_KEY_ID": "someone", **SECRETS}
        settings |= {ENDPOINT: bucket.url, "HF_ENDPOINT": hub.url}
        ended = place.run(config, variables=settings)
    assert ended.code == 1, ended.printed
    assert told in ended.printed
    _require_clean(place, ended)


def test_rows_that_do_not_pass_are_told_of_without_a_secret(place: Place) -> None:
    ended = place.run(config_with(place, "bad", "bad.csv"))
    assert ended.code == 1, ended.printed
    assert "/bad.csv" in ended.printed or "validation" in ended.printed
    _require_clean(place, ended)


def test_a_worker_that_is_killed_is_told_of_without_a_secret(place: Place) -> None:
    def kill(process: psutil.Process) -> None:
        if "tasks.worker" in process.cmdline():
            process.kill()

    config = config_with(place, "killed", "rows.csv")
    config["training"]["seed"] = 7  # so that no step is there already
    ended = place.run(config, seen=kill)
    assert ended.code == 1, ended.printed
    assert "the train worker was killed by SIGKILL" in ended.printed
    _require_clean(place, ended)


def test_a_pickle_for_a_model_is_told_of_without_a_secret(place: Place) -> None:
    model = place.folder / SECRETS["FOLDER_TOKEN"] / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "pytorch_model.bin").write_bytes(a_pickle(model))
    config = config_with(place, "pickled", "rows.csv")
    config["training"]["base_model"] = f"{place.folder}/${{FOLDER_TOKEN}}/model"
    ended = place.run(config)
    assert ended.code == 1, ended.printed
    assert "but 'pytorch_model.bin', a kind that can hold code" in ended.printed
    assert not (model.parent / "ran").exists()
    _require_clean(place, ended)


def test_a_tracker_that_refuses_is_told_of_without_a_secret(place: Place) -> None:
    config = config_with(place, "untracked", "rows.csv", tracking={"report_to": ["mlflow"]})
    config["training"]["seed"] = 8
    address = CLOSED.replace("://", f"://ann:{SECRETS['SALT']}@")
    ended = place.run(config, variables={"MLFLOW_TRACKING_URI": address})
    assert ended.code == 2, ended.printed
    assert "mlflow cannot open a run" in ended.printed
    _require_clean(place, ended)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("data.uri=https://ann:cNrY17-salt@host.example/rows.csv", "has a secret written out"),
        ("training.base_model=s3://b/x?api_key=cNrY17-salt", "write ${NAME} in its place"),
        ("data.password=cNrY17-salt", "unknown key"),
    ],
)
def test_a_secret_in_the_config_itself_is_refused_before_prefect_has_it(
    place: Place, argument: str, told: str
) -> None:
    ended = place.run(config_with(place, "open", "rows.csv"), "--set", argument)
    assert ended.code == 2, ended.printed
    assert told in ended.printed
    assert canaries_in(ended.printed, CANARIES) == set()
    assert place.found() == {}


def _require_clean(place: Place, ended: Watched) -> None:
    assert canaries_in(ended.printed, CANARIES) == set(), ended.printed
    assert {line for line in ended.commands if canaries_in(line, CANARIES)} == set()
    assert place.found() == {}
