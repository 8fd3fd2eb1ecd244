"""Fetching from hubs, which ends: with the files, or with one error where no server answers.

The libraries wait without end for a server that accepts and says nothing, and for minutes where
there is no network, for they try each file again and again.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

from auditor.errors import AuditorError, first_line

__all__ = ["fetching", "offline"]

PATIENCE = 15.0  # seconds without a word, after which a server does not answer


@contextlib.contextmanager
def fetching(*, hub: bool) -> Iterator[None]:
    """A block in which a library may fetch files.

    Where the Hugging Face hub does not answer, what was fetched before is used.

    Args:
        hub: whether the library asks the Hugging Face hub.

    Raises:
        OSError: the hub does not answer, and the block failed.
    """
    silence = _silence() if hub else None
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)  # torch.hub sets none
    try:
        with contextlib.nullcontext() if silence is None else offline():
            yield
    except AuditorError:
        raise
    except Exception as error:  # whatever the libraries raise
        if silence is None:
            raise
        raise OSError(
            f"{silence}, and with what was fetched before: {first_line(error)}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client from asking any server, for this block."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _silence() -> str | None:
    """Why the hub cannot be asked, as the beginning of a sentence; `None` where it answers."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "The environment keeps the hub's client offline (HF_HUB_OFFLINE)"
    try:
        asked = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(asked, timeout=PATIENCE):
            return None
    except urllib.error.HTTPError:
        return None  # an answer, which the library knows better what to make of
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return None  # the client may know an authority that is not known here
        return f"{constants.ENDPOINT} does not answer ({reason})"
