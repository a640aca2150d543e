"""A PostgreSQL server of Debian's package on loopback, run by a user who is not root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e_support import free_port

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
BIN = _INSTALLED[-1].parent if _INSTALLED else None


@contextmanager
def postgres() -> Iterator[str]:
    """Run a new server, whose files go with it; yield its address for Prefect."""
    with tempfile.TemporaryDirectory(prefix="ekiben-postgres-") as folder:  # pytest's are root's
        as_owner: dict[str, Any] = {"cwd": folder}
        if os.getuid() == 0:  # the server refuses to run as root
            owner = pwd.getpwnam("postgres")  # whom the package makes
            shutil.chown(folder, owner.pw_uid, owner.pw_gid)
            as_owner |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        port = free_port()
        data = ("-D", f"{folder}/data")
        _run("initdb", *data, "-U", "prefect", "-A", "trust", "-E", "UTF8", "--no-sync", **as_owner)
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        start = ("-w", "-o", settings, "-l", f"{folder}/log", "start")
        _run("pg_ctl", *data, *start, **as_owner)
        try:
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", *data, "-w", "-m", "fast", "stop", **as_owner)


def _run(program: str, *arguments: str, **options: Any) -> None:
    assert BIN is not None
    # pg_ctl hands its own output to the server, which would hold a pipe open.
    done = subprocess.run(
        [str(BIN / program), *arguments],
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=120,
        **options,
    )
    assert done.returncode == 0
