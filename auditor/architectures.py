"""Where audits of earlier versions name the lab's networks: now `auditor.lab.architectures`."""

from auditor.lab import architectures

__all__: list[str] = []


def __getattr__(name: str) -> object:
    return getattr(architectures, name)
