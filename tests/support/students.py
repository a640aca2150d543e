"""A student as its stage describes it."""

from pathlib import Path

from tasks.manifests import CheckpointManifest, EpochFigures

STUDENT = CheckpointManifest(
    key="k", parents={}, folder=Path("step"), files={}, base_model="m", base_model_digest="d",
    parameters=11_000_000, device="cpu", precision="fp32", best_epoch=2, stopped_early=False,
    seconds=23.4, rows_per_second=500.0, truncated_rows=0, curve=(), teacher_layers=(0, 5),
    epochs=tuple(
        EpochFigures(epoch=n, step=n, train_loss=0.1, loss=0.1, accuracy=0.9, f1=0.9)
        for n in (1, 2, 3)
    ),
)  # fmt: skip
