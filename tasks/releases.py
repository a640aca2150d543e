"""What was released: BentoML's store, the record of each release, and the champion of a pipeline."""

import os
from pathlib import Path

from pydantic import ValidationError

from configs.errors import BentoError
from configs.loading import explain
from tasks.manifests import ReleaseRecord
from tasks.steps import home


def bento_store() -> Path:
    """Return BentoML's store: `$BENTOML_HOME`, else `~/bentoml`."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser()


def record_file(tag: str) -> Path:
    """Return where the record of a release lies."""
    name, _, version = tag.partition(":")
    return home() / "releases" / name / f"{version}.json"


def read_release(tag: str) -> ReleaseRecord:
    """Return the record of a release.

    Raises:
        BentoError: if the file is damaged, or another version of Ekiben wrote it.
    """
    file = record_file(tag)
    try:
        return ReleaseRecord.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problems = explain(error, str(file))
        raise BentoError(
            f"{problems[0]}; the file is damaged or of another version of Ekiben: remove it, and "
            f"{tag} is served as before but no longer compared with"
        ) from None


def champion(pipeline: str) -> ReleaseRecord | None:
    """Return the record of the release that `latest` names, or None where there is none."""
    pointer = bento_store() / "bentos" / pipeline / "latest"
    if not pointer.exists():
        return None
    tag = f"{pipeline}:{pointer.read_text(encoding='utf-8').strip()}"
    return read_release(tag) if record_file(tag).exists() else None
