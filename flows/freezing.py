"""Freeze a test set: write this split's test rows beside the config, pinned by their digest."""

import shutil
from pathlib import Path

import yaml

from configs.errors import ConfigError
from configs.schema import PipelineConfig
from flows.checking import check_data
from tasks.digests import file_digest


def freeze(
    config: PipelineConfig, config_file: Path, output: Path | None, *, replace: bool
) -> tuple[Path, str, str]:
    """Write the test rows to a file that only its owner may read.

    Returns:
        The file, its SHA-256, and the line of the config that pins it.

    Raises:
        ConfigError: if the config has a frozen test set already, or the file is there or cannot be
            written.
        EkibenError: if the data cannot be read, is not valid, or cannot be split.
    """
    if config.split.frozen_test is not None:
        raise ConfigError(
            f"{config_file}: split.frozen_test is set already; take it out to freeze another"
        )
    file = output or config_file.parent / f"{config.name}.test.parquet"
    _require_free(file, replace=replace)
    run = check_data(config)
    assert run.split is not None
    try:
        partial = file.with_name(f".{file.name}.partial")
        partial.touch(mode=0o600)
        shutil.copyfile(run.split.path("test.parquet"), partial)
        _require_free(file, replace=replace)
        partial.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written ({error.strerror}); name another file with --output"
        ) from None
    digest = file_digest(file)
    return file, digest, _line(file, config_file, digest)


def _require_free(file: Path, *, replace: bool) -> None:
    if file.is_dir() or (file.exists() and not replace):
        raise ConfigError(
            f"{file}: is there already; name another with --output, or replace it with --force"
        )


def _line(file: Path, config_file: Path, digest: str) -> str:
    """Return the section of the config that pins the file, by a relative path if it is near."""
    place, folder = file.resolve(), config_file.resolve().parent
    told = place.relative_to(folder) if place.is_relative_to(folder) else place
    section = {"split": {"frozen_test": f"{told}#sha256={digest}"}}
    return yaml.safe_dump(section, default_flow_style=True, width=10_000).strip()[1:-1]
