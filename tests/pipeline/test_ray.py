"""The Ray engine: the record of this process, also where workers and machines are lost."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import ray
import saved
import tiny
import torch
from miniature import Project, at_home, called
from ray.cluster_utils import Cluster
from ray.exceptions import ActorDiedError
from safetensors.torch import save_file

import auditor
from auditor.config import AuditConfig
from auditor.errors import ConfigError, ImagesError, ResourceError
from auditor.pipeline import inputs as loading
from auditor.pipeline import ray_cluster, runner, tasks
from auditor.pipeline.blueprint import blueprint
from auditor.pipeline.engine import Shapes
from auditor.pipeline.progress import Silent, Step, Watch
from auditor.pipeline.ray_engine import Crew, Job
from auditor.record.schema import Audit
from auditor.report.reproduction import config_digest

SECONDS = 300  # after which a process is stuck, also on a busy machine
MINE = f"import torch\nfrom torch import nn\n{inspect.getsource(tiny.Stripes)}\nnet = Stripes\n"
CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose model and probe other processes can load too."""
    with at_home(tmp_path_factory.mktemp("ray")) as project:
        project.filled(factory=MINE, n=10)
        torch.manual_seed(0)
        net = open_clip.CLIP(**CLIP)
        kept = {name: values.contiguous() for name, values in net.state_dict().items()}
        (project.folder / "clip").mkdir()
        save_file(kept, project.folder / "clip" / "open_clip_model.safetensors")
        looks = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
        described = {"model_cfg": CLIP, "preprocess_cfg": looks}
        project.write("clip/open_clip_config.json", json.dumps(described))
        yield project


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two machines of one core each, as processes of this one."""
    cluster = Cluster()
    cluster.add_node(**machine())
    cluster.add_node(**machine())
    yield cluster
    cluster.shutdown()


PORTS = (
    "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """A small machine; with ports that are given, Ray starts on a busy one too."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in PORTS]
        for each in free:
            each.bind(("127.0.0.1", 0))
        ports = {name: each.getsockname()[1] for name, each in zip(PORTS, free, strict=True)}
    return {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False, **ports}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CHUNK_PHOTOS", 4)


def settings(home: Project, **changes: Any) -> dict[str, Any]:
    made = {"per_class": 4, "steps": 4, "batch": 1}
    return home.settings(probe="open_clip:clip", batch=4, prototypes=made, **changes)


def record(folder: str) -> dict[str, Any]:
    """The record without times and what says where it was made."""
    data: dict[str, Any] = json.loads(Path(folder, "audit.json").read_text())
    del data["created"]
    for key in ("started", "finished", "seconds"):
        del data["provenance"][key]
    for key in ("out", "engine", "ray_address"):
        del data["spec"][key]
    return data


def workers(cluster: Cluster) -> list[int]:
    """Processes of the cluster that hold workers of ours."""
    nodes = [cluster.head_node, *cluster.worker_nodes]
    raylets = {str(node.all_processes["raylet"][0].process.pid) for node in nodes}
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            if parent in raylets and b"Computer" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def gone(left: Callable[[], Sequence[int]]) -> bool:
    """Whether processes end within a while."""
    limit = time.monotonic() + 30
    while left() and time.monotonic() < limit:
        time.sleep(0.2)
    return not left()


@pytest.fixture(scope="module")
def whole(home: Project) -> dict[str, Any]:
    """The record of an audit in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks, "CHUNK_PHOTOS", 4)
        runner.run(AuditConfig.model_validate(settings(home, out="whole")))
    return record("whole")


class Disaster:
    """Progress that does something once in each of some stages, after its first steps."""

    def __init__(self, **strikes: Callable[[], object]) -> None:
        self.strikes = strikes

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[Step]:
        def step(done: int) -> None:
            if done and name in self.strikes:
                self.strikes.pop(name)()

        yield step


@pytest.mark.usefixtures("small_parts")
def test_lost_workers_and_machines_change_nothing(
    home: Project, cluster: Cluster, whole: dict[str, Any]
) -> None:
    def kill_one() -> None:
        os.kill(workers(cluster)[0], signal.SIGKILL)

    def remove_one() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    disaster = Disaster(photos=kill_one, prototypes=remove_one)
    config = settings(home, out="lost", engine="ray", ray_address=cluster.address)
    runner.run(AuditConfig.model_validate(config), progress=disaster)
    assert not disaster.strikes
    assert record("lost") == whole
    lost, own = (Audit.read(Path(folder, "audit.json")) for folder in ("lost", "whole"))
    assert lost.same_result(own)
    assert config_digest(lost.spec) == config_digest(own.spec)
    assert not ray.is_initialized()
    assert gone(lambda: workers(cluster))
    assert cluster.head_node.any_processes_alive()  # which was there before us


@pytest.mark.usefixtures("small_parts")
def test_from_python(
    home: Project, cluster: Cluster, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    given = settings(home)
    del given["model"], given["images"]
    auditor.audit(
        tiny.Stripes(), "photos", class_names=("across", "down"), size=32, mean=(0, 0, 0),
        std=(1, 1, 1), out="python", engine="ray", **given,
    )  # fmt: skip
    theirs = record("python")
    assert theirs["provenance"] == whole["provenance"]
    assert theirs["findings"] == whole["findings"]
    assert theirs["classes"] == whole["classes"]


def test_an_error_on_a_worker_is_one_sentence(home: Project, cluster: Cluster) -> None:
    home.write("licensed.py", f"{MINE}\nimport os\n\ndef net():\n"
               f"    assert os.getpid() == {os.getpid()}, 'no licence here'\n"
               "    return Stripes()\n")  # fmt: skip
    config = settings(home, out="licensed", model__spec="python:licensed:net")
    home.write("licensed.yaml", json.dumps(config))
    ended = called("audit", "licensed.yaml", "--engine", "ray", "--ray-address", cluster.address)
    assert ended.code == 2
    assert "called without arguments, fails: AssertionError: no licence here" in ended.told
    assert "Traceback" not in ended.err
    assert gone(lambda: workers(cluster))


def test_an_interrupted_audit_leaves_no_process(home: Project) -> None:
    home.write("local.yaml", json.dumps(settings(home, out="local", engine="ray", ray_workers=1)))
    outside = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(
        [sys.executable, "-m", "auditor", "audit", "local.yaml"],
        env={**outside, "OMP_NUM_THREADS": "1", "MARK": str(home.folder)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "through the model" in line:
                break
        assert started_by(home.folder)
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
        assert process.wait(SECONDS) == -signal.SIGTERM
    assert "stopped by SIGTERM; run the same command again to continue." in told
    assert gone(lambda: started_by(home.folder))


def started_by(folder: Path) -> list[int]:
    """Processes of Ray that have an audit's mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = f"MARK={folder}".encode() in (place / "environ").read_bytes()
            started = (place / "cmdline").read_bytes()
            if marked and any(name in started for name in (b"gcs_server", b"raylet", b"ray::")):
                found.append(int(place.name))
    return found


def test_without_ray_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^engine = ray needs the package ray: install auditor"):
        connect()


def test_ray_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="ray job submit"):
        connect(ray_address="ray://head:10001")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "head", "127.0.0.1:99999"])
def test_an_address_where_no_cluster_is_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be reached") as raised:
        connect(ray_address=address)
    assert "\n" not in str(raised.value)


def connect(**changes: Any) -> None:
    given = {"model": {"spec": ""}, "images": "", "engine": "ray", **changes}
    with ray_cluster.connected(AuditConfig.model_validate(given)):
        raise AssertionError("connected")


# --- what a worker is built from ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_process_can_start_a_ray_of_its_own_again() -> None:
    """In a fresh process, for Ray keeps the first secret that it was given."""
    script = (
        "from auditor.config import AuditConfig\n"
        "from auditor.pipeline import ray_cluster\n"
        "config = AuditConfig.model_validate({'model': {'spec': 'x'}, 'images': 'y'})\n"
        "for _ in range(2):\n"
        "    with ray_cluster.connected(config) as machines:\n"
        "        print(len(machines.nodes))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_a_model_that_cannot_be_pickled_is_loaded_where_it_computes(home: Project) -> None:
    saved.script(tiny.Stripes().eval(), Path("scripted.pt"), "scripted")
    plan = planned(
        home, model__spec="file:scripted.pt", model__mean=[0.5] * 3, model__std=[0.5] * 3
    )
    assert pickle.loads(pickle.dumps(plan)).build().model_key == plan.keys[0]


def test_another_model_under_the_same_name_is_refused(home: Project) -> None:
    home.write("changing.py", MINE)
    plan = planned(home, model__spec="python:changing:net")
    vars(sys.modules["changing"])["net"] = lambda: doubled(tiny.Stripes())
    with pytest.raises(ConfigError, match="another model or probe under the same name"):
        plan.build()


def doubled(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        net.get_parameter("head.weight").mul_(2)
    return net


def planned(home: Project, **changes: Any) -> Any:
    config = AuditConfig.model_validate(settings(home, **changes))
    return blueprint(loading.load(config, Watch(Silent())), None, device_type="cpu")


# --- the crew -------------------------------------------------------------------------------------


class Actor:
    """A worker that gives what it is told, or is lost where that is an error of Ray's."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self.answers = answers
        self.compute = self

    def remote(self, task: Any) -> Any:
        return self

    def future(self) -> Future[Any]:
        return came(next(self.answers))


def came(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    lost = isinstance(answer, ActorDiedError | ZeroDivisionError)
    future.set_exception(answer) if lost else future.set_result(answer)
    return future


def crew(*answers: Any, built: Any = None) -> Crew:
    coming = iter(answers)
    return Crew(lambda: (Actor(coming), came(built)), lambda actor: None, limit=1)


def done(members: Crew) -> Any:
    job = Job(tasks.SeeDrawing("black_border", ()), [], Shapes({"change": ("f",)}))
    members.begin(job)
    return members.finish(job, lambda: None)


GOOD = {"change": np.ones(3, np.float32)}
ODD = {"change": np.full(3, np.nan, np.float32)}


def test_a_task_is_repeated_on_another_worker() -> None:
    assert np.array_equal(done(crew(ActorDiedError(), ODD, GOOD))["change"], np.ones(3))


@pytest.mark.parametrize("answer", [ActorDiedError(), ODD])
def test_a_task_that_fails_again_and_again_is_one_sentence(answer: Any) -> None:
    with pytest.raises(ResourceError, match="A task of 'changes' failed on 3 workers") as raised:
        done(crew(answer, answer, answer, GOOD))
    assert "\n" not in str(raised.value)


def test_workers_that_cannot_start_are_one_sentence() -> None:
    with pytest.raises(ResourceError, match="No worker of the Ray cluster could load"):
        done(crew(GOOD, built=ActorDiedError()))


@pytest.mark.parametrize("error", [ImagesError("The photo is gone."), MemoryError("no more")])
def test_a_user_s_error_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        done(crew(error))
    with pytest.raises(type(error), match=str(error)):
        done(crew(built=error))


def test_a_bug_keeps_its_kind() -> None:
    with pytest.raises(ZeroDivisionError):
        done(crew(ZeroDivisionError()))
