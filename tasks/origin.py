"""Where a release comes from: from its tag back to data, config, code, decision and proof."""

import json
from typing import Any

from tasks.digests import value_digest
from tasks.history import read_history
from tasks.integrity import read_manifest
from tasks.releases import champion_tag, place_of, read_release, require_as_released


def trace(tag: str) -> dict[str, Any]:
    """Return all that a release was made of, read from its record and from the Bento itself.

    Raises:
        BentoError: if there is no such release, its files are not those that were released, or the
            record names another Bento than the one in the store.
    """
    record = read_release(tag)
    require_as_released(record)
    place = place_of(tag)
    manifest = read_manifest(place)
    decided = json.loads((place / "decision.json").read_text(encoding="utf-8"))
    proof = json.loads((place / "proof.json").read_text(encoding="utf-8"))
    card = json.loads((place / "src" / "model" / "card.json").read_text(encoding="utf-8"))
    requirements = (
        (place / "env" / "python" / "requirements.txt").read_text(encoding="utf-8").split()
    )
    return {
        "tag": tag,
        "champion": champion_tag(record.pipeline) == tag,
        "released_at": record.released_at,
        "history": [
            told.model_dump(mode="json")
            for told in read_history(record.pipeline)
            if tag in (told.tag, told.instead_of)
        ],
        "data": {"uri": record.config["data"]["uri"], "digest": record.digests["dataset"]},
        "split": record.digests["split"],
        "config": record.digests["config"],
        "code": {"ekiben": decided["ekiben"], "digest": decided["code"]},
        "requirements": {"packages": len(requirements), "digest": value_digest(requirements)},
        "model": {
            "kind": card["kind"],
            "base_model": card["base_model"],
            "digest": record.digests["checkpoint"],
        },
        "decision": {
            "verdict": record.decision.verdict,
            "forced": record.decision.forced,
            "digest": record.digests["decision"],
        },
        "proof": {
            "rows_replayed": proof["rows_replayed"],
            "labels_equal": proof["labels_equal"],
            "digest": record.digests["proof"],
        },
        "files": {"number": len(manifest["files"]), "manifest": manifest["digest"]},
    }
