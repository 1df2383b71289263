"""Downloads, against a stand-in hub on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from neurosim_ep.data import load

COMMIT = "a" * 40
PREFIX = "/datasets/uoft-cs/cifar10/resolve/main/plain_text/"


class Hub(ThreadingHTTPServer):
    """Answers resolve requests from a folder, and keeps a list of them."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.seen: list[tuple[str, str]] = []
        self.tokens: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self) -> list[str]:
        return [path for method, path in self.seen if method == "GET" and "/resolve/" in path]


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        self.server.seen.append((self.command, self.path))
        if "Authorization" in self.headers:
            self.server.tokens.append(self.headers["Authorization"])
        file = self.server.folder / self.path.removeprefix(PREFIX)
        found = self.path.startswith(PREFIX) and file.is_file()
        body = file.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        if found:
            self.send_header("ETag", f'"{file.name}-1"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(cifar_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(cifar_dir / "cifar10")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_not_to_be_sent")
    monkeypatch.delenv("NEUROSIM_EP_DATA", raising=False)
    # What the client fixed at import leads nowhere, so nothing but the address above can answer.
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    template = nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("TQDM_POSITION", "-1")  # bars although stderr is no terminal
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its retries
    yield server
    server.shutdown()
    server.server_close()


def test_a_second_load_needs_no_download(
    hub: Hub, cifar_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load("cifar10", progress=False)
    assert sorted(hub.gets()) == [
        PREFIX + "test-00000-of-00001.parquet",
        PREFIX + "train-00000-of-00001.parquet",
    ]
    assert hub.tokens == []
    assert "parquet" not in capsys.readouterr().err
    local = load("cifar10", cifar_dir)
    assert torch.equal(first.train.images, local.train.images)
    assert torch.equal(first.test.labels, local.test.labels)
    hub.seen.clear()
    second = load("cifar10")
    assert hub.seen == []
    assert torch.equal(second.train.images, first.train.images)


def test_progress_shows_a_bar(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    load("cifar10", progress=True)
    assert "train-00000-of-00001.parquet" in capsys.readouterr().err
    assert hub.gets()


def check(error: pytest.ExceptionInfo[ValueError], hub: Hub) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in ("cifar10", hub.address, "uoft-cs/cifar10/plain_text/", "NEUROSIM_EP_DATA"):
        assert word in text


def test_a_file_the_hub_lacks_gives_one_line(hub: Hub) -> None:
    (hub.folder / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"cannot download .*404") as error:
        load("cifar10", progress=False)
    check(error, hub)


def test_a_hub_that_is_down_gives_one_line(hub: Hub) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match=r"cannot download .*refused") as error:
        load("cifar10", progress=False)
    check(error, hub)
