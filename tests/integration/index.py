"""A package index in a folder, and wheels and sdists for it, made by hand."""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, bytes]
"""Content by path inside the archive."""


def wheel(files: Files, links: Mapping[str, str] | None = None) -> bytes:
    """Return a wheel that holds the files, and symbolic links by path and target."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return sink.getvalue()


def sdist(files: Files, others: Mapping[str, tuple[bytes, str]] | None = None) -> bytes:
    """Return a source archive; `others` are links and devices: tar type and target by path."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, (kind, target) in (others or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return gzip.compress(sink.getvalue())


def write_index(folder: Path, archives: Files, *, with_digests: bool = True) -> Path:
    """Write a simple index (PEP 503) of archives by file name; each project has its own page."""
    for file, content in archives.items():
        project = folder / file.split("-")[0].replace("_", "-").lower()
        project.mkdir(parents=True, exist_ok=True)
        (project / file).write_bytes(content)
        digest = f"#sha256={hashlib.sha256(content).hexdigest()}" if with_digests else ""
        with (project / "index.html").open("a") as page:
            page.write(f'<a href="{file}{digest}">{file}</a>\n')
    return folder
