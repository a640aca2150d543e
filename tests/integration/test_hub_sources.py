"""`hf://` sources, read by the real clients, each in its own process, from a stand-in hub."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
from hub import Repositories, serve_hub
from loopback import CLOSED, Server

from tasks.quiet import SILENCE

COMMIT, OTHER, ABSENT = "a" * 40, "b" * 40, "c" * 40
TOKEN = "hf_opensesame"
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(range(256)) * 40,
    "tokenizer.json": b"{}",
    "vocab.txt": b"[PAD]\n",
}
OTHER_FORMS = {
    "pytorch_model.bin": b"a pickle",
    "training_args.bin": b"a pickle",
    "optimizer.pt": b"a pickle",
    "scaler.pkl": b"a pickle",
    "model.onnx": b"another format",
    "checkpoint-500/model.safetensors": b"not the model",
    "README.md": b"# A model",
}
CARD = b"""---
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': ham, '1': spam}}}
---
"""
MAIL = b"text,label\nLunch at noon?,0\nWIN a prize NOW,1\nnobody labelled this,-1\nnor this,\n"
PLAIN = b"text,label\nLunch at noon?,ham\n"
SEVERAL = b"""---
configs:
- {config_name: en, data_files: e.csv}
- {config_name: fr, data_files: f.csv}
---
"""
REPOSITORIES: Repositories = {
    "models/acme/tiny": {
        COMMIT: {**MODEL, **OTHER_FORMS},
        OTHER: {"config.json": b"{}", "model.safetensors": b"newer weights"},
    },
    "models/acme/pickled": {COMMIT: {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}},
    "datasets/acme/mail": {
        COMMIT: {"README.md": CARD, "data/train.csv": MAIL, "data/test.csv": PLAIN},
        OTHER: {"data/train.csv": PLAIN},
    },
    "datasets/acme/several": {COMMIT: {"README.md": SEVERAL, "e.csv": PLAIN, "f.csv": PLAIN}},
}
CLIENT = """
import json, sys

hosts = set()


def note(event, arguments):
    if event == "socket.getaddrinfo":
        hosts.add(str(arguments[0]))
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        hosts.add(arguments[1][0])


sys.addaudithook(note)
import flows  # switches telemetry off, as for every command
from configs.errors import EkibenError
from tasks.sources import fetch

outcomes = []
for step in json.load(sys.stdin):
    try:
        if "data" in step:
            from configs.schema import Data
            from tasks.ingest import read_dataset

            outcomes.append(str(read_dataset(Data(**step["data"])).path("rows.parquet")))
        else:
            outcomes.append(str(fetch(step["uri"], hf_split=step.get("split", "train")).path))
    except EkibenError as error:
        outcomes.append({"error": str(error)})
print(json.dumps({"outcomes": outcomes, "hosts": sorted(hosts)}))
"""


@dataclass(frozen=True)
class Client:
    """What a client process came to: a path or error a step, and the hosts it looked for."""

    outcomes: list[Any]
    hosts: set[str]
    printed: str

    @property
    def paths(self) -> list[Path]:
        """Return where each step's source lies; none of them failed."""
        assert all(isinstance(outcome, str) for outcome in self.outcomes), self.outcomes
        return [Path(outcome) for outcome in self.outcomes]

    @property
    def errors(self) -> list[str]:
        """Return each step's error; all of them failed."""
        assert all(isinstance(outcome, dict) for outcome in self.outcomes), self.outcomes
        return [outcome["error"] for outcome in self.outcomes]


def run_client(
    homes: Path, url: str, *steps: dict[str, Any], folder: Path | None = None, **settings: str
) -> Client:
    """Fetch or ingest each step in a new process whose hub is `url`."""
    ended = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps(steps),
        env=hub_settings(homes, url) | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    *_, last = ended.stdout.splitlines()
    told = json.loads(last)
    return Client(told["outcomes"], set(told["hosts"]), ended.stdout + ended.stderr)


def hub_settings(homes: Path, url: str) -> dict[str, str]:
    """Return this process's environment with settings of the hub's clients for `url` alone."""
    foreign = ("hf_", "huggingface_", "http_proxy", "https_proxy", "all_proxy")
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(foreign)}
    kept |= {key: os.environ[key] for key in SILENCE}
    return kept | {"HF_ENDPOINT": url, "HF_HOME": str(homes / "hf")}


def use_library(homes: Path, url: str, code: str) -> None:
    """Use the hub's clients as a user may have done before, with the same caches."""
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=hub_settings(homes, url), check=True, capture_output=True)


def assert_one_line(error: str, *parts: str) -> None:
    assert "\n" not in error
    assert len(error) < 420
    for part in parts:
        assert part in error


def copies(homes: Path) -> list[str]:
    """Return the names of all copies of sources, whole or not, locks aside."""
    sources = homes / "ekiben_home" / "sources"
    return [path.name for path in sources.iterdir() if path.suffix != ".lock"]


def asked(server: Server, name: str) -> list[str]:
    """Return the paths asked for; each is of that repository at the pinned commit."""
    paths = [path.partition("?")[0] for path in server.paths]
    for path in paths:
        if not path.startswith("/storage/"):
            assert f"/{name}/" in path
            assert COMMIT in path.split("/")
    return paths


def test_a_model_is_copied_without_pickles_at_its_commit_and_then_needs_no_hub(homes: Path) -> None:
    step = {"uri": f"hf://acme/tiny@{COMMIT}"}

    with serve_hub(REPOSITORIES) as hub:
        first = run_client(homes, hub.url, step)
    again = run_client(homes, hub.url, step)

    assert {file.name: file.read_bytes() for file in first.paths[0].iterdir()} == MODEL
    files = {path for path in asked(hub, "acme/tiny") if "/resolve/" in path}
    assert files == {f"/acme/tiny/resolve/{COMMIT}/{name}" for name in MODEL}
    assert first.hosts <= {"127.0.0.1", "localhost", "::1"}
    assert again.paths == first.paths
    assert again.hosts == set()


def test_other_files_in_the_users_cache_do_not_enter_the_copy(homes: Path) -> None:
    """Transformers and others share that cache; the digest must not depend on what they did."""
    with serve_hub(REPOSITORIES) as hub:
        get = f"huggingface_hub.snapshot_download('acme/tiny', revision='{COMMIT}')"
        use_library(homes, hub.url, f"import huggingface_hub; {get}")
        client = run_client(homes, hub.url, {"uri": f"hf://acme/tiny@{COMMIT}"})

    assert list((homes / "hf").rglob("pytorch_model.bin"))
    assert {file.name for file in client.paths[0].iterdir()} == set(MODEL)


def test_one_file_of_a_dataset_is_copied_as_it_is_with_two_requests(homes: Path) -> None:
    path = f"acme/mail@{COMMIT}/data/train.csv"

    with serve_hub(REPOSITORIES) as hub:
        client = run_client(homes, hub.url, *[{"uri": f"hf://datasets/{path}"}] * 2)

    assert {file.name for file in client.paths} == {"train.csv"}
    assert {file.read_bytes() for file in client.paths} == {MAIL}
    assert asked(hub, "acme/mail") == [f"/datasets/acme/mail/resolve/{COMMIT}/data/train.csv"] * 2
    assert [request.method for request in hub.requests] == ["HEAD", "GET"]


def test_a_whole_split_has_label_names_for_numbers_and_comes_from_the_hub_alone(
    homes: Path,
) -> None:
    local = homes / "acme" / "mail"  # which `datasets` would take for the hub's
    local.mkdir(parents=True)
    (local / "train.csv").write_text("text,label\nfrom a folder here,0\n")
    uri = f"hf://datasets/acme/mail@{COMMIT}"
    named = {"uri": uri, "labels": ["ham", "spam"]}
    numbered = {"uri": f"{uri}/data/train.csv", "labels": {"0": "ham", "1": "spam"}}

    with serve_hub(REPOSITORIES) as hub:
        steps: list[dict[str, Any]] = [{"data": named}, {"uri": uri}, {"data": numbered}]
        client = run_client(homes, hub.url, *steps, folder=homes)
    again = run_client(homes, hub.url, {"uri": uri})

    rows, split, rows_of_file = client.paths
    labelled = [("Lunch at noon?", "ham"), ("WIN a prize NOW", "spam")]
    unlabelled = ["nobody labelled this", "nor this"]
    assert read_rows(rows, homes) == [*labelled, *((text, None) for text in unlabelled)]
    assert read_rows(rows_of_file, homes)[:2] == labelled
    assert split.name == "train.parquet"
    assert all(
        path.startswith((f"/datasets/acme/mail/resolve/{COMMIT}/", "/api/datasets/acme/mail/"))
        for path in asked(hub, "acme/mail")
    )
    assert client.hosts == {"127.0.0.1"}
    assert again.paths == [split]
    assert again.hosts == set()


def test_a_commit_that_the_hub_withholds_is_never_replaced_by_one_seen_before(homes: Path) -> None:
    """`datasets` falls back on any commit in its cache when the hub refuses; a pin must hold."""
    wanted = f"hf://datasets/acme/mail@{COMMIT}"
    with serve_hub(REPOSITORIES) as hub:
        load = f"datasets.load_dataset('acme/mail', revision='{OTHER}')"
        use_library(homes, hub.url, f"import datasets; {load}")
    with serve_hub(REPOSITORIES, private={"datasets/acme/mail": TOKEN}) as hub:
        client = run_client(homes, hub.url, {"uri": wanted})

    assert list((homes / "hf" / "datasets").rglob("*.arrow"))
    assert_one_line(client.errors[0], wanted, "doesn't exist on the Hub or cannot be accessed")


def test_a_token_opens_a_private_repository_and_is_told_to_nobody_else(homes: Path) -> None:
    private = {"models/acme/tiny": TOKEN, "datasets/acme/mail": TOKEN}
    steps = [
        {"uri": f"hf://acme/tiny@{COMMIT}"},
        {"uri": f"hf://datasets/acme/mail@{COMMIT}/data/train.csv"},
        {"uri": f"hf://datasets/acme/mail@{COMMIT}"},
    ]

    with serve_hub(REPOSITORIES, private=private) as hub:
        refused = run_client(homes, hub.url, *steps[:2])
        wrong = run_client(homes, hub.url, *steps[:2], HF_TOKEN="hf_wrong")
        without = len(hub.requests)
        opened = run_client(homes, hub.url, *steps, HF_TOKEN=TOKEN)

    for error in refused.errors + wrong.errors:
        assert_one_line(
            error, "cannot be fetched from the hub", "HF_TOKEN for a private repository"
        )
    assert [path.name for path in opened.paths] == [f"tiny_{COMMIT}", "train.csv", "train.parquet"]
    for request in hub.requests[without:]:
        is_storage = request.path.startswith("/storage/")
        assert request.authorization == (None if is_storage else f"Bearer {TOKEN}")
    for client in (refused, wrong, opened):
        assert TOKEN not in client.printed
        assert "hf_wrong" not in client.printed
    assert not [file for file in homes.rglob("*.json") if TOKEN in file.read_text()]


REFUSALS = {
    f"hf://acme/tiny@{ABSENT}": ("Revision Not Found", "check the name, the commit"),
    f"hf://acme/absent@{COMMIT}": ("Repository Not Found", "check the name"),
    f"hf://acme/pickled@{COMMIT}": ("no .safetensors", "name a commit that has them"),
    f"hf://datasets/acme/mail@{COMMIT}/absent.csv": ("Entry Not Found", "check the name"),
    f"hf://datasets/acme/mail@{ABSENT}/data/train.csv": ("Revision Not Found", "the commit"),
    f"hf://datasets/acme/mail@{ABSENT}": (f"Revision '{ABSENT}' doesn't exist", "the commit"),
    f"hf://datasets/acme/absent@{COMMIT}": ("'acme/absent' doesn't exist", "check the name"),
    f"hf://datasets/acme/several@{COMMIT}": ("Config name is missing", "['en', 'fr']"),
    "hf://acme/tiny@main": ("40 hex digits", "a branch or tag may change"),
    "hf://acme/tiny@v1.0": ("40 hex digits", "a branch or tag may change"),
    f"hf://acme/tiny@{COMMIT[:12]}": ("40 hex digits", "OWNER/NAME@COMMIT"),
    "hf://acme/tiny": ("40 hex digits", "OWNER/NAME@COMMIT"),
    f"hf://tiny@{COMMIT}": ("40 hex digits", "OWNER/NAME@COMMIT"),
    f"hf://datasets/mail@{COMMIT}/data/train.csv": ("40 hex digits", "OWNER/NAME@COMMIT"),
}


def test_what_the_hub_does_not_have_is_told_in_one_line_with_a_cure(homes: Path) -> None:
    steps: list[dict[str, Any]] = [{"uri": uri} for uri in REFUSALS]
    steps.append({"uri": f"hf://datasets/acme/mail@{COMMIT}", "split": "absent"})
    expected = [*REFUSALS.items(), (steps[-1]["uri"], ('Unknown split "absent"', "data.hf_split"))]

    with serve_hub(REPOSITORIES) as hub:
        client = run_client(homes, hub.url, *steps)

    for (uri, parts), error in zip(expected, client.errors, strict=True):
        assert_one_line(error, uri, *parts)
    assert not [request for request in hub.requests if request.path.endswith(".bin")]
    assert copies(homes) == []


@pytest.mark.parametrize("path", [f"acme/tiny@{COMMIT}", f"datasets/acme/mail@{COMMIT}/data/a.csv"])
def test_a_hub_out_of_reach_is_told_in_one_line(path: str, homes: Path) -> None:
    client = run_client(homes, CLOSED, {"uri": f"hf://{path}"}, HF_HUB_OFFLINE="1")

    assert_one_line(client.errors[0], path, "cannot be fetched from the hub", "and the network")
    assert client.hosts == set()
    assert copies(homes) == []


def read_rows(file: Path, homes: Path) -> list[tuple[str, str | None]]:
    """Return text and label of each row, through a table that `datasets` maps from disk."""
    table = datasets.Dataset.from_parquet(str(file), cache_dir=str(homes / "opened"))
    assert table.cache_files
    return list(zip(table["text"], table["label"], strict=True))
