"""Errors that a user can act on.

    AuditorError                one sentence: what is wrong, what to do; exit code 2
    ├── ConfigError             the configuration or a command-line option
    ├── ModelError              the audited classifier, its weights, preprocessing or class names
    ├── ImagesError             the photos: folder, manifest or data set
    ├── ConceptsError           the concept bank, a drawing or example photos
    ├── ProbeError              the CLIP probe or its files
    ├── RunError                the run folder: what it holds, or writing to it
    └── ResourceError           the machine: its memory

Anything else that escapes is a bug and keeps its traceback.
"""

import re

__all__ = [
    "AuditorError",
    "ConceptsError",
    "ConfigError",
    "ImagesError",
    "ModelError",
    "ProbeError",
    "ResourceError",
    "RunError",
    "first_line",
    "lacks_memory",
]

# What libraries say where memory, or the right to more of it, ends.
MEMORY = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "bad_alloc",
    "failed to map segment",
    "start new thread",
    "pyobject pointer is null",
)


class AuditorError(Exception):
    """A mistake or a fault outside the program, told in one sentence."""


class ConfigError(AuditorError):
    """The configuration or a command-line option cannot be used."""


class ModelError(AuditorError):
    """The audited classifier cannot be loaded or used."""


class ImagesError(AuditorError):
    """The photos cannot be found, matched with the classes or read."""


class ConceptsError(AuditorError):
    """The concept bank cannot be used."""


class ProbeError(AuditorError):
    """The CLIP probe cannot be loaded or used."""


class RunError(AuditorError):
    """The run folder cannot be read or written."""


class ResourceError(AuditorError):
    """The machine lacks memory."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ended: of the machine, the device or a limit."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # PyTorch's
        return True
    told = str(error).lower()
    known = isinstance(error, RuntimeError | OSError | ImportError)
    known = known or type(error).__name__ == "PanicException"  # of libraries in Rust
    return known and any(words in told for words in MEMORY)


def first_line(error: BaseException) -> str:
    """The first sentence of an error's message, or its kind, without the full stop.

    >>> first_line(ValueError("The file is damaged. Save it again."))
    'The file is damaged'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.split(r"\.\s", lines[0].strip())[0].rstrip(".")[:300]
