"""`raynas doctor`: each finding from made-up nodes, and a real cluster with something wrong."""

import os
import re
import signal
import socket
from dataclasses import replace

import pytest

from raynas.cli import main
from raynas.tune import doctor, findings, machine
from raynas.tune.doctor import Check, Node, places, probed

GIB = 2.0**30
FINE = {
    "python": "3.11.7",
    "packages": {"raynas": "0.1.0", "ray": "2.60.0", "torch": "2.11.0", "numpy": "2.0.0"},
    "code": {"raynas": "aaaa", "search_spaces": "bbbb"},
    "memory": (16 * GIB, 8 * GIB),
    "disks": {"/tmp": (50 * GIB, 100 * GIB), "/dev/shm": (8 * GIB, 8 * GIB)},
    "gpus": [],
    "torch": None,
    "auth": "token",
    "open": [22],
    "storage": "",
}
CARD = {"name": "A100", "mb": 40_000.0, "used_mb": 0.0}


def node(name="a", cpus=4.0, gpus=0.0, free=None, head=False, **said):
    have = {"CPU": cpus, "object_store_memory": GIB} | ({"GPU": gpus} if gpus else {})
    left = have if free is None else {**have, "CPU": free}
    return Node(name, name, f"10.0.0.{ord(name)}", head, have, left, {**FINE, **said})


def only(found):
    (check,) = found
    assert isinstance(check, Check)
    return check


def verdicts(found):
    return [check.verdict for check in found]


@pytest.mark.parametrize(
    ("have", "ask", "count"),
    [
        ({"CPU": 4.0}, (1, 0), 4),
        ({"CPU": 4.0}, (3, 0), 1),
        ({"CPU": 4.0}, (1, 1), 0),
        ({"CPU": 8.0, "GPU": 2.0}, (1, 0.25), 8),
        ({"CPU": 8.0, "GPU": 2.0}, (1, 0.3), 6),  # three on each: a trial lies on one GPU
        ({"CPU": 8.0, "GPU": 2.0}, (1, 0.6), 2),
        ({"CPU": 8.0, "GPU": 2.0}, (1, 2), 1),
        ({"CPU": 8.0, "GPU": 1.0}, (1, 0.1), 8),
    ],
)
def test_how_many_trials_fit(have, ask, count):
    assert places(have, *ask) == count


def test_nothing_to_say_of_nodes_that_are_fine():
    nodes = [node("a", head=True), node("b")]
    found = [
        *findings.answers(nodes, 60),
        *findings.versions(nodes, FINE),
        *findings.resources(nodes, 1, 0, [], []),
        *findings.memory(nodes, 1, 0),
        *findings.disks(nodes),
        *findings.storage(nodes, "/nfs/probe", "/nfs/run"),
        *findings.authentication(nodes, alone=False),
        *findings.ports(nodes, {"Ray itself": 6379}, token=True),
        *findings.clocks(nodes),
    ]
    assert set(verdicts(found)) == {"ok"}
    assert not any(check.todo for check in found)
    assert any("room for 8 (4 on a (10.0.0.97), 4 on b (10.0.0.98))" in c.text for c in found)


def test_a_node_that_does_not_answer_is_named():
    dead = replace(node("b"), said=None)
    check = only(findings.answers([node("a"), dead], 60))
    assert check.verdict == "problem"
    assert "b (10.0.0.98) does not answer within 60 s" in check.text
    broken = replace(node("b"), said={"failed": "RuntimeEnvSetupError: no such image"})
    assert "no such image" in only(findings.answers([node("a"), broken], 60)).text
    assert list(findings.versions([dead, broken], FINE)) == []  # and nothing is said in its name


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({"ray": "2.59.0"}, "problem", "ray: 2.60.0 here, 2.59.0 on b"),
        ({"raynas": ""}, "problem", "raynas: 0.1.0 here, none on b"),
        ({"numpy": "2.1.0"}, "warning", "numpy: 2.0.0 here, 2.1.0 on b"),
        ({"torch": ""}, "problem", "torch: 2.11.0 here, none on b"),
        ({"torch": "2.12.0"}, "warning", "torch: 2.11.0 here, 2.12.0 on b"),
    ],
)
def test_another_version_on_a_node(changed, verdict, words):
    other = node("b", packages={**FINE["packages"], **changed})
    check = only(findings.versions([node("a"), other], FINE))
    assert check.verdict == verdict
    assert words in check.text
    assert "Install" in check.todo


def test_another_checkout_of_the_same_version():
    other = node("b", code={**FINE["code"], "raynas": "cccc"})
    check = only(findings.versions([node("a"), other], FINE))
    assert check.verdict == "warning"
    assert "its code on b (10.0.0.98) is another than here" in check.text


def test_what_no_node_has():
    check = only(findings.resources([node("a"), node("b")], 1, 1.0, [], []))
    assert check.verdict == "problem"
    assert "1 CPU and 1 GPU, which no node has: a (10.0.0.97) has 4 CPUs and 0 GPUs: no GPU" in (
        check.text
    )
    assert "too few CPUs" in only(findings.resources([node("a")], 8, 0, [], [])).text
    assert "whole number" in only(findings.resources([node("a", gpus=4)], 1, 1.5, [], [])).todo


def test_a_node_without_a_gpu_among_others():
    first, *_ = findings.resources([node("a"), node("b", gpus=1.0)], 1, 0.5, [], [])
    assert first.verdict == "ok"
    assert "room for 2 (2 on b (10.0.0.98)); none on: a (10.0.0.97)" in first.text
    assert first.text.endswith("no GPU")


def test_full_nodes_and_who_is_at_work():
    nodes = [node("a", free=0.0), node("b", free=0.0)]
    _, room = findings.resources(nodes, 1, 0, [], ["the search of /nfs/other"])
    assert room.verdict == "warning"
    assert "no place is free now, on a" in room.text
    assert "at work: the search of /nfs/other" in room.text
    _, some = findings.resources([nodes[0], node("b")], 1, 0, [], [])
    assert some.verdict == "ok"
    assert "4 of 8; full: a" in some.text


def test_what_waits_and_what_waits_in_vain():
    nodes = [node("a", free=0.0)]
    *_, waiting = findings.resources(nodes, 1, 0, [{"CPU": 1.0}, {"CPU": 1.0}], [])
    assert (waiting.about, waiting.verdict) == ("waiting", "ok")
    *_, waiting = findings.resources(nodes, 1, 0, [{"CPU": 1.0}, {"GPU": 1.0}], [])
    assert waiting.verdict == "warning"
    assert "of which 1 fit on no node" in waiting.text


@pytest.mark.parametrize(
    ("known", "cards", "torch", "asked", "verdict", "words"),
    [
        (0, 2, (2, ""), 0, "warning", "has 2 GPUs, of which Ray knows 0"),
        (2, 0, (0, "it finds none"), 1, "problem", "Ray believes that a (10.0.0.97) has 2 GPUs"),
        (1, 1, (0, "this build of torch is for CPUs only"), 1, "problem", "for CPUs only"),
        (1, 1, (0, "this build of torch is for CPUs only"), 0, "warning", "for CPUs only"),
        (1, 1, (1, ""), 1, "ok", "1 on a"),
    ],
)
def test_gpus(known, cards, torch, asked, verdict, words):
    there = replace(
        node("a", gpus=float(known)), said={**FINE, "gpus": [CARD] * cards, "torch": torch}
    )
    check = only(findings.gpus_known([there], asked))
    assert check.verdict == verdict
    assert words in check.text


def test_little_memory_and_full_disks():
    check = only(findings.memory([node("a", cpus=8.0, memory=(4 * GIB, GIB))], 1, 0))
    assert check.verdict == "warning"
    assert "0.5 GiB on a" in check.text
    disks = {"/tmp": (GIB, 100 * GIB), "/dev/shm": (GIB / 64, GIB / 16)}
    found = list(findings.disks([node("a", disks=disks)]))
    assert verdicts(found) == ["warning", "warning"]
    assert "--shm-size" in found[0].todo
    assert "1.00 of 100.0 GiB free in /tmp on a" in found[1].text


def test_a_folder_that_is_not_shared():
    head, other = (
        node("a", head=True, storage="it is not there"),
        node("b", storage="it is not there"),
    )
    found = list(findings.storage([head, other], "/home/me/.doctor-1", "/home/me/run"))
    assert verdicts(found) == ["problem", "warning"]
    assert "does not see /home/me/run as it is here: it is not there" in found[0].text
    assert "s3://" in found[0].todo
    assert "The head alone writes" in found[1].todo
    assert list(findings.storage([head], "", "")) == []  # no run was given


def test_tokens_ports_and_clocks():
    some = [node("a"), node("b", auth="")]
    assert "is not set on b" in only(findings.authentication(some, alone=False)).text
    none = [node("a", auth="", head=True, open=[8265]), node("b", auth="")]
    check = only(findings.authentication(none, alone=False))
    assert check.verdict == "warning"
    assert "can run any program" in check.text
    assert list(findings.authentication(none, alone=True)) == []
    known = {"Ray itself": 6379, "the dashboard": 8265}
    assert "the dashboard (8265)" in only(findings.ports(none, known, token=False)).text
    late = [replace(node("a"), off=-400.0), replace(node("b"), off=30.0), node("c")]
    found = list(findings.clocks(late))
    assert verdicts(found) == ["problem", "warning"]
    assert "at least 400 s behind here" in found[0].text


def test_a_probe_is_taken_away_and_what_cannot_be_written_is_said(tmp_path):
    with probed(str(tmp_path / "not/yet/there")) as ((place, content), wrong):
        assert wrong is None
        assert machine.storage(place, content) == ""
        assert machine.storage(place, "other") == "something else is there"
    assert machine.storage(place, content) == "it is not there"
    assert not list(tmp_path.iterdir())
    with probed("memory://nowhere/run") as ((place, content), wrong):
        assert wrong is None
        assert machine.storage(place, content) == ""


def test_what_a_machine_says_of_itself():
    said = machine.look("/dev/probe", "", try_gpu=False)
    assert list(said["disks"])[1:] == ["/dev/shm", "/dev"]
    assert said["storage"] == "it is not there"
    assert said["packages"]["ray"]
    assert said["packages"]["raynas"]
    assert re.fullmatch("[0-9a-f]{8}", said["code"]["raynas"])
    assert said["memory"][0] >= said["memory"][1] > 1e8
    assert said["disks"]["/tmp"][0] > 0 or os.sep != "/"
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert server.getsockname()[1] in machine.listening()
    assert machine.version("no-such-package") == machine.digest("no_such_package") == ""


def test_an_address_where_nothing_listens(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert main(["doctor", "--address", f"127.0.0.1:{port}"]) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM  cluster: nothing listens at 127.0.0.1:{port}" in said
    assert "ray start --head" in said
    assert main(["doctor", "--address", "no-such-host.invalid:6379"]) == 1
    assert "is the name of no machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("raise RuntimeError('Unauthenticated: InvalidAuthToken')", "refuses the token"),
        ("raise ConnectionError('no instance is running')", "no instance is running"),
        ("import time; time.sleep(60)", "does not speak as a head does"),
    ],
)
def test_a_head_that_does_not_let_one_in(said, words, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "GREET", said)
    monkeypatch.setattr(doctor, "GREETING", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert main(["doctor", "--address", address]) == 1
    assert words in capsys.readouterr().out


@pytest.fixture(scope="module")
def cluster():
    """Two nodes: the head has no GPU; Ray was told of one on the other, which it does not have."""
    import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

    import ray  # isort: skip
    from ray.cluster_utils import Cluster  # isort: skip

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1, num_gpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_of_two_nodes(cluster, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["doctor", "--run", run, "--gpus-per-trial", "0"]) == 1
    said = capsys.readouterr().out
    assert "2 nodes, and all answer" in said
    assert "ok       versions: the same everywhere: Python" in said
    assert "a trial asks for 1 CPU and 0 GPUs: room for 3 (2 on" in said
    assert "free now: 3 of 3" in said
    assert f"ok       storage: {run} is the same" in said
    assert "PROBLEM  GPUs: Ray believes that" in said
    assert "ok       clocks" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_cluster_that_is_full(cluster, capsys):
    import ray

    @ray.remote(num_cpus=1)
    class Busy:
        def ready(self):
            return True

    actors = [Busy.remote() for _ in range(3)]
    assert ray.get([a.ready.remote() for a in actors]) == [True] * 3
    try:
        assert main(["doctor", "--gpus-per-trial", "0"]) == 1
        assert "warning  room: no place is free now" in capsys.readouterr().out
    finally:
        for actor in actors:
            ray.kill(actor)


@pytest.mark.slow
def test_a_node_that_hangs(cluster, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 10.0)
    raylet = cluster.second.all_processes["raylet"][0].process
    raylet.send_signal(signal.SIGSTOP)
    try:
        assert main(["doctor", "--gpus-per-trial", "0"]) == 1
    finally:
        raylet.send_signal(signal.SIGCONT)
    said = capsys.readouterr().out
    assert said.count("does not answer within 10 s") == 1
    assert "versions: the same everywhere" in said  # the other one did
