"""Copy pinned models, files and splits from a Hugging Face hub: no code is run, no pickle read."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from configs.errors import SourceError
from configs.schema import reason

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class HubItem:
    """What an `hf://` address names: a model, one file, or one split of a dataset."""

    address: str
    repository: str
    commit: str
    file: str
    is_dataset: bool
    split: str

    @classmethod
    def parse(cls, address: str, split: str) -> Self:
        """Read `hf://OWNER/NAME@COMMIT[/file]` or `hf://datasets/OWNER/NAME@COMMIT[/file]`.

        Raises:
            SourceError: if it is written otherwise, or pinned to a branch or tag.
        """
        rest = address.removeprefix("hf://").rstrip("/")
        repository, _, pinned = rest.removeprefix("datasets/").partition("@")
        commit, _, file = pinned.partition("/")
        if repository.count("/") != 1 or not _COMMIT.fullmatch(commit):
            raise SourceError(
                f"{address}: expected hf://[datasets/]OWNER/NAME@COMMIT with the 40 hex digits of a "
                "commit, since a branch or tag may change under a name"
            )
        return cls(address, repository, commit, file, rest.startswith("datasets/"), split)

    @property
    def is_split(self) -> bool:
        """Return whether a whole split of a dataset is meant, not a file of it."""
        return self.is_dataset and not self.file

    @property
    def copy_address(self) -> str:
        """Return what the copy is named by: the address, and the split where that matters."""
        return f"{self.address}/{self.split}.parquet" if self.is_split else self.address

    def copy(self, target: Path) -> None:
        """Write the file, the folder of model files, or the split as Parquet to `target`.

        Raises:
            SourceError: if the hub cannot be reached or refuses, or holds nothing fit for use.
        """
        copy = self._copy_split if self.is_split else self._copy_files
        try:
            copy(target)
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  (the hub's clients raise from four libraries)
            # The client hides an unreachable hub behind "not in the local cache".
            hidden = error.__cause__ if type(error).__name__ == "LocalEntryNotFoundError" else None
            split = ", data.hf_split" if self.is_split else ""
            raise SourceError(
                f"{self.address}: cannot be fetched from the hub ({reason(hidden or error)}); check "
                f"the name, the commit{split}, HF_TOKEN for a private repository, and the network"
            ) from None

    def _copy_files(self, target: Path) -> None:
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        # A folder of its own: the user's cache may hold other files of the same commit.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            pinned: dict[str, Any] = {"revision": self.commit, "local_dir": folder}
            if self.file:
                kind = "dataset" if self.is_dataset else "model"
                hf_hub_download(self.repository, self.file, repo_type=kind, **pinned)
                (Path(folder) / self.file).rename(target)
                return
            snapshot_download(
                self.repository, allow_patterns=_MODEL_FILES, ignore_patterns="*/*", **pinned
            )
            target.mkdir()
            for file in Path(folder).iterdir():
                if file.is_file():
                    file.rename(target / file.name)
        if not any(target.glob("*.safetensors")):
            raise SourceError(
                f"{self.address}: holds no .safetensors weights, and pickled ones are never read; "
                "name a commit that has them"
            )

    def _copy_split(self, target: Path) -> None:
        import datasets

        datasets.disable_progress_bars()
        # A cache of its own: from a shared one `datasets` serves any commit that it has seen when
        # the hub refuses the one asked for. With hf:// it never takes a local folder of that name.
        with tempfile.TemporaryDirectory(dir=target.parent) as cache:
            table = datasets.load_dataset(
                f"hf://datasets/{self.repository}",
                revision=self.commit,
                split=self.split,
                cache_dir=cache,
            )
            for column, feature in table.features.items():
                if isinstance(feature, datasets.ClassLabel):
                    table = _with_names(table, column, feature.names)
            table.to_parquet(target)
            del table  # and with it the memory-mapped files of the cache


def _with_names(table: Any, column: str, names: list[str]) -> Any:
    """Return the table with the label numbers of a column as names; -1 is the hub's "unlabelled"."""
    import datasets

    def named(batch: dict[str, Any]) -> dict[str, Any]:
        numbers = batch[column]
        return {column: [None if n is None or n < 0 else names[n] for n in numbers]}

    features = datasets.Features({**table.features, column: datasets.Value("string")})
    return table.map(named, batched=True, features=features)
