"""The servers that the serving benchmark compares: how each is started, asked and measured."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import family_of, request_of
from tasks.process import child, environment_with
from tasks.serving import free_port

RIVALS = Path(__file__).with_name("rivals")
_SECONDS_TO_START = 180.0


@dataclass
class Contestant:
    """A server: the command that starts it on a port, its environment, and the body of a request."""

    name: str
    command: list[str]
    body: str
    """`text`, `texts` or `infinity`: how a request holds its one text."""
    variables: dict[str, str] = field(default_factory=dict)
    path: str = "/classify"
    port: int = 0
    process: psutil.Process | None = None
    first_answer: float = 0.0

    def request(self, text: str) -> bytes:
        """Return the bytes of a request for one text."""
        return request_of(self.content(text), self.path, self.port)

    def content(self, text: str) -> dict[str, Any]:
        """Return the JSON of a request for one text."""
        if self.body == "infinity":
            return {"model": "served", "input": [text]}
        return {"text": text} if self.body == "text" else {"texts": [text]}

    @contextmanager
    def started(self, folder: Path) -> Iterator[None]:
        """Run it, from the first answer on; the seconds to that are noted."""
        self.port = free_port()
        command = [part.replace("PORT", str(self.port)) for part in self.command]
        log = folder / f"{self.name.replace(' ', '-')}.log"
        # Where one waits for the others to be measured, it takes nothing of the processor.
        environment = environment_with(BENTOML_HOME=str(folder / "store"), **self.variables)
        began = time.perf_counter()
        with child(command, log, environment) as process:
            self._answer(process, log, began)
            self.process = psutil.Process(process.pid)
            try:
                yield
            finally:
                self.wake()

    def _answer(self, process: "subprocess.Popen[str]", log: Path, began: float) -> None:
        while True:
            with suppress(httpx.TransportError):
                url = f"http://127.0.0.1:{self.port}{self.path}"
                answer = httpx.post(url, json=self.content("Hello"), timeout=60.0)
                if answer.status_code == 200:
                    break
                if answer.status_code in (400, 404, 422):
                    raise RuntimeError(f"{self.name} refuses a request: {answer.text}")
            if process.poll() is not None or time.perf_counter() - began > _SECONDS_TO_START:
                raise RuntimeError(f"{self.name} does not answer; see {log.read_text()[-2000:]}")
            time.sleep(0.05)
        self.first_answer = time.perf_counter() - began

    def sleep(self) -> None:
        """Stop its processes."""
        assert self.process is not None
        for process in family_of(self.process):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def wake(self) -> None:
        """Let its processes go on."""
        assert self.process is not None
        for process in family_of(self.process):
            with suppress(psutil.NoSuchProcess):
                process.resume()


def bentoml_rival(name: str, rival: str, service: str, body: str, model: Path) -> Contestant:
    """Return one of BentoML's documented services."""
    command = [
        *(sys.executable, "-m", "bentoml", "serve", f"bentoml_documented:{service}"),
        *("--working-dir", str(RIVALS), "--host", "127.0.0.1", "--port", "PORT"),
    ]
    return Contestant(name, command, body, {"RIVAL": rival, "MODEL": str(model)})


def litserve(name: str, rival: str, model: Path, service: Path, cache: Path) -> Contestant:
    """Return LitServe, in an environment of its own beside this one's packages."""
    python = beside(cache / "litserve", ["litserve"])
    command = [python, str(RIVALS / "litserve_documented.py"), "PORT"]
    variables = {"RIVAL": rival, "MODEL": str(model), "SERVICE": str(service)}
    return Contestant(name, command, "text", variables, path="/predict")


def infinity(model: Path, cache: Path) -> Contestant:
    """Return infinity, in an environment of its own, since it asks for other versions."""
    python = alone(cache / "infinity", ["infinity-emb[server,torch]", f"torch=={_own('torch')}"])
    command = [
        *(str(Path(python).with_name("infinity_emb")), "v2", "--model-id", str(model)),
        *("--served-model-name", "served", "--engine", "torch", "--device", "cpu"),
        *("--port", "PORT", "--host", "127.0.0.1", "--no-bettertransformer"),
    ]
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return Contestant("infinity", command, "infinity", offline)


def ours(name: str, bento: Path) -> Contestant:
    """Return a Bento of Ekiben under `bentoml serve`."""
    command = [sys.executable, "-m", "bentoml", "serve", str(bento)]
    command += ["--host", "127.0.0.1", "--port", "PORT"]
    return Contestant(name, command, "texts")


@dataclass
class Ceiling:
    """The engine alone in a process, which measures when it is asked to."""

    process: "subprocess.Popen[str]"

    def measure(self, seconds: float) -> dict[str, float]:
        """Return texts a second and the processor's time a text, in ms."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        told: dict[str, float] = json.loads(self.process.stdout.readline())
        return told


@contextmanager
def ceiling(service: Path, model: Path, texts: Sequence[str], folder: Path) -> Iterator[Ceiling]:
    """Start the engine alone."""
    file = folder / "texts.json"
    file.write_text(json.dumps(list(texts)), encoding="utf-8")
    command = [sys.executable, str(RIVALS / "ceiling.py"), str(model), str(file)]
    environment = environment_with(PYTHONPATH=str(service))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        found = Ceiling(process)
        found.measure(0.5)
        yield found
        assert process.stdin is not None
        process.stdin.close()


def beside(folder: Path, packages: list[str]) -> str:
    """Return the Python of an environment that has these packages beside those of this one."""
    if not (folder / "made").exists():
        python = _environment(folder)
        site = Path(next(path for path in sys.path if path.endswith("site-packages")))
        (own,) = (folder / "lib").glob("python*/site-packages")
        (own / "beside.pth").write_text(f"{site}\n", encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "made").touch()
    return str(folder / "bin" / "python")


def alone(folder: Path, packages: list[str]) -> str:
    """Return the Python of an environment that has these packages alone."""
    if not (folder / "made").exists():
        python = _environment(folder)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "made").touch()
    return str(folder / "bin" / "python")


def _environment(folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return str(folder / "bin" / "python")


def _own(package: str) -> str:
    from importlib.metadata import version

    return version(package).partition("+")[0]


@contextmanager
def all_started(contestants: Sequence[Contestant], folder: Path) -> Iterator[None]:
    """Start all, one after the other, and let each sleep until it is measured."""
    with ExitStack() as stack:
        for contestant in contestants:
            stack.enter_context(contestant.started(folder))
            contestant.sleep()
        yield


def megabytes(requirements: Sequence[str]) -> float:
    """Return the size of installed packages, given as `name==version`, in MB."""
    from importlib.metadata import files

    total = 0
    for line in requirements:
        for file in files(line.partition("==")[0]) or []:
            with suppress(OSError):
                total += Path(file.locate()).stat().st_size
    return total / 1e6
