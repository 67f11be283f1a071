"""The jobs that the profile of Kubernetes sends, as a server of its interface receives them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.plugins import ROOT, install_plugin

pytestmark = pytest.mark.slow

# The official client is generated from the published OpenAPI schema: it refuses what lacks a required field or has a
# wrong value, and drops what the schema does not know.
CHECK = """
import json, sys
from kubernetes.client import ApiClient
class Response:
    data = sys.stdin.read()
client = ApiClient()
print(json.dumps(client.sanitize_for_serialization(client.deserialize(Response, "V1Job"))))
"""

COPY = """#!/bin/sh
for word; do from=$to; to=$word; done
exec cp -r "$from" "$to"
"""


class Server(ThreadingHTTPServer):
    """As much of Kubernetes as Snakemake asks: it takes secrets and jobs, and says that no job has ended."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, dict[str, Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, body))
        self._answer(body, 201)

    def do_GET(self) -> None:
        self._answer({"items": []} if self.path.partition("?")[0].endswith("/pods") else {"status": {}})

    def do_DELETE(self) -> None:
        self._answer({"status": "Success"})

    def _answer(self, value: dict[str, Any], code: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that has the plugin."""
    target = tmp_path_factory.mktemp("kubernetes") / "plugin"
    install_plugin("kubernetes", target)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}


@pytest.fixture(scope="module")
def received(plugin: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """The secret and the first job that Snakemake sends for a part of the grid."""
    folder = tmp_path_factory.mktemp("volume")
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    user: dict[str, Any] = {"name": "u", "user": {}}
    parts = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"}
    (folder / "kube").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **parts}))
    (folder / "bin").mkdir()
    (folder / "bin/rsync").write_text(COPY)  # by which the storage plugin copies the workflow into the volume
    (folder / "bin/rsync").chmod(0o755)
    env = plugin | {"KUBECONFIG": str(folder / "kube"), "PATH": f"{folder}/bin:{plugin['PATH']}"}
    env |= {f"BITQ_{name.upper()}": str(folder / name) for name in ("results", "state", "data")}
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    profile = ["--profile", str(ROOT / "workflow/profiles/kubernetes"), "--default-storage-prefix", str(folder)]
    call = [*words, "grid", *profile, "--config", "scale=smoke", "study=multimodal"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(call, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        end = time.monotonic() + 180
        while len(server.received) < 2:
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield [body for _, body in server.received]
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()


def test_a_job_is_one_of_the_published_schema(received: list[dict[str, Any]], plugin: dict[str, str]) -> None:
    job = received[1]
    checked = subprocess.run(
        [sys.executable, "-c", CHECK], input=json.dumps(job), env=plugin, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout) == job
    (job["spec"]["template"]["spec"]["containers"][0]).pop("name")
    refused = subprocess.run(
        [sys.executable, "-c", CHECK], input=json.dumps(job).encode(), env=plugin, capture_output=True
    )
    assert refused.returncode != 0  # the check can fail
    job["spec"]["template"]["spec"]["containers"][0]["name"] = "snakemake"


def test_a_job_asks_for_one_gpu_and_its_limits(received: list[dict[str, Any]]) -> None:
    resources = received[1]["spec"]["template"]["spec"]["containers"][0]["resources"]
    for kind in ("requests", "limits"):  # a GPU without a limit equal to its request is refused
        assert resources[kind]["nvidia.com/gpu"] == "1" and resources[kind]["memory"] == "8000M"
    tolerations = received[1]["spec"]["template"]["spec"]["tolerations"]
    assert [each["key"] for each in tolerations] == ["nvidia.com/gpu"]


def test_a_job_mounts_the_volume_and_knows_where_results_lie(received: list[dict[str, Any]]) -> None:
    pod = received[1]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["bitq"] == "/bitq"
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]]
    assert "bitq" in claims
    assert {"BITQ_RESULTS", "BITQ_STATE", "BITQ_DATA"} <= {variable["name"] for variable in pod["containers"][0]["env"]}
    assert {"bitq_results", "bitq_state", "bitq_data"} <= received[0]["data"].keys()


def test_a_failed_pod_is_snakemakes_to_retry(received: list[dict[str, Any]]) -> None:
    assert received[1]["spec"]["backoffLimit"] == 0
    assert received[1]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
