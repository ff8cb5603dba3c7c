"""The local cloud as a whole: its start, its state, its command line, and its end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import requests
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from localcloud.api_client import ApiClient
from localcloud.catalogue import EVERYONE, ROOT, read_catalogue
from localcloud.running_cloud import RunningCloud, run_command, start_cloud, wait_for_cloud
from localcloud.settings import LocalSettings
from tests.processes import descendants, eventually, is_gone

FUNCTIONS = read_catalogue().functions
OWN_CLOUD = pytest.mark.xdist_group("own_cloud")  # one worker starts it


@pytest.fixture(scope="module")
def own_cloud() -> Iterator[RunningCloud]:
    """A cloud that a test may disturb."""
    with start_cloud(LocalSettings(times="fast", schedule_seconds=0)) as cloud:
        yield cloud


def account(cloud: RunningCloud, name: str) -> str:
    """Return the address of a service account."""
    return f"{name}@{cloud.state['project_id']}.iam.gserviceaccount.com"


def create(cloud: RunningCloud, token: str, name: str = "first") -> dict[str, Any]:
    """Ask for a workspace and return it."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(
        f"{cloud.address}/workspaces", json={"name": name}, headers=headers, timeout=10
    )
    assert answer.status_code == 201, answer.text
    workspace: dict[str, Any] = answer.json()
    return workspace


def workspaces(cloud: RunningCloud, token: str) -> list[dict[str, Any]]:
    """Return a person's workspaces."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{cloud.address}/workspaces", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()
    return listed


# What it says about itself


def test_it_is_healthy_as_soon_as_it_is_there(cloud: RunningCloud) -> None:
    """Once the state file is there, the public address answers, and so does every function."""
    print(f"The local cloud was ready after {cloud.state['ready_seconds']} s.")  # noqa: T201  # a figure, not a promise
    assert requests.get(f"{cloud.address}/health", timeout=5).status_code == 200
    for function in cloud.state["functions"].values():
        assert requests.get(f"{function['direct_url']}/favicon.ico", timeout=5).status_code in {
            404,
            405,
        }


def test_the_state_file_says_where_everything_is(cloud: RunningCloud) -> None:
    """It has addresses, running processes and log files, for every function and service."""
    state = json.loads(cloud.state_file.read_text())
    assert set(state["functions"]) == {function.name for function in FUNCTIONS}
    assert set(state["services"]) == {
        "firestore",
        "pubsub",
        "tasks",
        "compute",
        "identity",
        "control",
    }
    entries = [
        *state["functions"].values(),
        *state["processes"].values(),
        {"pid": state["pid"], "log": state["log"]},
    ]
    for entry in entries:
        assert not is_gone(entry["pid"])
        assert Path(entry["log"]).is_file()
    assert len({entry["pid"] for entry in entries}) == len(entries)
    assert stat.S_IMODE(Path(state["folder"]).stat().st_mode) == 0o700


def test_every_function_has_the_environment_of_the_deployment_and_no_other(
    cloud: RunningCloud,
) -> None:
    """Nothing of ours leaks into it: not the emulators' neighbours, not this test's variables."""
    if not Path("/proc").is_dir():
        pytest.skip("another process's environment is shown on Linux only")
    state = cloud.state
    platform = {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "PYTHONPATH",
        "HOST",
        "PORT",
        "THREADS",
        "LOG_EXECUTION_ID",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    for name, function in state["functions"].items():
        content = Path(f"/proc/{function['pid']}/environ").read_text().split("\0")
        environment = dict(variable.split("=", 1) for variable in content if variable)
        assert environment["FUNCTION_TARGET"] == name
        assert state["environment"].items() <= environment.items()
        ours = {"FUNCTION_TARGET", "FUNCTION_SOURCE", "FUNCTION_SIGNATURE_TYPE"}
        assert set(environment) - platform - ours == set(state["environment"])


@OWN_CLOUD
def test_the_lines_that_it_prints_work_as_pasted(own_cloud: RunningCloud) -> None:
    """Each of the three is answered with a workspace that is the developer's."""
    printed = own_cloud.state_file.with_name("output.txt").read_text()
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  curl")]
    assert len(lines) == 3
    for line in lines:
        answer = _answer_to(line)
        workspace = answer[0] if isinstance(answer, list) else answer
        assert workspace.get("owner_id") == "dev-user-id", answer


def _answer_to(line: str) -> Any:
    """Return what a pasted line prints, run again while a busy machine makes it a 503."""
    for _ in range(10):
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        answer = json.loads(done.stdout)
        if isinstance(answer, list) or answer.get("status") != 503:
            break
        time.sleep(1)
    return answer


def test_what_triggers_the_functions_is_set_up_as_the_catalogue_says(cloud: RunningCloud) -> None:
    """Subscriptions with their retries and dead letters, queues with their rates."""
    state, project = cloud.state, f"projects/{cloud.state['project_id']}"
    for function in FUNCTIONS:
        if function.topic and function.retry:
            url = f"http://{state['services']['pubsub']}/v1/{project}/subscriptions/{function.service}"
            subscription = requests.get(url, timeout=10).json()
            assert subscription["topic"] == f"{project}/topics/{function.topic}"
            assert subscription["ackDeadlineSeconds"] == function.ack_deadline_seconds
            assert subscription["retryPolicy"] == {
                "minimumBackoff": f"{function.retry['min_backoff_seconds']}s",
                "maximumBackoff": f"{function.retry['max_backoff_seconds']}s",
            }
            dead_letter = function.dead_letter and {
                "deadLetterTopic": f"{project}/topics/{function.dead_letter['topic']}",
                "maxDeliveryAttempts": function.dead_letter["max_attempts"],
            }
            assert subscription.get("deadLetterPolicy") == dead_letter
        if function.queue and function.dispatch and function.retry:
            with grpc.insecure_channel(state["services"]["tasks"]) as channel:
                client = tasks_v2.CloudTasksClient(
                    transport=CloudTasksGrpcTransport(channel=channel)
                )
                queue = client.get_queue(
                    name=f"{project}/locations/{state['region']}/queues/{function.queue}"
                )
            assert (
                queue.rate_limits.max_dispatches_per_second == function.dispatch["max_per_second"]
            )
            assert (
                queue.rate_limits.max_concurrent_dispatches == function.dispatch["max_concurrent"]
            )
            assert queue.retry_config.max_attempts == function.retry["max_attempts"]
            assert queue.retry_config.max_backoff == timedelta(
                seconds=function.retry["max_backoff_seconds"]
            )


def test_the_scheduled_functions_are_called(cloud: RunningCloud) -> None:
    """Again and again, and they answer."""
    assert eventually(
        lambda: all(
            cloud.log("cloud").count(f"{name} answered 200") > 1
            for name in ("cleanup", "reconcile")
        )
    )


# Who gets through


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_function_of_the_platform_refuses_everybody_but_its_invoker(
    cloud: RunningCloud, function: Any
) -> None:
    """No token, a person's or another account's: refused; public functions check in code."""
    url = cloud.function_url(function.name)
    others = [
        account(cloud, name) for name in read_catalogue().invokers if name != function.invoker
    ]
    tokens = [None, *(cloud.token(email, audience=url) for email in ["alice@example.com", *others])]
    for token in tokens:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.post(f"{url}/nowhere", headers=headers, json={}, timeout=10)
        if function.invoker == EVERYONE:
            assert answer.headers["Content-Type"] == "application/problem+json"
        else:
            assert (answer.status_code, answer.headers["Content-Type"]) == (
                403,
                "text/html; charset=utf-8",
            )


def test_the_scheduler_gets_through(cloud: RunningCloud) -> None:
    """Its token, for the function's own URL, opens the scheduled functions."""
    for name in ("cleanup", "reconcile"):
        url = cloud.function_url(name)
        token = cloud.token(account(cloud, "scheduler"), audience=url)
        answer = requests.post(
            f"{url}/{name}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path", ["/cleanup", "/reconcile", "/operations", "/workspaces/7/reports", "/nowhere"]
)
def test_what_is_not_for_people_has_no_public_address(cloud: RunningCloud, path: str) -> None:
    """The gateway knows nothing of it."""
    answer = requests.post(cloud.address + path, json={}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_wrong_method_is_told_the_right_ones(cloud: RunningCloud) -> None:
    """405, with Allow."""
    answer = requests.put(f"{cloud.address}/workspaces", json={}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, POST"


@OWN_CLOUD
def test_a_client_without_a_token_is_the_developer_at_the_public_address_only(
    own_cloud: RunningCloud,
) -> None:
    """The gateway adds the token; the function's own URL does not."""
    made = requests.post(f"{own_cloud.address}/workspaces", json={"name": "mine"}, timeout=10)
    assert (made.status_code, made.json()["owner_id"]) == (201, "dev-user-id")
    direct = requests.get(f"{own_cloud.function_url('list_workspaces')}/workspaces", timeout=10)
    assert direct.status_code == 401


def test_a_wrong_token_is_not_made_the_developers(cloud: RunningCloud) -> None:
    """A token that is there is handed on, and refused by the Hub."""
    headers = {"Authorization": "Bearer nonsense"}
    assert (
        requests.get(f"{cloud.address}/workspaces", headers=headers, timeout=10).status_code == 401
    )


# What goes wrong


@OWN_CLOUD
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_function_that_was_killed_is_started_again(
    own_cloud: RunningCloud, number: signal.Signals
) -> None:
    """The next request waits for it, and the state file has the new process."""
    before = own_cloud.state["functions"]["describe_api"]["pid"]
    own_cloud.kill_function("describe_api", number)
    assert eventually(lambda: is_gone(before))
    assert requests.get(f"{own_cloud.address}/health", timeout=20).status_code == 200
    assert eventually(lambda: own_cloud.state["functions"]["describe_api"]["pid"] != before)
    assert "describe_api ended with" in own_cloud.log("cloud")


@OWN_CLOUD
@pytest.mark.parametrize("fault", ["duplicate_delivery", "late_delivery", "unreliable_delivery"])
def test_workspaces_get_ready_when_delivery_is_bad(own_cloud: RunningCloud, fault: str) -> None:
    """Everything delivered twice, or late, or in any order, by Pub/Sub and Cloud Tasks alike."""
    own_cloud.fault(fault, seconds=None if fault == "duplicate_delivery" else 0.5, lost=0.0)
    assert [on["name"] for on in own_cloud.faults()] == [fault]
    token = own_cloud.token(f"{fault}@example.com")
    create(own_cloud, token)
    assert eventually(lambda: workspaces(own_cloud, token)[0]["status"] == "READY", 30)
    [machine] = [
        each
        for each in own_cloud.machines()
        if each["name"] == workspaces(own_cloud, token)[0]["instance_name"]
    ]
    assert machine["status"] == "RUNNING"
    own_cloud.clear_faults()
    assert own_cloud.faults() == []


@OWN_CLOUD
def test_a_reset_leaves_nothing(own_cloud: RunningCloud) -> None:
    """Records, machines and faults are gone, even during requests; new requests work."""
    token = own_cloud.token("reset@example.com")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: create(own_cloud, token, name), ["one", "two", "three", "four"]))
    own_cloud.fault("stock_out")
    own_cloud.fault("duplicate_delivery")
    own_cloud.reset()
    assert workspaces(own_cloud, token) == []
    assert own_cloud.machines() == []
    assert own_cloud.faults() == []
    create(own_cloud, token, "one")
    assert eventually(lambda: workspaces(own_cloud, token)[0]["status"] == "READY", 30)
    assert len(own_cloud.machines()) == 1


# The command line


def command(cloud: RunningCloud, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a cloud."""
    line = [sys.executable, "-m", "localcloud", *arguments, "--state", str(cloud.state_file)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_line_prints_a_token(cloud: RunningCloud) -> None:
    """It is for the Hub, and the Hub takes it."""
    done = command(cloud, "token", "--email", "alice@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["email"], claims["aud"]) == ("alice@example.com", cloud.address)
    workspaces(cloud, token)


@OWN_CLOUD
def test_the_command_line_makes_an_administrator(own_cloud: RunningCloud) -> None:
    """The functions for people know them at once; a second time, nothing is restarted."""
    email, everybodys = "carol@example.com", f"{own_cloud.address}/workspaces?all=true"

    def allowed(token: str) -> int:
        return requests.get(
            everybodys, headers={"Authorization": f"Bearer {token}"}, timeout=20
        ).status_code

    def pids() -> dict[str, int]:
        return {name: function["pid"] for name, function in own_cloud.state["functions"].items()}

    before = pids()
    assert allowed(own_cloud.token(email)) == 403
    done = command(own_cloud, "token", "--email", email, "--admin")
    assert (done.returncode, done.stderr) == (0, "")
    assert allowed(done.stdout.strip()) == 200
    assert allowed(own_cloud.token("admin@localhost")) == 200
    assert allowed(own_cloud.token("alice@example.com")) == 403
    assert own_cloud.state["environment"]["HUB_OUTSIDE_ADMIN_EMAILS"] == f"admin@localhost,{email}"
    after = pids()
    assert {name for name in before if before[name] != after[name]} == {
        f.name for f in FUNCTIONS if f.is_public
    }
    own_cloud.make_admin(email.upper())
    assert pids() == after


@OWN_CLOUD
def test_an_administrator_without_an_address_is_refused(own_cloud: RunningCloud) -> None:
    """One line, exit code 1, and nobody is one."""
    done = command(own_cloud, "token", "--email", "a@example.com,b@example.com", "--admin")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "'a@example.com,b@example.com' is not an e-mail address.\n"
    assert "b@example.com" not in own_cloud.state["environment"]["HUB_OUTSIDE_ADMIN_EMAILS"]


@OWN_CLOUD
def test_the_command_line_switches_faults(own_cloud: RunningCloud) -> None:
    """On with a count and a zone, and off again."""
    on = command(own_cloud, "fault", "stock_out", "--count", "2", "--zone", "us-west1-b")
    assert (on.returncode, on.stdout.partition(":")[0]) == (
        0,
        "stock_out is on (count 2, zone us-west1-b)",
    )
    assert "stock_out is on" in command(own_cloud, "status").stdout
    off = command(own_cloud, "fault", "stock_out", "--off")
    assert (off.returncode, off.stdout) == (0, "No fault is on.\n")


def test_the_command_line_names_the_faults_to_who_asks_for_another(cloud: RunningCloud) -> None:
    """One line, exit code 1."""
    done = command(cloud, "fault", "plague")
    assert (done.returncode, done.stdout) == (1, "")
    assert "stock_out" in done.stderr
    assert "late_delivery" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_prints_logs(cloud: RunningCloud) -> None:
    """Of one function, or of everything with its name before each line."""
    requests.get(f"{cloud.address}/workspaces", headers={"X-Request-Id": "look-for-me"}, timeout=10)
    assert eventually(lambda: "look-for-me" in command(cloud, "logs", "list_workspaces").stdout)
    lines = command(cloud, "logs").stdout.splitlines()
    assert any(line.startswith("list_workspaces") and "look-for-me" in line for line in lines)
    wrong = command(cloud, "logs", "nothing")
    assert (wrong.returncode, wrong.stderr.startswith("Nothing here is called nothing.")) == (
        1,
        True,
    )


def test_the_command_line_tells_the_story_of_a_workspace(cloud: RunningCloud) -> None:
    """From the request to the end of its operation, of all functions; none of an unknown id."""
    alice = ApiClient(cloud.address, cloud.token("traced@example.com"))
    workspace_id = alice.create("traced")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    assert eventually(lambda: "OperationEnded" in command(cloud, "trace", workspace_id).stdout)
    lines = command(cloud, "trace", workspace_id).stdout.splitlines()
    told = [(line.split()[3], line.split()[4]) for line in lines]
    assert told[0] == ("create_workspace", "WorkspaceRequested")
    assert ("provision_workspace", "InsertInstance") in told
    assert ("report_workspace", "WorkspaceReady") in told
    [end] = [line for line in lines if "OperationEnded" in line]
    assert "operation_kind=CREATE" in end
    assert "result=READY" in end
    unknown = command(cloud, "trace", "unknown")
    assert (unknown.returncode, unknown.stdout) == (1, "Nothing was logged about unknown.\n")


def test_the_command_line_ends_quietly_when_its_reader_has_enough(cloud: RunningCloud) -> None:
    """As `head` does: no traceback."""
    line = f"{sys.executable} -u -m localcloud logs --state {cloud.state_file} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_the_command_line_follows_logs(cloud: RunningCloud) -> None:
    """What comes later is printed, too."""
    line = [
        sys.executable,
        "-m",
        "localcloud",
        "logs",
        "list_workspaces",
        "-f",
        "--state",
        str(cloud.state_file),
    ]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        try:
            requests.get(
                f"{cloud.address}/workspaces", headers={"X-Request-Id": "follow-me"}, timeout=10
            )
            assert any("follow-me" in printed for printed in following.stdout)
        finally:
            following.terminate()


@OWN_CLOUD
def test_the_command_line_resets(own_cloud: RunningCloud) -> None:
    """Quietly."""
    token = own_cloud.token("quiet@example.com")
    create(own_cloud, token)
    done = command(own_cloud, "reset")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert workspaces(own_cloud, token) == []


def test_a_second_cloud_with_the_same_state_file_is_refused(cloud: RunningCloud) -> None:
    """One line that says where the first one is."""
    done = command(cloud, "run", "--port", "0")
    assert done.returncode == 1
    assert (
        done.stderr == f"A local cloud is running already: {cloud.address} ({cloud.state_file})\n"
    )


def test_a_port_that_is_taken_is_refused_in_one_line(cloud: RunningCloud, tmp_path: Path) -> None:
    """And nothing is left of the attempt."""
    port = cloud.address.rpartition(":")[2]
    line = [
        sys.executable,
        "-m",
        "localcloud",
        "run",
        "--port",
        port,
        "--state",
        str(tmp_path / "state.json"),
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {port} cannot be used: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# How it ends


class Run:
    """A cloud of a test's own, with a temp folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state_file = folder / "state.json"
        self.temporary = Path(tempfile.mkdtemp(dir=folder))
        self.output = folder / "output.txt"
        with self.output.open("w") as printed:
            self.process = subprocess.Popen(
                run_command(LocalSettings(times="fast"), self.state_file),
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.temporary)},
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pids: set[int] = set()

    def wait_until_ready(self) -> None:
        """Wait until everything runs."""
        wait_for_cloud(self.state_file, lambda: self.process.poll() is not None, self.output)
        self.pids = descendants(self.process.pid)
        assert len(self.pids) > len(FUNCTIONS) + 3

    def wait_until_halfway(self) -> None:
        """Wait until some of it runs."""
        assert eventually(lambda: len(descendants(self.process.pid)) > 5)
        self.pids = descendants(self.process.pid)

    def end_input(self) -> None:
        """Do what the death of whoever started it does."""
        assert self.process.stdin
        self.process.stdin.close()

    def expect_nothing_left(self) -> None:
        """Check that it is gone with everything that it started and made."""
        assert eventually(lambda: all(map(is_gone, self.pids)))
        assert eventually(lambda: not any(self.temporary.iterdir()))
        assert not self.state_file.exists()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A cloud that is being started."""
    run = Run(tmp_path)
    with run.process:
        yield run
        run.process.kill()


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "the end of its input"])
def test_nothing_is_left_of_it_however_it_ends(run: Run, end: str) -> None:
    """No process of it, no temporary folder, no state file."""
    run.wait_until_ready()
    if end.startswith("SIG"):
        run.process.send_signal(signal.Signals[end])
    else:
        run.end_input()
    code = run.process.wait(20)
    assert code == (-signal.SIGKILL if end == "SIGKILL" else 0)
    run.expect_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_nothing_is_left_of_it_when_it_ends_while_it_starts(
    run: Run, number: signal.Signals
) -> None:
    """There is no moment at which a child runs that nobody would end."""
    run.wait_until_halfway()
    run.process.send_signal(number)
    run.process.wait(20)
    run.expect_nothing_left()


def test_an_emulator_that_dies_takes_the_cloud_along(run: Run) -> None:
    """Its data are gone, so nothing that goes on would be true; the reason is said in one line."""
    run.wait_until_ready()
    state = json.loads(run.state_file.read_text())
    os.kill(state["processes"]["firestore"]["pid"], signal.SIGKILL)
    assert run.process.wait(20) == 1
    assert "Firestore emulator has ended with -9" in run.output.read_text()
    run.expect_nothing_left()
