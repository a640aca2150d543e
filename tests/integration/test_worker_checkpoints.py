"""Checkpoints: restored to the bit, whole or not there, with the best weights beside the newest."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tasks.worker.checkpoints import (
    TrainingState,
    drop_checkpoints,
    load_best,
    restore_checkpoint,
    save_checkpoint,
)

Weights = dict[str, torch.Tensor]


class Run:
    """A small model in training, its first layer frozen; each epoch draws from its own number."""

    def __init__(self, folder: Path, *, seed: int = 0, fused: bool = True) -> None:
        torch.manual_seed(99)
        frozen = torch.nn.Linear(4, 8).requires_grad_(False)  # the base model's, alike in all runs
        torch.manual_seed(seed)
        self.folder = folder
        self.model = torch.nn.Sequential(
            frozen,
            torch.nn.Linear(8, 8),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(8, 2),
        )
        moved = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(moved, lr=0.1, fused=fused)
        self.state = TrainingState()

    def train_one_epoch(self, best: bool = True) -> Weights:
        """Do three updates, and note whether the epoch is the best; return the weights."""
        torch.manual_seed(self.state.epoch)
        for _ in range(3):
            self.optimizer.zero_grad()
            self.model(torch.randn(16, 4)).square().mean().backward()
            self.optimizer.step()
            self.state.step += 1
        self.state.epoch += 1
        if best:
            self.state.best_epoch = self.state.epoch
        self.state.epochs.append({"epoch": self.state.epoch, "step": self.state.step})
        return self.weights()

    def save(self) -> None:
        save_checkpoint(self.folder, self.model, self.optimizer, self.state)

    def restore(self) -> None:
        self.state = restore_checkpoint(self.folder, self.model, self.optimizer)

    def weights(self) -> Weights:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def equal(one: Weights, other: Weights) -> bool:
    """Return whether two sets of weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_run_goes_on_to_the_bit_as_if_never_interrupted(
    tmp_path: Path, fused: bool
) -> None:
    straight = Run(tmp_path, fused=fused)
    straight.train_one_epoch()
    straight.save()
    saved = straight.weights()
    end = straight.train_one_epoch()

    resumed = Run(tmp_path, seed=1, fused=fused)
    assert not equal(resumed.weights(), saved)
    resumed.restore()
    assert equal(resumed.weights(), saved)
    assert (resumed.state.epoch, resumed.state.step, resumed.state.best_epoch) == (1, 3, 1)
    assert resumed.state.epochs == [{"epoch": 1, "step": 3}]
    assert equal(resumed.train_one_epoch(), end)
    assert resumed.state == straight.state


def test_the_optimizer_s_moments_are_restored(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.train_one_epoch()
    first.save()
    second = Run(tmp_path, seed=1)
    second.restore()
    before, after = (run.optimizer.state_dict()["state"] for run in (first, second))
    assert before.keys() == after.keys()
    for number in before:
        assert before[number].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert equal(before[number], after[number])


def test_a_checkpoint_holds_what_is_trained_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train_one_epoch()
    run.save()
    trained = {"1.weight", "1.bias", "3.weight", "3.bias"}
    for name in ("model", "best"):
        assert load_file(tmp_path / f"checkpoint-3/{name}.safetensors").keys() == trained


def test_only_the_process_that_leads_writes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train_one_epoch()
    save_checkpoint(tmp_path, run.model, run.optimizer, run.state, leads=False)
    assert names_in(tmp_path) == []


def test_numbers_in_the_optimizer_s_state_come_back_as_numbers(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path, seed=1)
    first.train_one_epoch()
    counted = first.optimizer.param_groups[0]["params"][0]
    first.optimizer.state[counted]["counted"] = 7  # as bitsandbytes counts its updates
    first.save()
    second.restore()
    found = second.optimizer.state[second.optimizer.param_groups[0]["params"][0]]["counted"]
    assert (type(found), found) == (int, 7)


def test_without_a_checkpoint_training_starts_anew(tmp_path: Path) -> None:
    run = Run(tmp_path)
    before = run.weights()
    run.restore()
    assert run.state == TrainingState()
    assert equal(run.weights(), before)


def test_only_the_newest_checkpoint_is_kept_and_it_is_whole(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (3, 6, 9, 12):
        run.train_one_epoch()
        run.save()
        assert names_in(tmp_path) == [f"checkpoint-{step}"]
    assert names_in(tmp_path / "checkpoint-12") == [
        "best.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_the_best_weights_outlive_the_epochs_after_them(tmp_path: Path) -> None:
    run = Run(tmp_path)
    best = run.train_one_epoch()
    run.save()
    for _ in range(3):
        newest = run.train_one_epoch(best=False)
        run.save()
    load_best(tmp_path, run.model)
    assert equal(run.weights(), best)
    run.restore()
    assert equal(run.weights(), newest)


def test_a_better_epoch_takes_the_place_of_the_best(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for best in (True, False):
        run.train_one_epoch(best)
        run.save()
    best_weights = run.train_one_epoch()
    run.save()
    run.train_one_epoch(best=False)
    run.save()
    load_best(tmp_path, run.model)
    assert equal(run.weights(), best_weights)


def test_a_partial_checkpoint_is_never_read(tmp_path: Path) -> None:
    partial = tmp_path / ".checkpoint-99.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    run = Run(tmp_path)
    run.restore()
    assert run.state == TrainingState()
    weights = run.train_one_epoch()
    run.save()
    again = Run(tmp_path, seed=1)
    again.restore()
    assert equal(again.weights(), weights)


def test_what_a_killed_save_left_does_not_hinder_the_next(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train_one_epoch()
    for name in (".checkpoint-3.partial", "checkpoint-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    run.save()
    assert names_in(tmp_path) == ["checkpoint-3"]
    again = Run(tmp_path, seed=1)
    again.restore()
    assert equal(again.weights(), run.weights())


def test_of_two_whole_checkpoints_the_later_step_is_read(tmp_path: Path) -> None:
    run = Run(tmp_path)
    while run.state.step < 9:
        run.train_one_epoch()
    run.save()
    older = (tmp_path / "checkpoint-9").rename(tmp_path / "kept")
    later = run.train_one_epoch()
    run.save()
    older.rename(tmp_path / "checkpoint-9")  # as if killed before it was dropped
    again = Run(tmp_path, seed=1)
    again.restore()
    assert again.state.step == 12
    assert equal(again.weights(), later)


def test_every_checkpoint_is_dropped_at_the_end_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train_one_epoch()
    run.save()
    (tmp_path / ".checkpoint-6.partial").mkdir()
    (tmp_path / "result.json").write_text("{}")
    drop_checkpoints(tmp_path)
    assert names_in(tmp_path) == ["result.json"]
