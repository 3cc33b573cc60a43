"""Downloading by the hub's real client, from a server on this machine that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unfade.backbones.hub import cached, download, is_hub_id
from unfade.backbones.manifest import Manifest
from unfade.backbones.wan_folder import open_wan
from unfade.core import ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "somebody/small-wan"


class Hub:
    """A hub with one model; remembers which files were asked for."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
        }
        self.fetched: list[str] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == f"/api/models/{HUB_ID}/revision/main":
                    self.tell({"id": HUB_ID, "sha": COMMIT, "siblings": []})
                elif path.startswith(f"/api/models/{HUB_ID}/revision/"):
                    self.refuse("RevisionNotFound")
                elif path == f"/api/models/{HUB_ID}/tree/{COMMIT}":
                    self.tell([outer.entry(name) for name in outer.files])
                elif path.startswith(f"/{HUB_ID}/resolve/{COMMIT}/"):
                    self.give(path.split(f"{COMMIT}/")[1])
                else:
                    self.refuse("RepoNotFound")

            def tell(self, answer: object) -> None:
                self.send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

            def give(self, name: str) -> None:
                if self.command == "GET":
                    outer.fetched.append(name)
                data = outer.files[name].read_bytes()
                self.send(data, {"ETag": f'"{outer.blob(name)}"', "X-Repo-Commit": COMMIT})

            def refuse(self, code: str) -> None:
                self.send(b"", {"X-Error-Code": code, "X-Error-Message": code}, 404)

            def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def blob(self, name: str) -> str:
        data = self.files[name].read_bytes()
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def entry(self, name: str) -> dict[str, object]:
        told: dict[str, object] = {
            "type": "file",
            "path": name,
            "oid": hashlib.sha1(name.encode()).hexdigest(),
            "size": self.files[name].stat().st_size,
        }
        if name.endswith(".safetensors"):
            told["lfs"] = {"oid": self.blob(name), "size": told["size"], "pointerSize": 130}
        return told


@pytest.fixture
def hub(wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import shutil

    folder = Path(shutil.copytree(wan_folder, tmp_path / "published"))
    (folder / "vae" / "extra.bin").write_bytes(b"a pickle")
    (folder / "README.md").write_text("a model")
    running = Hub(folder)
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_a_model_is_downloaded_once_without_its_pickles_and_verified(hub: Hub, tmp_path: Path) -> None:
    assert cached(HUB_ID) is None
    folder = download(HUB_ID)
    assert folder.is_relative_to(tmp_path / "home")
    assert set(hub.fetched) == {name for name in hub.files if name.count("/") == 1 and ".bin" not in name} | {
        "model_index.json"
    }
    opened = open_wan(folder)
    assert {verdict.state for verdict in Manifest(folder).verify(opened.every_file())} == {"as published"}
    hub.fetched.clear()
    assert download(HUB_ID) == folder == cached(HUB_ID)
    assert hub.fetched == []
    opened.files["vae"][0].resolve().write_bytes(b"something else")
    states = {verdict.name: verdict.state for verdict in Manifest(folder).verify(opened.every_file())}
    assert [name for name, state in states.items() if state == "differs"] == [
        "vae/diffusion_pytorch_model.safetensors"
    ]


def test_what_was_downloaded_is_found_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download(HUB_ID)
    hub.server.shutdown()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert cached(HUB_ID) == folder


@pytest.mark.parametrize(
    ("hub_id", "revision", "said"),
    [("somebody/nothing", None, "no model somebody/nothing"), (HUB_ID, "v9", "no revision 'v9'")],
)
def test_what_is_not_there_is_one_sentence(hub: Hub, hub_id: str, revision: str | None, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        download(hub_id, revision)


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="the hub can't be reached; check the network"):
        download(HUB_ID)


def test_what_a_hub_id_looks_like() -> None:
    assert is_hub_id("Wan-AI/Wan2.2-TI2V-5B-Diffusers")
    assert not any(map(is_hub_id, ("tiny", "a/b/c", "/model", "../model", "owner/")))
