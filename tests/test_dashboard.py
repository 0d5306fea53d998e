"""`raynas dashboard`: what its endpoints answer, whom they refuse, and the page in a browser."""

import json
import re
import shutil
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from starlette.testclient import TestClient

from raynas import turns
from raynas.archive import Archive
from raynas.cli import main
from raynas.continuing import require_quiet
from raynas.dashboard import saying
from raynas.dashboard.server import app
from raynas.dashboard_command import hosts, is_loopback
from raynas.report import write_report
from raynas.run import RunInfo
from tests.told_runs import Told

HOSTS = hosts("127.0.0.1")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of runs, one of them with a report, beside what is no run."""
    found = tmp_path_factory.mktemp("runs")
    told = Told(found / "told <b>")
    kept = json.loads((told.folder / "run.json").read_text())
    kept["settings"]["strategy"] = "evolution"
    (told.folder / "run.json").write_text(json.dumps(kept))
    told.search(20, told.info.space.narrow({"num_layers": 4}))
    write_report(told.result)
    (found / "no_run").mkdir()
    (found / "no_run/report.html").write_text("secret")
    return found


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """Nothing is measured here, and the made-up run does not say how its data is loaded."""

    def opened(self, folder, call):
        require_quiet(folder)
        return RunInfo.read(folder), SimpleNamespace(metrics=("accuracy", "params"))

    monkeypatch.setattr(saying.Own, "opened", opened)


@pytest.fixture
def client(folder):
    return TestClient(app(folder, HOSTS), base_url="http://127.0.0.1")


RUN = "/api/runs/told%20%3Cb%3E"


def token(client):
    return re.search('raynas-token" content="([^"]+)"', client.get("/").text)[1]


def post(client, path, data, **headers):
    own = {"x-raynas-token": token(client), "origin": "http://127.0.0.1"}
    return client.post(f"{RUN}/{path}", json=data, headers={**own, **headers})


def test_it_lists_runs_and_how_far_they_are(client):
    (run,) = client.get("/api/runs").json()["runs"]
    assert run["name"] == "told <b>"
    assert (run["state"], run["done"]) == ("stopped", 20)
    found = client.get(RUN).json()
    assert found["trials"] == {"trials": {"finished": 20}}
    assert found["front_size"] == len(found["front"])


def test_the_front_and_the_others_make_up_what_was_measured(client):
    found = client.get(f"{RUN}/front").json()
    assert len(found["front"]["trial"]) + len(found["others"]["trial"]) == 20
    assert found["left_out"] == 0
    assert [row["trial"] for row in found["table"]] == found["front"]["trial"]
    grown = found["hypervolume"]
    assert grown == sorted(grown)
    assert 0 < grown[-1] <= 1


def test_of_many_designs_an_even_choice_is_sent(client, monkeypatch):
    monkeypatch.setattr("raynas.dashboard.answers.POINTS", 5)
    monkeypatch.setattr("raynas.dashboard.answers.ROWS", 8)
    found = client.get(f"{RUN}/front").json()
    assert len(found["others"]["trial"]) == 5
    assert found["left_out"] == 20 - 5 - len(found["front"]["trial"])
    first = client.get(f"{RUN}/trials").json()
    assert [r["trial"] for r in first["trials"]] == list(range(19, 11, -1))
    after = client.get(f"{RUN}/trials?before={first['more']}").json()
    assert after["trials"][0]["trial"] == 11


def test_a_trial_has_its_design_metrics_curve_and_claims(client):
    number = client.get(f"{RUN}/front").json()["front"]["trial"][0]
    found = client.get(f"{RUN}/trials/{number}").json()
    assert found["design"].startswith("layered{")
    assert dict(found["metrics"]).keys() == {"accuracy", "params"}
    assert len(found["curve"]["accuracy"]) == 12
    known = client.get(f"{RUN}/trials/{number}/claims").json()
    assert known["claims"]
    assert all(c["sentence"] and c["verdict"] for c in known["claims"])


def test_a_trial_that_is_not_there_is_said(client):
    answer = client.get(f"{RUN}/trials/999")
    assert answer.status_code == 400
    assert "999" in answer.json()["error"]


def test_the_report_alone_is_served_of_a_run(client):
    assert "<html" in client.get("/report/told%20%3Cb%3E").text
    assert client.get("/report/no_run").status_code == 404
    for path in ("told%20%3Cb%3E/run.json", "%2e%2e%2fno_run", "no_run%00"):
        answer = client.get(f"/report/{path}")
        assert answer.status_code == 404
        assert "secret" not in answer.text


def test_another_host_is_refused(client):
    assert client.get("/api/runs", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/api/runs", headers={"host": "127.0.0.1:8642"}).status_code == 200
    assert client.get("/api/runs", headers={"host": "localhost"}).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"x-raynas-token": "wrong"}, {"origin": "http://evil.example"}, {"origin": ""}]
)
def test_only_the_page_itself_may_say_something(client, headers):
    for path in ("say", "confirm"):
        assert post(client, path, {"say": "keep layer 0"}, **headers).status_code == 403


def test_scripts_come_from_here_alone(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "<script>" not in client.get("/").text


def test_what_is_said_is_shown_back_and_changes_nothing_until_confirmed(
    client, folder, monkeypatch
):
    run = folder / "told <b>"
    started = []

    class Process:
        def __init__(self, command, **_):
            started.append(command)

        def poll(self):
            return 0

    monkeypatch.setattr(saying.subprocess, "Popen", Process)
    found = post(client, "say", {"say": "under 30k parameters"}).json()
    assert "params at most 30,000" in found["answer"]
    assert not turns.read(run)
    assert not started
    assert post(client, "confirm", {"key": "made up"}).status_code == 400
    assert post(client, "confirm", {"key": found["key"], "trials": 3}).json() == {"started": True}
    (command,) = started
    assert command[:2] == [sys.executable, "-c"]
    assert command[-5:] == ["--quiet", "--say=under 30k parameters", "--trials=3", "--", str(run)]
    assert post(client, "confirm", {"key": found["key"]}).status_code == 400
    assert client.get(RUN).json()["started"]["state"] == "ended"


def test_what_is_not_understood_is_refused(client):
    answer = post(client, "say", {"say": "make it purple"})
    assert answer.status_code == 400
    assert answer.json()["error"]
    undo = post(client, "say", {"say": "undo"})
    assert undo.status_code == 400


def test_a_run_that_is_searched_is_not_talked_to(client, folder):
    archive = Archive(folder / "told <b>")
    try:
        answer = post(client, "say", {"say": "keep layer 0"})
    finally:
        archive.close()
    assert answer.status_code == 400
    assert "is being searched now" in answer.json()["error"]


def test_a_folder_may_be_a_run_itself(folder):
    client = TestClient(app(folder / "told <b>", HOSTS), base_url="http://127.0.0.1")
    assert [r["name"] for r in client.get("/api/runs").json()["runs"]] == ["told <b>"]


def test_a_broken_run_does_not_hide_the_others(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    Told(tmp_path / "fine")
    client = TestClient(app(tmp_path, HOSTS), base_url="http://127.0.0.1")
    broken, fine = client.get("/api/runs").json()["runs"]
    assert (broken["state"], fine["state"]) == ("broken", "stopped")
    assert broken["error"]


def test_only_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.0.2.1", "example.org")))
    assert "192.0.2.1" in hosts("192.0.2.1")


def test_a_folder_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["dashboard", str(tmp_path / "nowhere")]) == 1
    assert "expected a folder of runs" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["dashboard", str(tmp_path)]) == 1
    assert "raynas[dashboard]" in capsys.readouterr().err


@pytest.fixture
def address(folder):
    """The page, served to a browser."""
    config = uvicorn.Config(app(folder, HOSTS), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_click_on_the_front_shows_design_and_claims(address):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        wrong = []
        page.on("pageerror", lambda error: wrong.append(error))
        page.goto(address)
        point = page.locator("#chart .trace").nth(1).locator(".points path").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        front = json.loads(page.request.get(f"{address}{RUN}/front").text())["front"]["trial"]
        page.locator("#claims li").first.wait_for()
        title = page.locator("#trial-title").inner_text()
        assert title in [f"Trial {n}" for n in front]
        assert page.locator("#design").text_content().startswith("layered{")
        page.locator("#words").fill("under 30k parameters")
        page.get_by_role("button", name="Show what it means").click()
        expect(page.locator("#answer")).to_contain_text("params at most 30,000", timeout=60_000)
        expect(page.get_by_role("button", name="Go on with this")).to_be_visible()
        page.get_by_role("button", name="Leave it").click()
        expect(page.locator("#answer")).to_have_text("Nothing was changed.")
        assert not wrong
        browser.close()
