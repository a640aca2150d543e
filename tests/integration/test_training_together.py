"""Several processes and machines that train one model: the same result as one, whatever is killed."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from toy_runs import (
    Outcome,
    codes,
    differences,
    gone_on_with,
    run,
    start,
    toy_spec,
    without_dropout,
)

from configs.errors import TrainingError
from configs.schema import PipelineConfig
from tasks.finetuning import fine_tune
from tasks.manifests import SplitManifest
from tasks.process import Processes, run_worker, tail
from tasks.progress import listening
from tasks.worker.spec import TrainSpec

ROUNDING = {"curve": 1e-6, "epochs": 1e-6, "weights": 1e-5}
UPDATES_AN_EPOCH = 4  # of 49 rows: three of 16 and one of a single row, which no process shares
ENDLESS = {"num_train_epochs": 1000}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_dropout(tiny_model, tmp_path_factory.mktemp("base") / "base")


def spec_in(folder: Path, base: Path, **settings: Any) -> TrainSpec:
    """Return a spec whose updates no number of processes divides, nor any share's parts."""
    ours = {"train_batch_size": 16, "max_tokens_per_device": 40, "class_weights": "balanced"}
    return toy_spec(folder, base, **{"num_train_epochs": 6, **ours, **settings})


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return what one process comes to; its best epoch is not the last."""
    spec = spec_in(tmp_path_factory.mktemp("alone"), base, metric_for_best_model="accuracy")
    outcome = run(spec, 1)
    assert outcome.result["best_epoch"] < len(outcome.result["epochs"]) == 6
    return outcome


def assert_the_same(one: Outcome, other: Outcome) -> None:
    found = differences(one, other)
    assert all(found[name] <= bound for name, bound in ROUNDING.items()), found
    assert one.result["best_epoch"] == other.result["best_epoch"]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_come_to_the_curve_figures_and_weights_of_one(
    alone: Outcome, base: Path, tmp_path: Path, world: int, parallel: str
) -> None:
    spec = spec_in(tmp_path, base, parallel=parallel, metric_for_best_model="accuracy")
    together = run(spec, world)
    assert together.result["device"] == f"{world} x cpu"
    assert_the_same(alone, together)


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (("ddp", 2), [("ddp", 1), ("ddp", 4)]),
        (("ddp", 1), [("ddp", 2), ("fsdp", 2)]),
        (("fsdp", 2), [("ddp", 1)]),
    ],
)
def test_a_killed_run_goes_on_with_another_number_of_processes(
    alone: Outcome,
    base: Path,
    tmp_path: Path,
    before: tuple[str, int],
    then: list[tuple[str, int]],
) -> None:
    parallel, world = before
    spec = spec_in(tmp_path, base, parallel=parallel, metric_for_best_model="accuracy")
    # Killed with epoch 4 done and half of it kept; the others end by themselves, in one line.
    assert codes(start(spec, world, dies=4)) == [-signal.SIGKILL, *[1] * (world - 1)]
    assert [path.name for path in Path(spec.output).iterdir()] == [
        f"checkpoint-{3 * UPDATES_AN_EPOCH + UPDATES_AN_EPOCH // 2}"
    ]
    for parallel, world in then:
        went_on = gone_on_with(spec, f"by-{world}-{parallel}", world, parallel=parallel)
        assert_the_same(alone, went_on)


# --- Real launches: torchrun, started by run_worker or by the stage -------------------------------


def family() -> list[psutil.Process]:
    """Return torchrun, which this process started, and the processes that it started."""
    children = psutil.Process().children()
    (torchrun,) = [child for child in children if "torch.distributed.run" in child.cmdline()]
    return [torchrun, *torchrun.children(recursive=True)]


def ranks_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that train: torchrun starts them with -u."""
    return [process for process in processes if "-u" in process.cmdline()]


def assert_all_end(processes: list[psutil.Process]) -> None:
    """Wait for the end of processes that are no children of this one; whoever is may reap them."""
    for process in processes:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            try:
                process.wait(0.5)
            except psutil.TimeoutExpired:
                continue


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def newest_of(folder: Path) -> Path:
    """Return the newest checkpoint; the one before may not have been removed yet."""
    return max(folder.glob("checkpoint-*"), key=step_of)


@pytest.fixture
def split(tmp_path: Path) -> SplitManifest:
    folder = tmp_path / "split"
    folder.mkdir()
    pairs = [("win a free prize", "spam"), ("lunch at home", "ham"), ("claim cash", "spam")] * 11
    table = pa.table({"text": [text for text, _ in pairs], "label": [name for _, name in pairs]})
    for side in ("train", "validation"):
        pq.write_table(table, folder / f"{side}.parquet")
    return SplitManifest(
        key="0" * 64, parents={}, folder=folder, files={}, rows={}, label_counts={}
    )


def config_with(base: Path, processes: int) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "toy",
            "data": {"uri": "toy.csv", "labels": ["ham", "spam"]},
            "training": {
                "base_model": str(base), "max_length": 32, "num_train_epochs": 60,
                "train_batch_size": 16, "device": "cpu", "early_stopping_patience": 100,
            },
            "launch": {"nproc_per_node": processes},
            "gate": {"accuracy": {"min": 0.5}},
        }
    )  # fmt: skip


def test_the_stage_survives_the_kill_of_a_process_and_makes_the_step_of_one(
    homes: Path, split: SplitManifest, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = Processes(each=2).environment()["OMP_NUM_THREADS"]
    killed: list[psutil.Process] = []

    def kill_one(stage: str, done: int, total: int | None, note: str) -> None:
        if stage == "validation" and done == 3:
            killed.extend(family())
            ranks = ranks_of(killed)
            assert [rank.environ()["OMP_NUM_THREADS"] for rank in ranks] == [threads] * 2
            ranks[1].kill()

    with listening(kill_one), pytest.raises(TrainingError) as told:
        fine_tune(config_with(base, 2), split)
    assert str(told.value) == (
        "the train worker ended with code 1: process 1 was killed by SIGKILL"
    )
    assert not [process for process in killed if process.is_running()]
    (staging,) = (homes / "ekiben_home/steps/finetune").glob(".*.staging")
    assert not (staging / "result.json").exists()
    checkpoint = newest_of(staging)
    for name in ("model", "best", "optimizer"):
        with safe_open(checkpoint / f"{name}.safetensors", "pt") as tensors:
            assert tensors.keys()
    steps: list[int] = []
    with listening(lambda stage, done, *_: steps.append(done) if stage == "finetune" else None):
        made = fine_tune(config_with(base, 2), split)
    assert (steps[0] > step_of(checkpoint), steps[-1]) == (True, 60 * 3)
    assert made.hardware is not None
    assert (made.device, made.hardware.threads) == ("2 x cpu", int(threads))
    steps.clear()
    with listening(lambda stage, done, *_: steps.append(done)):
        assert fine_tune(config_with(base, 1), split) == made
    assert not steps


def test_no_process_outlives_a_killed_torchrun(base: Path, tmp_path: Path) -> None:
    spec_in(tmp_path, base, **ENDLESS).write(tmp_path / "train.json")
    killed: list[psutil.Process] = []

    def kill_torchrun(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and not killed:
            killed.extend(family())
            assert len(ranks_of(killed)) == 2
            killed[0].kill()

    with pytest.raises(TrainingError, match="the train worker was killed by SIGKILL"):
        run_worker("train", tmp_path / "train.json", kill_torchrun, Processes(each=2))
    assert killed
    assert_all_end(killed)


FIRST_MACHINE = """
import logging, sys
from pathlib import Path
from configs.errors import TrainingError
from tasks.process import Processes, run_worker

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
each, machines, master = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
try:
    run_worker(
        "train",
        Path(sys.argv[1]),
        lambda event: print(event, flush=True),
        Processes(each, machines, master, 29500),
    )
except TrainingError as error:
    sys.exit(str(error))
"""


def test_no_process_outlives_the_killed_parent_of_torchrun(base: Path, tmp_path: Path) -> None:
    spec_in(tmp_path, base, **ENDLESS).write(tmp_path / "train.json")
    command = [sys.executable, "-c", FIRST_MACHINE, str(tmp_path / "train.json"), "2", "1", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        next(line for line in parent.stdout if "'event': 'epoch'" in line)
        orphans = psutil.Process(parent.pid).children(recursive=True)
        assert len(ranks_of(orphans)) == 2
        parent.kill()
        assert_all_end(orphans)


# --- Two machines: network namespaces with a cable between them -----------------------------------

MASTER = "10.77.0.1"


@pytest.fixture
def machines() -> Iterator[list[list[str]]]:
    """Yield what runs a command on each of two machines that see each other and nothing else."""
    names = [f"ekiben-{os.getpid()}-{number}" for number in (1, 2)]
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("two machines need root and `ip` (package iproute2): network namespaces")
    with ExitStack() as stack:
        for name in names:
            add = [ip, "netns", "add", name]
            made = subprocess.run(add, check=False, capture_output=True, text=True)
            if made.returncode != 0:
                pytest.skip(f"two machines need network namespaces: {made.stderr.strip()}")
            stack.callback(subprocess.run, [ip, "netns", "delete", name], check=True)
        cable = ["link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns"]
        subprocess.run([ip, "-n", names[0], *cable, names[1]], check=True)
        for number, name in enumerate(names, 1):
            for line in (
                f"addr add 10.77.0.{number}/24 dev veth0", "link set veth0 up", "link set lo up",
            ):  # fmt: skip
                subprocess.run([ip, "-n", name, *line.split()], check=True)
        yield [[ip, "netns", "exec", name] for name in names]


def first_machine(inside: list[str], spec: Path) -> "subprocess.Popen[str]":
    command = [*inside, sys.executable, "-c", FIRST_MACHINE, str(spec), "1", "2", MASTER]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def second_machine(inside: list[str], told: str, log: Path) -> "subprocess.Popen[bytes]":
    """Run on the second machine what the first one's log says."""
    command = shlex.split(told.partition("run there: ")[2])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("w") as printed:
        return subprocess.Popen(
            [*inside, *command], env=os.environ | {"PATH": path}, stdout=printed, stderr=printed
        )


def test_two_machines_train_as_one_process_and_one_that_is_lost_ends_the_other(
    machines: list[list[str]], base: Path, tmp_path: Path
) -> None:
    spec = spec_in(tmp_path, base, num_train_epochs=60, metric_for_best_model="loss")
    file, log = tmp_path / "train.json", tmp_path / "second.log"
    spec.write(file)
    with first_machine(machines[0], file) as first:
        assert first.stdout is not None and first.stderr is not None
        told = next(line for line in first.stdout if "run there: " in line)
        with second_machine(machines[1], told, log) as second:
            next(line for line in first.stdout if "'event': 'epoch'" in line)
            for process in psutil.Process(second.pid).children(recursive=True):
                process.kill()
            second.kill()
        first.stdout.read()
        ended_with = first.stderr.read()
    assert first.returncode == 1
    assert "another process of this run ended or no longer answers" in ended_with
    assert "Traceback" not in ended_with
    kept_at = step_of(newest_of(Path(spec.output)))
    with first_machine(machines[0], file) as first:
        assert first.stdout is not None
        told = next(line for line in first.stdout if "run there: " in line)
        with second_machine(machines[1], told, log) as second:
            steps = [line for line in first.stdout if "'event': 'step'" in line]
    assert (first.returncode, second.returncode) == (0, 0), tail(log)
    assert len(steps) == len([step for step in range(kept_at + 1, 241) if not step % 2])
    output = tmp_path / "alone"
    output.mkdir()
    alone = run(replace(spec, output=str(output)), 1)
    together = Outcome.of(Path(spec.output))
    assert together.result["device"] == "2 x cpu"
    assert_the_same(alone, together)
