import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from mlflow_server.__main__ import command


def test_the_ui_opens_on_the_trainers_store(store_uri: str, unused_tcp_port: int):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow_server", "--port", str(unused_tcp_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert f"Open {url}/#/experiments" in server.stdout.readline()
        deadline = time.monotonic() + 90
        while True:
            try:
                page = urllib.request.urlopen(url, timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.3)
        assert "<title>MLflow" in page
        request = urllib.request.Request(
            f"{url}/api/2.0/mlflow/experiments/search",
            json.dumps({"max_results": 5}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = json.loads(urllib.request.urlopen(request, timeout=10).read())
        assert [e["name"] for e in answer["experiments"]] == ["Default"]
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_a_taken_port_is_named(store_uri: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{port}.*another --port"):
            command(store_uri, "127.0.0.1", port)


def test_a_missing_folder_is_named(tmp_path: Path, unused_tcp_port: int):
    with pytest.raises(ValueError, match="there is no such folder"):
        command(f"sqlite:///{tmp_path}/nowhere/mlflow.db", "127.0.0.1", unused_tcp_port)
