"""The baseline: its words by script, its terms, and its export, which scores as scikit-learn does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from configs.errors import TrainingError
from configs.schema import Evaluation, PipelineConfig
from tasks.baseline import baseline_model, exported, fit_baseline, stop_words_of
from tasks.linear import FILE, Array, Linear, read_linear
from tasks.manifests import SplitManifest
from tasks.requirements import MODULES_OF
from tasks.words import words

BENTO = Path(__file__).resolve().parents[2] / "bentos" / "text_classifier"

ENGLISH = [
    ("Free entry! Win a prize, win cash now", 1),
    ("WIN a free phone, text now to claim", 1),
    ("claim your free prize today", 1),
    ("are we still on for lunch today", 0),
    ("lunch at home, see you then", 0),
    ("see you at the station at six", 0),
    ("the parcel is late, where is it", 2),
    ("my parcel came broken", 2),
    ("no parcel today", 2),
]
CHINESE = [
    ("质量非常好，喜欢", 1),
    ("这个很好用，PC 也好", 1),
    ("味道非常好吃", 1),
    ("质量非常差", 0),
    ("这个很难用，退货", 0),
    ("味道非常难吃", 0),
    ("の", 2),
    ("とても良い本", 2),
    ("本を買う", 2),
]
TABLES = {"english": ENGLISH, "chinese": CHINESE}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("free entry, win £5 now!", ["free", "entry", "win", "5", "now"]),
        ("это хорошая книга", ["это", "хорошая", "книга"]),
        (
            "meet me at 北京 station tomorrow ok",
            ["meet", "me", "at", "北京", "station", "tomorrow", "ok"],
        ),
        ("这个产品的质量非常好，喜欢！", ["这个", "产品", "的", "质量", "非常", "好", "喜欢"]),
        ("我爱python", ["我爱python"]),
        ("我用python编程和学习", ["我用", "python", "编程", "和", "学习"]),
        ("とても良い本", ["とて", "ても", "も良", "良い", "い本"]),
        ("PC を買う", ["PC", "を買", "買う"]),
        ("の", ["の"]),
        ("!? ...", []),
        ("", []),
    ],
)
def test_words_are_cut_as_the_script_needs(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text())
def test_every_word_stands_in_the_text(text: str) -> None:
    assert all(word and word in text for word in words(text))


# --- The export against scikit-learn --------------------------------------------------------------


def scikit_learns_own(stop_words: frozenset[str]) -> Any:
    """Return the baseline as scikit-learn alone would have it, fitted by nothing of ours."""
    return make_pipeline(
        TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            token_pattern=None,
            tokenizer=lambda text: [word for word in words(text) if word not in stop_words],
        ),
        LogisticRegression(C=10.0, max_iter=1000, random_state=0),
    )


def probabilities_of(linear: Linear, texts: list[str]) -> Array:
    powers = np.exp(linear.logits(texts, words))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


class Pair:
    """scikit-learn's own model and our export of ours, fitted on the same rows."""

    def __init__(self, table: str, n_labels: int, language: str) -> None:
        rows = [(text, label) for text, label in TABLES[table] if label < n_labels]
        self.texts, labels = [text for text, _ in rows], [label for _, label in rows]
        stop_words = stop_words_of(language)
        self.theirs = scikit_learns_own(stop_words).fit(self.texts, labels)
        fitted = baseline_model("none", 0, stop_words).fit(self.texts, labels)
        self.ours = exported(fitted, n_labels, stop_words)

    def largest_difference(self, texts: list[str]) -> float:
        theirs = self.theirs.predict_proba(texts)
        return float(np.abs(probabilities_of(self.ours, texts) - theirs).max())


PAIRS = {
    (table, n_labels, language): Pair(table, n_labels, language)
    for table, own in (("english", "en"), ("chinese", "zh"))
    for n_labels in (2, 3)
    for language in ("none", own)
}
pairs = pytest.mark.parametrize(
    "pair", PAIRS.values(), ids=["-".join(map(str, key)) for key in PAIRS]
)
PIECES = st.sampled_from(
    [word for table in TABLES.values() for text, _ in table for word in words(text.lower())]
    + ["WIN", "Free,", "unseen", "。", "北", "\u0130", "ß", " ", "\n"]
)
TEXTS = st.one_of(
    st.text(), st.lists(PIECES, max_size=12).map(" ".join), st.lists(PIECES).map("".join)
)


@pairs
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_the_export_gives_the_probabilities_of_scikit_learn(pair: Pair, texts: list[str]) -> None:
    assert pair.largest_difference(texts) < 1e-9


@pairs
def test_the_export_gives_them_on_what_it_was_fitted_on_and_they_differ(pair: Pair) -> None:
    assert pair.largest_difference(pair.texts) < 1e-9
    assert np.ptp(probabilities_of(pair.ours, pair.texts)[:, 0]) > 0.1


@given(TEXTS)
def test_terms_are_scikit_learns_unigrams_and_bigrams(text: str) -> None:
    stop_words = frozenset({"the", "at", "的"})
    theirs = scikit_learns_own(stop_words)[0].build_analyzer()
    assert baseline_model("none", 0, stop_words)[0].build_analyzer()(text) == theirs(text)


def test_a_label_without_train_rows_has_a_probability_of_0_and_its_place() -> None:
    texts, labels = [text for text, _ in ENGLISH[:6]], [3 * label for _, label in ENGLISH[:6]]
    fitted = baseline_model("none", 0).fit(texts, labels)
    shares = probabilities_of(exported(fitted, 5), texts)
    assert np.abs(shares[:, [0, 3]] - fitted.predict_proba(texts)).max() < 1e-9
    assert shares[:, [1, 2, 4]].max() == 0.0
    three = baseline_model("none", 0).fit(
        [text for text, _ in ENGLISH], [label + 1 for _, label in ENGLISH]
    )
    shares = probabilities_of(exported(three, 4), texts)
    assert np.abs(shares[:, 1:] - three.predict_proba(texts)).max() < 1e-9
    assert shares[:, 0].max() == 0.0


def test_chinese_that_shares_words_but_no_run_is_told_apart() -> None:
    shares = probabilities_of(PAIRS["chinese", 2, "none"].ours, ["服务很好", "服务很难"])
    assert shares.argmax(axis=1).tolist() == [1, 0]


def test_a_stop_word_is_no_feature() -> None:
    texts, labels = ["the lunch", "the lunch", "lunch", "lunch"], [1, 1, 0, 0]

    def shares(stop_words: frozenset[str]) -> Array:
        fitted = baseline_model("none", 0, stop_words).fit(texts, labels)
        return probabilities_of(exported(fitted, 2, stop_words), ["the lunch", "lunch"])

    every = shares(frozenset())
    assert every.argmax(axis=1).tolist() == [1, 0]
    left = shares(stop_words_of("en"))
    assert (left[0] == left[1]).all()


@pytest.mark.parametrize("language", ["none", "en", "zh", "ja"])
def test_stop_words_are_named_by_language(language: str) -> None:
    assert Evaluation(baseline_stop_words=language).baseline_stop_words == language
    assert bool(stop_words_of(language)) == (language != "none")


@pytest.mark.parametrize("language", ["xx", "english", "EN", ""])
def test_a_language_without_stop_words_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match=r"no stop words are known|should match pattern"):
        Evaluation(baseline_stop_words=language)


# --- The files of the export ----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that holds the export of three labels with Chinese stop words."""
    PAIRS["chinese", 3, "zh"].ours.write(tmp_path)
    return tmp_path


@pairs
def test_what_is_written_is_read_back_bit_by_bit(pair: Pair, tmp_path: Path) -> None:
    pair.ours.write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    read = read_linear(tmp_path, len(pair.ours.intercept))
    for field in fields(Linear):
        assert (getattr(read, field.name) == getattr(pair.ours, field.name)).all()
    texts = [*pair.texts, "unseen", ""]
    assert (read.logits(texts, words) == pair.ours.logits(texts, words)).all()


def with_arrays(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        arrays = {name: array.copy() for name, array in load_file(folder / FILE).items()}
        change(arrays)
        save_file(arrays, folder / FILE)

    return spoil


def bytes_of(content: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / FILE).write_bytes(content)

    return spoil


def missing(folder: Path) -> None:
    (folder / FILE).unlink()


def cut_short(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-9])


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (missing, r"cannot be read \(FileNotFoundError\)"),
    "a pickle": (bytes_of(b"\x80\x04N."), "cannot be read"),
    "nothing": (bytes_of(b""), "cannot be read"),
    "cut short": (cut_short, "cannot be read"),
    "a term less": (
        with_arrays(lambda arrays: arrays.update(terms=arrays["terms"][1:].copy())), "expected"
    ),
    "a term twice": (
        with_arrays(lambda arrays: arrays["terms"].__setitem__(0, arrays["terms"][1])),
        "names a term twice",
    ),
    "terms by another type": (
        with_arrays(lambda arrays: arrays.update(terms=arrays["terms"].astype(np.float64))),
        r"'terms': \('float64', .* expected .*'terms': \('uint64', ",
    ),
    "stop words in a table": (
        with_arrays(lambda arrays: arrays.update(stop_words=arrays["stop_words"][None].copy())),
        "'stop_words': .* expected",
    ),
    "no stop words": (with_arrays(lambda arrays: arrays.pop("stop_words")), "expected"),
    "an array less": (with_arrays(lambda arrays: arrays.pop("idf")), "expected"),
    "an array more": (with_arrays(lambda arrays: arrays.update(bias=np.zeros(1))), "'bias'"),
    "weights the other way": (
        with_arrays(lambda arrays: arrays.update(weights=arrays["weights"].T.copy())), "expected"
    ),
    "half as exact": (
        with_arrays(lambda arrays: arrays.update(idf=arrays["idf"].astype(np.float32))),
        "'idf': .'float32'",
    ),
    "not a number": (
        with_arrays(lambda arrays: arrays["weights"].__setitem__((0, 0), np.nan)),
        "weights is not finite",
    ),
    "infinite": (
        with_arrays(lambda arrays: arrays["intercept"].__setitem__(0, np.inf)),
        "intercept is not finite",
    ),
    "no weight": (
        with_arrays(lambda arrays: arrays["idf"].__setitem__(0, 0.0)), "idf is not above 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_an_export_that_is_not_whole_is_refused(folder: Path, case: str) -> None:
    spoil, words_of_it = SPOILT[case]
    assert read_linear(folder, 3)
    spoil(folder)
    with pytest.raises(ValueError, match=words_of_it) as told:
        read_linear(folder, 3)
    assert str(told.value).endswith("export the model anew")


def test_no_word_of_the_rows_stands_in_the_export(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    found = {word.encode() for text, _ in CHINESE for word in words(text)}
    long = {word for word in found if len(word) >= 6}  # a short one may stand there by chance
    assert long
    assert [word for word in long if word in content] == []


def test_an_export_of_other_labels_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"expected .*'intercept': .'float64', \(2,\)"):
        read_linear(folder, 2)


# --- The stage ------------------------------------------------------------------------------------

CONFIG = PipelineConfig.model_validate(
    {
        "name": "tried",
        "data": {"uri": "rows.csv", "labels": ["ham", "spam"]},
        "evaluation": {"baseline_stop_words": "en"},
        "gate": {"accuracy": {"min": 0.5}},
    }
)


def split_of(folder: Path, rows: list[tuple[str, str]]) -> SplitManifest:
    """Return a manifest of a split that has these train rows and no others."""
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    folder.mkdir()
    pq.write_table(table, folder / "train.parquet")
    return SplitManifest(
        key="1" * 64, parents={}, folder=folder, files={}, rows={}, label_counts={}
    )


def test_the_stage_exports_the_model_of_its_config_and_reuses_it(homes: Path) -> None:
    rows = [(text, ["ham", "spam"][label]) for text, label in ENGLISH if label < 2]
    split = split_of(homes / "split", rows)
    made = fit_baseline(CONFIG, split)
    assert set(made.files) == {f"model/{FILE}"}
    assert (made.kind, made.base_model, made.epochs) == ("linear", "none", ())
    texts = [text for text, _ in rows]
    read = read_linear(made.path("model"), 2)
    own = scikit_learns_own(stop_words_of("en")).fit(texts, [label == "spam" for _, label in rows])
    assert np.abs(probabilities_of(read, texts) - own.predict_proba(texts)).max() < 1e-9
    assert made.parameters == 2 * len(read.terms) + 2
    shutil.rmtree(homes / "split")  # a second fit would miss it
    assert fit_baseline(CONFIG, split) == made


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("!!!", "ham"), ("...", "spam")] * 3, "empty vocabulary"),
        ([("the lunch", "ham"), ("win", "ham")], "at least 2 classes"),
    ],
)
def test_rows_that_nothing_can_be_learned_from_are_an_error_in_words(
    homes: Path, rows: list[tuple[str, str]], why: str
) -> None:
    with pytest.raises(TrainingError, match=f"the baseline cannot be fitted on the .*{why}"):
        fit_baseline(CONFIG, split_of(homes / "split", rows))


# --- The service ----------------------------------------------------------------------------------

CLASSIFY = """
import json, sys
from pathlib import Path
from engine import Engine

answers = Engine(Path("model")).classify(json.load(sys.stdin))
heavy = {"bentoml", "sklearn", "scipy", "tasks", "torch", "transformers"} & set(sys.modules)
print(json.dumps([[[x.probabilities, x.truncated] for x in answers], sorted(heavy)]))
"""


@pairs
def test_the_service_s_engine_gives_the_same_with_numpy_and_safetensors_alone(
    pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    pair.ours.write(tmp_path / "model")
    labels = list("abc")[: len(pair.ours.intercept)]
    untouched = {"scale": [1.0] * len(labels), "bias": [0.0] * len(labels)}
    card = {"kind": "linear", "labels": labels, "calibration": untouched, "abstention": None}
    (tmp_path / "model" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    for name in ("engine.py", *MODULES_OF["linear"]):
        shutil.copyfile(BENTO / name, tmp_path / name)
    ended = subprocess.run(
        [sys.executable, "-c", CLASSIFY], input=json.dumps([*pair.texts, "unseen"]),
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    answers, heavy = json.loads(ended.stdout)
    assert heavy == []
    given = np.array([probabilities for probabilities, _ in answers])
    assert np.abs(given - pair.theirs.predict_proba([*pair.texts, "unseen"])).max() < 1e-9
    assert not any(truncated for _, truncated in answers)
