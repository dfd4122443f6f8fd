"""What goes wrong around a study, with real processes, a real server and real files."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.servers import Server
from tests.trainer import stored
from tests.trainer.zygote import Command
from trainer.store.journal import RunFolder

ONE_RUN = {
    "settings": "[pretrain]",
    "dataset": "{name: digits, train_images: 512}",
    "training": "{epochs: 40, batch_size: 32, rewind_epoch: 4}",
    "checkpoint_every": "4",
}


def command(config: Path, uri: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "--config", str(config), "--tracking-uri", uri, *more]


def start(folder: Path, config: Path, uri: str, said: str = "said.txt") -> Command:
    """The same command, started."""
    return Command(folder / said, "--config", str(config), "--tracking-uri", uri)


def journals(folder: Path) -> list[Path]:
    return list((folder / ".jackpot").glob("*/runs/*/journal.jsonl"))


def wait_for_epochs(
    folder: Path, epochs: int, process: subprocess.Popen | Command | None = None
) -> None:
    """Returns in the middle of training, once so many epochs are recorded."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [path.read_text().count('"metrics"') for path in journals(folder)]
        if max(lines, default=0) >= epochs:
            return
        assert process is None or process.poll() is None, "it ended before it could be disturbed"
        time.sleep(0.005)
    raise AssertionError("training did not get that far")


@pytest.mark.parametrize(
    ("network", "dataset", "epochs", "killed_after"),
    [
        pytest.param("lenet-300-100", "digits", 40, (7, 13), marks=pytest.mark.slow),
        ("resnet20", "{name: digits, train_images: 128, test_images: 50}", 12, (5, 9)),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(
    write_config, store_uri, tmp_path, train, network, dataset, epochs, killed_after
):
    training = f"{{epochs: {epochs}, batch_size: 32, rewind_epoch: 4}}"
    config = write_config(
        **ONE_RUN | {"network": network, "dataset": dataset, "training": training}
    )
    for after in killed_after:
        process = start(tmp_path, config, store_uri)
        wait_for_epochs(tmp_path, after, process)
        process.kill()
        process.wait()
    # A process that dies while it writes leaves half a line.
    (journal,) = [path for path in journals(tmp_path) if '"metrics"' in path.read_text()]
    with journal.open("a") as file:
        file.write('{"event": "metr')
    assert train(config) == 0
    (resumed,) = stored.runs(store_uri)
    assert resumed.info.status == "FINISHED"
    for metric in ("loss", "val_accuracy", "learning_rate"):
        assert stored.steps(store_uri, resumed, metric) == list(range(1, epochs + 1)), (
            "each point once"
        )

    undisturbed = f"sqlite:///{tmp_path}/undisturbed/mlflow.db"
    assert train(config, "--tracking-uri", undisturbed) == 0
    (expected,) = stored.runs(undisturbed)
    for name in ("weights/final.safetensors", "rewind/epoch-4.safetensors"):
        same = stored.weights(expected, name)
        for path, array in stored.weights(resumed, name).items():
            assert array.tobytes() == same[path].tobytes()
    client, other = MlflowClient(store_uri), MlflowClient(undisturbed)
    for metric in ("loss", "val_loss"):
        history = client.get_metric_history(resumed.info.run_id, metric)
        same = other.get_metric_history(expected.info.run_id, metric)
        assert [m.value for m in history] == [m.value for m in same]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda b: b[:-9], marks=pytest.mark.slow),
        lambda b: b[:-9] + b"\x01" + b[-8:],
    ],
)
def test_a_damaged_checkpoint_is_not_trusted(
    write_config, store_uri, tmp_path, train, capsys, damage
):
    config = write_config(**ONE_RUN)
    process = start(tmp_path, config, store_uri)
    wait_for_epochs(tmp_path, 9, process)
    process.kill()
    process.wait()
    (checkpoint,) = (tmp_path / ".jackpot").glob("*/runs/*/checkpoint.safetensors")
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert train(config) == 0
    assert "starting it anew" in " ".join(capsys.readouterr().out.split())
    (run,) = stored.runs(store_uri)
    assert stored.steps(store_uri, run, "loss") == list(range(1, 41))


def test_ctrl_c_ends_the_run_cleanly_and_says_how_to_go_on(
    write_config, store_uri, tmp_path, train
):
    config = write_config(**ONE_RUN)
    process = start(tmp_path, config, store_uri)
    wait_for_epochs(tmp_path, 5, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on where this one stopped." in said
    (run,) = stored.runs(store_uri)
    assert run.info.status == "KILLED"
    assert "interrupted" in run.data.tags["failure"]
    assert train(config) == 0
    (run,) = stored.runs(store_uri)
    assert run.info.status == "FINISHED"
    assert "failure" not in run.data.tags
    assert stored.steps(store_uri, run, "loss") == list(range(1, 41))
    (launch,) = stored.runs(store_uri, "launch")
    assert launch.info.status == "FINISHED"


def test_criteria_that_are_said_later_are_recorded(write_config, store_uri, train):
    config = {"settings": "[sdt]", "pruners": "[omp]"}
    assert train(write_config(**config)) == 0
    assert train(write_config(**config, criteria="{tolerance: 0.2}")) == 0
    (launch,) = stored.runs(store_uri, "launch")
    assert launch.info.status == "FINISHED"
    recorded = json.loads(stored.file(launch, "plan.json").read_text())
    assert recorded["criteria"] == {"tolerance": 0.2}


def test_a_diverged_run_fails_alone_and_its_children_are_skipped(
    write_config, store_uri, train, capsys
):
    config = write_config(learning_rates="[0.05, 900.0]", settings="[lt]", pruners="[imp]")
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 failed:" in said
    assert "pretrain lr=900 trial=1: loss became nan in epoch" in said
    assert "2 skipped:" in said
    both = "lt-imp s=0.500 lr=900 trial=1, lt-imp s=0.750 lr=900 trial=1"
    assert f"{both}: 'pretrain lr=900 trial=1' failed" in said
    found = stored.runs(store_uri)
    assert sorted(run.info.status for run in found) == ["FAILED"] + ["FINISHED"] * 3
    (failed,) = [run for run in found if run.info.status == "FAILED"]
    assert failed.data.tags["failure"].startswith("loss became nan in epoch")
    assert stored.runs(store_uri, "launch")[0].info.status == "FAILED"
    # It would diverge again: it is not trained again, and neither are its children.
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "nothing to train" in said
    assert "in an earlier launch, and would again" in said
    assert "2 skipped:" in said
    assert len(stored.runs(store_uri)) == 4
    # The mend that the message names works.
    MlflowClient(store_uri).delete_run(failed.info.run_id)
    assert train(config) == 1
    assert len(stored.runs(store_uri)) == 4


def test_a_kill_before_the_end_is_recorded_leaves_final_points_once(
    write_config, store_uri, train, monkeypatch
):
    """As if the process were killed after the summary, at the worst moment."""
    config = write_config(settings="[pretrain]")
    end = RunFolder.end

    def killed(folder, status, reason=None):
        if status == "FINISHED" and folder.checkpoint.exists():
            raise KeyboardInterrupt
        end(folder, status, reason)

    monkeypatch.setattr(RunFolder, "end", killed)
    with contextlib.suppress(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert train(config) == 0
    (run,) = stored.runs(store_uri)
    assert run.info.status == "FINISHED"
    for metric in ("best_val_accuracy", "best_epoch", "trainable_parameters"):
        points = MlflowClient(store_uri).get_metric_history(run.info.run_id, metric)
        assert [point.step for point in points] == [3], metric


@pytest.mark.parametrize("name", ["weights/final.safetensors", "ticket/mask.safetensors"])
def test_a_bit_flipped_in_a_parents_file_stops_its_children(
    write_config, store_uri, train, capsys, name
):
    lt = {"settings": "[lt]", "pruners": "[imp]"}
    assert train(write_config(**lt, pruning="{fraction: 0.5, rounds: 1}")) == 0
    parent = stored.labelled(store_uri)["lt-imp s=0.500"]
    file = stored.file(parent, name)
    damaged = bytearray(file.read_bytes())
    damaged[-20] ^= 4
    file.write_bytes(damaged)
    assert train(write_config(**lt, pruning="{fraction: 0.5, rounds: 2}")) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "lt-imp s=0.750 lr=0.05 trial=1" in said
    assert f"'{name}' of its parent 'lt-imp s=0.500 lr=0.05 trial=1'" in said
    assert "do not match its SHA-256" in said
    assert "Delete that run in MLflow" in said
    # The mend that the message names works.
    MlflowClient(store_uri).delete_run(parent.info.run_id)
    assert train(write_config(**lt, pruning="{fraction: 0.5, rounds: 2}")) == 0


def test_a_deleted_parent_is_trained_anew(write_config, store_uri, train):
    assert train(write_config(settings="[pretrain]")) == 0
    (parent,) = stored.runs(store_uri)
    MlflowClient(store_uri).delete_run(parent.info.run_id)
    assert train(write_config(settings="[lt]", pruners="[omp]")) == 0
    again = stored.labelled(store_uri)
    assert again["pretrain"].info.run_id != parent.info.run_id
    assert again["lt-omp s=0.750"].data.tags["mask_run_id"] == again["pretrain"].info.run_id


def test_a_parents_artifact_that_is_gone_is_named(write_config, store_uri, train, capsys):
    assert train(write_config(settings="[pretrain]")) == 0
    (parent,) = stored.runs(store_uri)
    stored.file(parent, "weights/final.safetensors").unlink()
    assert train(write_config(settings="[lt]", pruners="[omp]")) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "'weights/final.safetensors' of its parent 'pretrain lr=0.05 trial=1'" in said
    assert parent.info.run_id in said
    assert "is missing" in said


def test_another_rewind_epoch_than_pretraining_kept_is_named(
    write_config, store_uri, train, capsys
):
    assert train(write_config(settings="[pretrain]")) == 0
    config = write_config(
        settings="[wr]",
        pruners="[omp]",
        training="{epochs: 3, batch_size: 64, rewind_epoch: 2}",
    )
    assert train(config) == 1
    assert "'rewind/epoch-2.safetensors' of its parent" in " ".join(capsys.readouterr().out.split())


def test_two_launches_at_once_train_each_run_once(write_config, store_uri, tmp_path):
    config = write_config(training="{epochs: 12, batch_size: 16, rewind_epoch: 1}")
    both = [start(tmp_path, config, store_uri, f"{i}.txt") for i in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = stored.runs(store_uri)
    assert len(found) == 9
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        first = 2 if run.info.run_name.startswith("wr") else 1
        assert stored.steps(store_uri, run, "val_accuracy") == list(range(first, 13))
    assert len(stored.runs(store_uri, "launch")) == 1


def test_an_artifact_store_that_cannot_be_written_costs_nothing(
    write_config, store_uri, tmp_path, train, capsys, monkeypatch
):
    monkeypatch.setattr("trainer.launch.DELIVERY_PATIENCE_S", 3.0)
    # A file where the folder should be: read-only even for root.
    (tmp_path / "mlartifacts").write_text("in the way")
    config = write_config(settings="[lt]", pruners="[omp]")
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Training goes on" in said
    assert "mlartifacts" in said
    assert "Nothing is lost" in said
    assert "lt-omp s=0.750 lr=0.05 trial=1: " in said, "the study was trained to its end"
    (tmp_path / "mlartifacts").unlink()
    assert train(config) == 0
    assert "nothing to train" in capsys.readouterr().out
    found = stored.labelled(store_uri)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for run in found.values():
        assert stored.steps(store_uri, run, "loss") == [1, 2, 3]
        assert stored.weights(run)


@pytest.fixture
def server(tmp_path, unused_tcp_port, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    server = Server(tmp_path, unused_tcp_port)
    yield server
    server.stop()


def restart_in_mid_study(server: Server, folder: Path) -> None:
    wait_for_epochs(folder, 3)
    server.stop()
    time.sleep(8)
    server.start()


@pytest.mark.slow
def test_a_server_that_is_away_costs_no_point(
    write_config, server, tmp_path, train, capsys, monkeypatch
):
    monkeypatch.setattr("trainer.launch.DELIVERY_PATIENCE_S", 2.0)
    monkeypatch.chdir(tmp_path)
    config = write_config()
    # Away from the beginning: everything is trained, nothing delivered, and that is said.
    assert train(config, "--tracking-uri", server.uri) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"Tracking store {server.uri} does not answer" in said
    assert f"10 runs have not reached {server.uri}" in said
    # Back: the same command trains nothing and delivers all.
    server.start()
    # However long a busy machine takes to start it.
    monkeypatch.setattr("trainer.launch.DELIVERY_PATIENCE_S", 300.0)
    assert train(config, "--tracking-uri", server.uri) == 0
    assert "nothing to train" in capsys.readouterr().out
    # Away in mid-study: a new learning rate trains on, and arrives once the server is back.
    restarted = threading.Thread(target=restart_in_mid_study, args=(server, tmp_path))
    restarted.start()
    more = ("--set", "learning_rates=[0.1]", "--set", "training.epochs=40")
    assert train(config, "--tracking-uri", server.uri, *more) == 0
    restarted.join()
    assert "back, all caught up" in capsys.readouterr().out
    found = stored.runs(server.uri)
    assert len(found) == 18
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        last = 3 if run.data.params["learning_rate"] == "0.05" else 40
        first = 2 if run.info.run_name.startswith("wr") else 1
        for metric in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert stored.steps(server.uri, run, metric) == list(range(first, last + 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracking-uri", "htp://nowhere"], "tracking URI 'htp://nowhere': expected sqlite"),
        (["--set", "dataset=cifar100"], "dataset 'cifar100'"),
        (["--tracking-uri", "file:///tmp/runs"], "expected sqlite"),
        (["--set", "network=vgg16"], "vgg16 halves its images four times"),
        (["--set", "pruning.layers=['block*']"], "'block*' matches no layer"),
        (["--set", "learning_rates.0.x=1"], "it has no keys of its own"),
        (["--set", "study=../up"], "expected a name of letters"),
        (["--set", "dataset.test_images=5000"], "digits has 359 images there, not 5,000"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    write_config, train, capsys, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    assert train(write_config(), *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error
    assert not list(tmp_path.glob(".jackpot/*/runs/*")), "nothing was begun"


def test_help_needs_no_heavy_import():
    code = (
        "import sys; sys.argv = ['trainer', '--help'];"
        "from trainer.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'keras', 'mlflow', 'pydantic', 'rich', 'numpy', 'polars'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer.stdout + answer.stderr


def test_a_full_disk_stops_the_run_and_loses_nothing(
    write_config, store_uri, tmp_path, train, capsys, monkeypatch
):
    from jackpot import artifacts

    write, checkpoints = artifacts.write, []

    def full_at_the_second_checkpoint(path, arrays, metadata):
        if path.name == "checkpoint.safetensors":
            checkpoints.append(path)
            if len(checkpoints) == 2:
                raise OSError(28, "No space left on device", str(path))
        write(path, arrays, metadata)

    monkeypatch.setattr(artifacts, "write", full_at_the_second_checkpoint)
    config = write_config(**ONE_RUN)
    assert train(config) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "No space left on device" in said
    assert "launch the study again to go on" in said
    assert train(config) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "going on after 4 of 40 epochs" in said, "the first checkpoint was kept"
    (run,) = stored.runs(store_uri)
    assert run.info.status == "FINISHED"
    assert stored.steps(store_uri, run, "loss") == list(range(1, 41))


def test_what_waits_for_one_store_is_never_sent_to_another(
    write_config, store_uri, tmp_path, train, monkeypatch, unused_tcp_port
):
    monkeypatch.setattr("trainer.launch.DELIVERY_PATIENCE_S", 1.0)
    away = f"http://127.0.0.1:{unused_tcp_port}"
    config = write_config(settings="[pretrain]")
    assert train(config, "--tracking-uri", away) == 1
    assert train(config, "--set", "learning_rates=[0.1]") == 0
    assert [run.data.params["learning_rate"] for run in stored.runs(store_uri)] == ["0.1"]
    assert len(journals(tmp_path)) == 2, "the other store's launch and run still wait"


def test_a_launch_without_patience_says_truly_what_arrived(
    write_config, store_uri, tmp_path, train, capsys, monkeypatch
):
    # The delivery's last round may still send everything after the patience is over.
    monkeypatch.setattr("trainer.launch.DELIVERY_PATIENCE_S", 0.0)
    code = train(write_config(settings="[pretrain]"))
    assert (code == 0) == (not journals(tmp_path))
    assert (code == 1) == ("have not reached" in capsys.readouterr().out)


def test_a_deleted_experiment_starts_over(write_config, store_uri, train):
    config = write_config(settings="[pretrain]")
    assert train(config) == 0
    (old,) = stored.runs(store_uri)
    client = MlflowClient(store_uri)
    client.delete_experiment(old.info.experiment_id)
    assert train(config) == 0
    (new,) = stored.runs(store_uri)
    assert new.info.run_id != old.info.run_id
    assert new.info.experiment_id == old.info.experiment_id


def test_a_run_deleted_while_it_trains_is_sent_again(write_config, store_uri, tmp_path):
    config = write_config(**ONE_RUN | {"training": "{epochs: 80, batch_size: 16}"})
    process = start(tmp_path, config, store_uri)
    wait_for_epochs(tmp_path, 5, process)
    deadline = time.monotonic() + 30
    while not (found := stored.runs(store_uri)) and time.monotonic() < deadline:
        time.sleep(0.2)
    MlflowClient(store_uri).delete_run(found[0].info.run_id)
    assert process.wait(timeout=240) == 0
    (again,) = stored.runs(store_uri)
    assert again.info.run_id != found[0].info.run_id
    assert again.info.status == "FINISHED"
    assert again.data.params["setting"] == "pretrain"
    assert stored.steps(store_uri, again, "loss") == list(range(1, 81))
