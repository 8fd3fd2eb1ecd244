"""A Ray cluster to compute an audit's tasks: the one that is named, or a local one for this run.

Ray is started in a thread, for in the main one it replaces the handlers of signals.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditor.config import AuditConfig
from auditor.core.storage import Work
from auditor.errors import ConfigError, first_line
from auditor.pipeline.blueprint import Blueprint, blueprint
from auditor.pipeline.inputs import Given, Inputs
from auditor.pipeline.progress import Watch
from auditor.pipeline.ray_engine import Computer, Crew, RayEngine

__all__ = ["Cluster", "connected"]

REACH = 10.0  # seconds in which a cluster must answer
LOCAL = {  # for a Ray of our own: no other machine may reach it, and it sends nothing
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # off, Ray listens on the loopback address alone
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to.

    Attributes:
        config: of the audit.
        nodes: for each machine, its resources by name, such as "CPU" and "GPU".
    """

    config: AuditConfig
    nodes: tuple[Mapping[str, float], ...]

    @contextlib.contextmanager
    def engine(
        self, inputs: Inputs, given: Given | None, store: Work, watch: Watch
    ) -> Iterator[RayEngine]:
        """The engine of an audit; its workers end with the block.

        Raises:
            ConfigError: the model or the photos cannot be sent, or no machine has the device.
        """
        import ray

        cpus, gpus = self.config.ray_cpus, self._gpus
        own = inputs.worker.device.type
        device = "cuda" if gpus else "cpu" if own == "cuda" else own
        plan = _sent(blueprint(inputs, given, device_type=device))
        kind = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(
            Computer
        )

        def start() -> tuple[Any, futures.Future[Any]]:
            actor = kind.remote(max(1, int(cpus)), [place or os.getcwd() for place in sys.path])
            return actor, actor.build.remote(plan).future()

        worker = replace(inputs.worker, device_type=device)
        crew = Crew(start, ray.kill, self.config.ray_workers or self._fitting(cpus, gpus))
        try:
            yield RayEngine(worker, store, watch, crew)
        finally:
            crew.close()

    @property
    def _gpus(self) -> float:
        """GPUs of each worker."""
        if self.config.ray_gpus is not None:
            return self.config.ray_gpus
        wanted = self.config.device.partition(":")[0]
        there = any(node.get("GPU", 0) >= 1 for node in self.nodes)
        if wanted == "cuda" and not there:
            raise ConfigError(
                f"device = {self.config.device}, and no machine of the Ray cluster has a GPU; "
                "choose --device auto, or set ray_gpus."
            )
        return float(there and wanted in ("auto", "cuda"))

    def _fitting(self, cpus: float, gpus: float) -> int:
        """Workers that the machines have room for, at least one."""
        return max(1, sum(
            int(min(node.get("CPU", 0) / cpus, node.get("GPU", 0) / gpus if gpus else np.inf))
            for node in self.nodes
        ))  # fmt: skip


def _sent(plan: Blueprint) -> Any:
    """The blueprint in Ray's object store."""
    import ray

    try:
        return ray.put(plan)
    except Exception as error:  # code that is not ours decides how it is pickled
        raise ConfigError(
            f"The model or the photos cannot be sent to other processes ({first_line(error)}); "
            "save them to files and name these."
        ) from error


@contextlib.contextmanager
def connected(config: AuditConfig) -> Iterator[Cluster]:
    """A connection to the Ray cluster of the settings, of `RAY_ADDRESS`, or a local one.

    A connection that this process has already is used and stays. A cluster that was there stays; a
    local one ends with the block.

    Raises:
        ConfigError: Ray is not installed, or cannot be reached or started.
    """
    address = config.ray_address or os.environ.get("RAY_ADDRESS")
    if address is not None and "://" in address:
        raise ConfigError(
            f"ray_address = {address[:200]}: Ray Client is not supported; start the audit in the "
            "cluster with `ray job submit`, or give HOST:PORT."
        )
    if address is not None and address not in ("auto", "local"):
        _see_reachable(address)
    local = {**LOCAL, "RAY_AUTH_TOKEN": _token()} if address is None else {}
    # on Linux the processes that a thread starts may end with it, so it stays until the end
    with futures.ThreadPoolExecutor(1) as thread:
        with _environment(local):
            ray = _imported()
            ours = not ray.is_initialized()
            if ours:
                _start(ray, address, thread)
        try:
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield Cluster(config, tuple(alive))
        finally:
            if ours:
                ray.shutdown()


@functools.cache
def _token() -> str:
    """The secret of a Ray of our own; Ray keeps the first that a process gives."""
    return os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)


def _see_reachable(address: str) -> None:
    """See that something listens there, for Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Ray at {address[:200]!r} cannot be reached: {first_line(error)}; give HOST:PORT with "
            "--ray-address or RAY_ADDRESS."
        ) from None


def _imported() -> Any:
    hook = sys.excepthook  # which Ray replaces
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ConfigError("engine = ray needs the package ray: install auditor[ray].") from None
    finally:
        sys.excepthook = hook
    return ray


def _start(ray: Any, address: str | None, thread: futures.Executor) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        address, options["include_dashboard"] = "local", False
    starting = thread.submit(ray.init, address=address, **options)
    try:
        starting.result()
    except Exception as error:  # Ray's own, of many kinds
        raise ConfigError(
            f"Ray at {address[:200]!r} cannot be started or reached: {first_line(error)}; check "
            "--ray-address and RAY_ADDRESS, or how busy this machine is."
        ) from error
    except BaseException:
        futures.wait([starting])
        ray.shutdown()
        raise


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables in the block; processes that are started in it keep them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
