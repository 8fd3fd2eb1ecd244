"""Fetching ends, whatever the servers do; these are servers of this process on loopback."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download

from auditor.core import fetching
from auditor.errors import ModelError


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield address


@contextlib.contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, code: int) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *given: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_a_hub_that_says_nothing_is_one_error(silent: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"^{silent} does not answer .*timed out"):  # noqa: SIM117
        with fetching.fetching(hub=True):
            hf_hub_download("some/model", "config.json", cache_dir=tmp_path)
    assert not constants.HF_HUB_OFFLINE
    assert socket.getdefaulttimeout() is None


def test_what_was_fetched_before_is_used(silent: str) -> None:
    with fetching.fetching(hub=True):
        assert constants.HF_HUB_OFFLINE, "the client looks into its cache and asks nobody"


def test_an_error_of_our_own_stays_as_it_is(silent: str) -> None:
    with pytest.raises(ModelError, match="of our own"), fetching.fetching(hub=True):
        raise ModelError("An error of our own.")


@pytest.mark.parametrize("code", [200, 401, 404, 503])
def test_a_hub_that_answers_is_asked(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(monkeypatch, code), fetching.fetching(hub=True):
        assert not constants.HF_HUB_OFFLINE
    with (
        answering(monkeypatch, code),
        pytest.raises(ZeroDivisionError),
        fetching.fetching(hub=True),
    ):
        raise ZeroDivisionError


def test_nothing_is_asked_where_the_user_keeps_the_client_offline(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE"), fetching.fetching(hub=True):
        raise ValueError("no such file")


def test_a_download_that_stalls_ends(silent: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="timed out"), fetching.fetching(hub=False):
        torch.hub.download_url_to_file(f"{silent}/net.pth", str(tmp_path / "net.pth"))
    assert socket.getdefaulttimeout() is None


def test_an_authority_that_is_not_known_here_is_left_to_the_client(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object, **options: object) -> None:
        raise urllib.error.URLError(ssl.SSLCertVerificationError("self-signed certificate"))

    monkeypatch.setattr("urllib.request.urlopen", refused)
    with fetching.fetching(hub=True):
        assert not constants.HF_HUB_OFFLINE
