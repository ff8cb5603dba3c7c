"""The local cloud as a whole: its start, its state, its command line, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
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
from google import pubsub_v1
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from localcloud.api_client import ApiClient
from localcloud.catalogue import EVERYONE, ROOT, read_catalogue
from localcloud.processes.children import free_ports
from localcloud.running_cloud import RunningCloud, run_command, start_cloud, wait_for_cloud
from localcloud.settings import LocalSettings
from tests.processes import descendants, eventually, is_gone

FUNCTIONS = read_catalogue().functions
OWN_CLOUD = pytest.mark.xdist_group("own_cloud")  # one worker starts it for all of these tests


@pytest.fixture(scope="module")
def own_cloud(emulators: str) -> Iterator[RunningCloud]:
    """A cloud that these tests may disturb."""
    settings = LocalSettings(times="fast", emulators=emulators, schedule_seconds=0)
    with start_cloud(settings) as cloud:
        yield cloud


def service_account(cloud: RunningCloud, name: str) -> str:
    """Return the address of a service account."""
    return f"{name}@{cloud.state['project_id']}.iam.gserviceaccount.com"


def create_workspace(cloud: RunningCloud, token: str, name: str = "first") -> dict[str, Any]:
    """Create a workspace and return it."""
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


# Its state file, its output and its setup


def test_every_function_starts_when_it_is_needed(cloud: RunningCloud) -> None:
    """The public address reports its health, and every function answers at its own URL."""
    print(f"The local cloud was ready after {cloud.state['ready_seconds']} s.")  # noqa: T201  # a measurement for the reader
    assert requests.get(f"{cloud.address}/health", timeout=30).status_code == 200
    for name, function in cloud.state["functions"].items():
        cloud.function_pid(name)
        assert requests.get(f"{function['direct_url']}/favicon.ico", timeout=30).status_code in {
            404,
            405,
        }


def test_the_state_file_lists_every_function_and_service(cloud: RunningCloud) -> None:
    """Each has a log file, what has an id runs, and only the owner can open the folder."""
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
        assert Path(entry["log"]).is_file()
    pids = [entry["pid"] for entry in entries if entry["pid"] is not None]
    assert not any(map(is_gone, pids))
    assert len(set(pids)) == len(pids)
    assert (state["emulators"], "pubsub" in state["processes"]) in {
        ("embedded", False),
        ("google", True),
    }
    assert stat.S_IMODE(Path(state["folder"]).stat().st_mode) == 0o700


def test_a_function_has_only_the_environment_of_its_deployment(
    cloud: RunningCloud,
) -> None:
    """No variable of the local cloud, its emulators or this test reaches a function."""
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
        "no_proxy",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    for name in state["functions"]:
        content = Path(f"/proc/{cloud.function_pid(name)}/environ").read_text().split("\0")
        environment = dict(variable.split("=", 1) for variable in content if variable)
        assert environment["FUNCTION_TARGET"] == name
        assert state["environment"].items() <= environment.items()
        ours = {"FUNCTION_TARGET", "FUNCTION_SOURCE", "FUNCTION_SIGNATURE_TYPE"}
        assert set(environment) - platform - ours == set(state["environment"])


def _printed(cloud: RunningCloud, line: str, count: int) -> list[Any]:
    """Return what a pattern finds in what a cloud prints just after it has written its state."""
    output = cloud.state_file.with_name("output.txt")
    found: list[Any] = []

    def is_there() -> bool:
        found[:] = re.findall(line, output.read_text(), re.MULTILINE)
        return len(found) == count

    assert eventually(is_there), output.read_text()
    return found


@OWN_CLOUD
def test_the_printed_curl_lines_work_when_pasted(own_cloud: RunningCloud) -> None:
    """Each of the three lines returns a workspace of the developer."""
    lines = _printed(own_cloud, r"^  (curl .*)$", 3)
    for line in lines:
        answer = _output_of_curl_line(line)
        workspace = answer[0] if isinstance(answer, list) else answer
        assert workspace.get("owner_id") == "dev-user-id", answer


@OWN_CLOUD
def test_the_printed_address_of_the_page_lets_it_sign_in(own_cloud: RunningCloud) -> None:
    """The page is there, and the secret in the fragment gets it a token that the Hub believes."""
    [(address, secret)] = _printed(own_cloud, r"^  The page: (http://\S+)/#local=(\S+)$", 1)
    assert secret != own_cloud.state["secret"]
    assert "</html>" in requests.get(address, timeout=30).text
    given = requests.post(
        f"{address}/localcloud/token",
        headers={"Authorization": f"Bearer {secret}"},
        json={"email": "carol@example.com"},
        timeout=30,
    )
    token = given.json()["token"]
    answer = requests.get(
        f"{address}/workspaces", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert answer.json() == []


def _output_of_curl_line(line: str) -> Any:
    """Return what a pasted line prints; run it again while a busy machine answers 503."""
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


def test_subscriptions_and_queues_match_the_catalogue(cloud: RunningCloud) -> None:
    """Retries, dead letters and rates are those that the catalogue gives to each function."""
    state, project = cloud.state, f"projects/{cloud.state['project_id']}"
    for function in FUNCTIONS:
        if function.topic and function.retry:
            with grpc.insecure_channel(state["services"]["pubsub"]) as channel:
                subscriber = pubsub_v1.SubscriberClient(
                    transport=SubscriberGrpcTransport(channel=channel)
                )
                subscription = subscriber.get_subscription(
                    subscription=f"{project}/subscriptions/{function.service}"
                )
            assert subscription.topic == f"{project}/topics/{function.topic}"
            assert subscription.ack_deadline_seconds == function.ack_deadline_seconds
            retry: Any = function.retry
            policy: Any = subscription.retry_policy
            assert policy.minimum_backoff.total_seconds() == retry["min_backoff_seconds"]
            assert policy.maximum_backoff.total_seconds() == retry["max_backoff_seconds"]
            dead_letter = function.dead_letter or {"topic": None, "max_attempts": 0}
            topic = dead_letter["topic"] and f"{project}/topics/{dead_letter['topic']}"
            assert subscription.dead_letter_policy.dead_letter_topic == (topic or "")
            assert (
                subscription.dead_letter_policy.max_delivery_attempts == dead_letter["max_attempts"]
            )
        queues = {function.queue: function.dispatch}
        if function.sweeps:
            queues[function.sweeps["queue"]] = function.sweeps
        for name, dispatch in queues.items():
            if not (name and dispatch and function.retry):
                continue
            with grpc.insecure_channel(state["services"]["tasks"]) as channel:
                client = tasks_v2.CloudTasksClient(
                    transport=CloudTasksGrpcTransport(channel=channel)
                )
                queue = client.get_queue(
                    name=f"{project}/locations/{state['region']}/queues/{name}"
                )
            assert queue.rate_limits.max_dispatches_per_second == dispatch["max_per_second"]
            assert queue.rate_limits.max_concurrent_dispatches == dispatch["max_concurrent"]
            assert queue.retry_config.max_attempts == function.retry["max_attempts"]
            assert queue.retry_config.max_backoff == timedelta(
                seconds=function.retry["max_backoff_seconds"]
            )


def test_the_scheduled_functions_are_called_repeatedly(cloud: RunningCloud) -> None:
    """Each of them answers 200 more than once."""
    assert eventually(
        lambda: all(
            cloud.log("cloud").count(f"{name} answered 200") > 1
            for name in ("cleanup", "reconcile")
        )
    )


# Who may call what


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_private_function_refuses_every_caller_except_its_invoker(
    cloud: RunningCloud, function: Any
) -> None:
    """It answers 403 without a token or with another's; public functions check tokens in code."""
    url = cloud.function_url(function.name)
    others = [
        service_account(cloud, name)
        for name in read_catalogue().invokers
        if name != function.invoker
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


def test_the_scheduler_can_call_the_scheduled_functions(cloud: RunningCloud) -> None:
    """Its token has the function's own URL as audience."""
    for name in ("cleanup", "reconcile"):
        url = cloud.function_url(name)
        token = cloud.token(service_account(cloud, "scheduler"), audience=url)
        answer = requests.post(
            f"{url}/{name}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "path", ["/cleanup", "/reconcile", "/operations", "/workspaces/7/reports", "/nowhere"]
)
def test_a_private_path_has_no_public_address(cloud: RunningCloud, path: str) -> None:
    """The gateway answers 404 to it."""
    answer = requests.post(cloud.address + path, json={}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_wrong_method_is_answered_with_the_allowed_ones(cloud: RunningCloud) -> None:
    """The answer is 405 with an ``Allow`` header."""
    answer = requests.put(f"{cloud.address}/workspaces", json={}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, POST"


@OWN_CLOUD
def test_a_client_without_a_token_is_the_developer_only_at_the_public_address(
    own_cloud: RunningCloud,
) -> None:
    """The gateway adds the developer's token; the function's own URL does not."""
    made = requests.post(f"{own_cloud.address}/workspaces", json={"name": "mine"}, timeout=10)
    assert (made.status_code, made.json()["owner_id"]) == (201, "dev-user-id")
    direct = requests.get(f"{own_cloud.function_url('list_workspaces')}/workspaces", timeout=10)
    assert direct.status_code == 401


def test_the_gateway_does_not_replace_a_wrong_token(cloud: RunningCloud) -> None:
    """It forwards the token that the client sent, and the Hub refuses it."""
    headers = {"Authorization": "Bearer nonsense"}
    assert (
        requests.get(f"{cloud.address}/workspaces", headers=headers, timeout=10).status_code == 401
    )


# Faults and resets


@OWN_CLOUD
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_function_is_started_by_the_next_request(
    own_cloud: RunningCloud, number: signal.Signals
) -> None:
    """The request waits for the new process, and the state file lists it."""
    before = own_cloud.function_pid("describe_api")
    own_cloud.kill_function("describe_api", number)
    assert eventually(lambda: own_cloud.state["functions"]["describe_api"]["pid"] is None)
    assert is_gone(before)
    assert "describe_api ended with" in own_cloud.log("cloud")
    assert requests.get(f"{own_cloud.address}/health", timeout=30).status_code == 200
    assert own_cloud.state["functions"]["describe_api"]["pid"] not in {None, before}


@OWN_CLOUD
@pytest.mark.parametrize("service", ["firestore", "pubsub"])
def test_a_paused_service_does_not_answer_until_it_is_resumed(
    own_cloud: RunningCloud, service: str
) -> None:
    """Firestore keeps a create from its answer, Pub/Sub a workspace from its machine."""
    own_cloud.reset()
    token = own_cloud.token(f"paused-{service}@example.com")
    assert workspaces(own_cloud, token) == []  # everything has started
    with ThreadPoolExecutor() as pool:
        with own_cloud.paused(service):
            creating = pool.submit(create_workspace, own_cloud, token)
            time.sleep(1)
            assert own_cloud.machines() == []
            assert not creating.done() or service == "pubsub"
        creating.result()
    assert eventually(lambda: workspaces(own_cloud, token)[0]["status"] == "READY", 60)


@OWN_CLOUD
def test_a_reset_ends_a_pause(own_cloud: RunningCloud) -> None:
    """A test that was broken off does not keep the next one from working."""
    token = own_cloud.token("unpaused@example.com")
    workspaces(own_cloud, token)
    for service in ("firestore", "pubsub"):
        own_cloud.pause(service)
    own_cloud.reset()
    create_workspace(own_cloud, token)
    assert eventually(lambda: workspaces(own_cloud, token)[0]["status"] == "READY", 60)
    own_cloud.reset()


@OWN_CLOUD
def test_only_a_service_that_can_be_paused_is_paused(own_cloud: RunningCloud) -> None:
    """The refusal names those that can."""
    with pytest.raises(ValueError, match="firestore, pubsub"):
        own_cloud.pause("compute")


@OWN_CLOUD
def test_a_function_that_does_not_exist_has_no_process(own_cloud: RunningCloud) -> None:
    """The control API says so."""
    with pytest.raises(ValueError, match="no function 'nothing'"):
        own_cloud.function_pid("nothing")


@OWN_CLOUD
@pytest.mark.parametrize("fault", ["duplicate_delivery", "late_delivery", "unreliable_delivery"])
def test_a_workspace_becomes_ready_despite_bad_delivery(
    own_cloud: RunningCloud, fault: str
) -> None:
    """Pub/Sub and Cloud Tasks deliver twice, late, or in any order."""
    own_cloud.fault(fault, seconds=None if fault == "duplicate_delivery" else 0.5, lost=0.0)
    assert [on["name"] for on in own_cloud.faults()] == [fault]
    token = own_cloud.token(f"{fault}@example.com")
    create_workspace(own_cloud, token)
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
def test_a_reset_removes_records_machines_and_faults(own_cloud: RunningCloud) -> None:
    """It does so even during requests, and new requests work afterwards."""
    token = own_cloud.token("reset@example.com")
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda name: create_workspace(own_cloud, token, name),
                ["one", "two", "three", "four"],
            )
        )
    own_cloud.fault("stock_out")
    own_cloud.fault("duplicate_delivery")
    own_cloud.reset()
    assert workspaces(own_cloud, token) == []
    assert own_cloud.machines() == []
    assert own_cloud.faults() == []
    create_workspace(own_cloud, token, "one")
    assert eventually(lambda: workspaces(own_cloud, token)[0]["status"] == "READY", 30)
    assert len(own_cloud.machines()) == 1


# The command line


def run_localcloud(cloud: RunningCloud, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ``localcloud`` on a cloud."""
    line = [sys.executable, "-m", "localcloud", *arguments, "--state", str(cloud.state_file)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_token_command_prints_a_token_that_the_hub_accepts(cloud: RunningCloud) -> None:
    """The token names the person and has the public address as audience."""
    done = run_localcloud(cloud, "token", "--email", "alice@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["email"], claims["aud"]) == ("alice@example.com", cloud.address)
    workspaces(cloud, token)


@OWN_CLOUD
def test_the_token_command_makes_an_administrator(own_cloud: RunningCloud) -> None:
    """Running functions for people are replaced, others stay; so do all for the same address."""
    email, all_workspaces = "carol@example.com", f"{own_cloud.address}/workspaces?all=true"

    def status_for(token: str) -> int:
        return requests.get(
            all_workspaces, headers={"Authorization": f"Bearer {token}"}, timeout=20
        ).status_code

    def pids() -> dict[str, int]:
        names = ("list_workspaces", "describe_api", "report_workspace")
        return {name: own_cloud.function_pid(name) for name in names}

    before = pids()
    assert status_for(own_cloud.token(email)) == 403
    done = run_localcloud(own_cloud, "token", "--email", email, "--admin")
    assert (done.returncode, done.stderr) == (0, "")
    assert status_for(done.stdout.strip()) == 200
    assert status_for(own_cloud.token("admin@localhost")) == 200
    assert status_for(own_cloud.token("alice@example.com")) == 403
    assert own_cloud.state["environment"]["HUB_OUTSIDE_ADMIN_EMAILS"] == f"admin@localhost,{email}"
    after = pids()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"list_workspaces", "describe_api"}
    own_cloud.make_admin(email.upper())
    assert pids() == after


@OWN_CLOUD
def test_the_token_command_refuses_an_administrator_without_a_valid_address(
    own_cloud: RunningCloud,
) -> None:
    """It prints one line, exits with 1, and adds no administrator."""
    done = run_localcloud(own_cloud, "token", "--email", "a@example.com,b@example.com", "--admin")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "'a@example.com,b@example.com' is not an e-mail address.\n"
    assert "b@example.com" not in own_cloud.state["environment"]["HUB_OUTSIDE_ADMIN_EMAILS"]


@OWN_CLOUD
def test_the_fault_command_switches_a_fault_on_and_off(own_cloud: RunningCloud) -> None:
    """It accepts a count and a zone, and ``status`` shows the fault while it is on."""
    on = run_localcloud(own_cloud, "fault", "stock_out", "--count", "2", "--zone", "us-west1-b")
    assert (on.returncode, on.stdout.partition(":")[0]) == (
        0,
        "stock_out is on (count 2, zone us-west1-b)",
    )
    assert "stock_out is on" in run_localcloud(own_cloud, "status").stdout
    off = run_localcloud(own_cloud, "fault", "stock_out", "--off")
    assert (off.returncode, off.stdout) == (0, "No fault is on.\n")


def test_the_fault_command_lists_the_faults_when_the_name_is_unknown(cloud: RunningCloud) -> None:
    """It prints one line and exits with 1."""
    done = run_localcloud(cloud, "fault", "plague")
    assert (done.returncode, done.stdout) == (1, "")
    assert "stock_out" in done.stderr
    assert "late_delivery" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_logs_command_prints_the_logs_of_one_or_all_functions(cloud: RunningCloud) -> None:
    """Of all functions, each line begins with the function's name; an unknown name is an error."""
    requests.get(f"{cloud.address}/workspaces", headers={"X-Request-Id": "look-for-me"}, timeout=10)
    assert eventually(
        lambda: "look-for-me" in run_localcloud(cloud, "logs", "list_workspaces").stdout
    )
    lines = run_localcloud(cloud, "logs").stdout.splitlines()
    assert any(line.startswith("list_workspaces") and "look-for-me" in line for line in lines)
    wrong = run_localcloud(cloud, "logs", "nothing")
    assert (wrong.returncode, wrong.stderr.startswith("Nothing here is called nothing.")) == (
        1,
        True,
    )


def test_the_trace_command_prints_the_history_of_a_workspace(cloud: RunningCloud) -> None:
    """It shows all functions from request to operation's end, and nothing for an unknown id."""
    alice = ApiClient(cloud.address, cloud.token("traced@example.com"))
    workspace_id = alice.create("traced")["id"]
    alice.wait_until_settled(workspace_id, "READY")
    assert eventually(
        lambda: "OperationEnded" in run_localcloud(cloud, "trace", workspace_id).stdout
    )
    lines = run_localcloud(cloud, "trace", workspace_id).stdout.splitlines()
    told = [(line.split()[3], line.split()[4]) for line in lines]
    assert told[0] == ("create_workspace", "WorkspaceRequested")
    assert ("provision_workspace", "InsertInstance") in told
    assert ("report_workspace", "WorkspaceReady") in told
    [end] = [line for line in lines if "OperationEnded" in line]
    assert "operation_kind=CREATE" in end
    assert "result=READY" in end
    unknown = run_localcloud(cloud, "trace", "unknown")
    assert (unknown.returncode, unknown.stdout) == (1, "Nothing was logged about unknown.\n")


def test_the_logs_command_ends_without_a_traceback_when_its_pipe_closes(
    cloud: RunningCloud,
) -> None:
    """``head`` closes the pipe after one line."""
    line = f"{sys.executable} -u -m localcloud logs --state {cloud.state_file} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_the_logs_command_follows_a_log(cloud: RunningCloud) -> None:
    """With ``-f`` it prints the lines that are written after it started."""
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
def test_the_reset_command_prints_nothing(own_cloud: RunningCloud) -> None:
    """It removes the workspaces and exits with 0."""
    token = own_cloud.token("quiet@example.com")
    create_workspace(own_cloud, token)
    done = run_localcloud(own_cloud, "reset")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert workspaces(own_cloud, token) == []


def test_a_second_cloud_with_the_same_state_file_is_refused(cloud: RunningCloud) -> None:
    """It prints one line with the address of the first cloud."""
    done = run_localcloud(cloud, "run", "--port", "0")
    assert done.returncode == 1
    assert (
        done.stderr == f"A local cloud is running already: {cloud.address} ({cloud.state_file})\n"
    )


def test_a_cloud_on_a_used_port_fails_with_one_line(cloud: RunningCloud, tmp_path: Path) -> None:
    """It leaves no file behind."""
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
    """A cloud that one test starts and ends, with its own temporary folder."""

    def __init__(self, folder: Path, settings: LocalSettings, port: int = 0) -> None:
        self.state_file = folder / "state.json"
        self.temporary = Path(tempfile.mkdtemp(dir=folder))
        self.output = folder / "output.txt"
        with self.output.open("w") as printed:
            self.process = subprocess.Popen(
                run_command(settings, self.state_file, port=port),
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.temporary)},
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pids: set[int] = set()

    def wait_until_ready(self) -> None:
        """Wait until it is ready and has answered a request."""
        cloud = wait_for_cloud(
            self.state_file, lambda: self.process.poll() is not None, self.output
        )
        pid = cloud.function_pid("describe_api")
        self.pids = descendants(self.process.pid)
        assert {pid, cloud.state["processes"]["firestore"]["pid"]} < self.pids

    def wait_until_partly_started(self) -> None:
        """Wait until some of its processes run."""
        assert eventually(lambda: len(descendants(self.process.pid)) > 5)
        self.pids = descendants(self.process.pid)

    def end_input(self) -> None:
        """Close its standard input, as the death of the process that started it does."""
        assert self.process.stdin
        self.process.stdin.close()

    def expect_no_process_or_file_left(self) -> None:
        """Check that every process and file of the cloud is gone."""
        assert eventually(lambda: all(map(is_gone, self.pids)))
        assert eventually(lambda: not any(self.temporary.iterdir()))
        assert not self.state_file.exists()


@pytest.fixture
def run(tmp_path: Path, emulators: str) -> Iterator[Run]:
    """A cloud that has just been started and is not ready yet."""
    run = Run(tmp_path, LocalSettings(times="fast", emulators=emulators))
    with run.process:
        yield run
        run.process.kill()


@pytest.fixture
def warm_run(tmp_path: Path, emulators: str) -> Iterator[Run]:
    """The same, and it starts all functions before it is ready."""
    run = Run(tmp_path, LocalSettings(times="fast", emulators=emulators, warm=True))
    with run.process:
        yield run
        run.process.kill()


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "the end of its input"])
def test_a_cloud_leaves_no_process_or_file_behind_whichever_way_it_ends(run: Run, end: str) -> None:
    """Its processes, its temporary folder and its state file are gone."""
    run.wait_until_ready()
    if end.startswith("SIG"):
        run.process.send_signal(signal.Signals[end])
    else:
        run.end_input()
    code = run.process.wait(20)
    assert code == (-signal.SIGKILL if end == "SIGKILL" else 0)
    run.expect_no_process_or_file_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_cloud_that_ends_during_its_start_leaves_nothing_behind(
    warm_run: Run, number: signal.Signals
) -> None:
    """Every child is registered with the reaper before it runs."""
    warm_run.wait_until_partly_started()
    warm_run.process.send_signal(number)
    warm_run.process.wait(20)
    warm_run.expect_no_process_or_file_left()


def test_a_cloud_that_ends_while_a_function_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    """The request that waits for the function gets no answer, or 503."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text("import time; time.sleep(300)")
    run = Run(tmp_path, LocalSettings(times="fast", schedule_seconds=0, python_path=hook))
    with run.process, ThreadPoolExecutor() as pool:
        cloud = wait_for_cloud(run.state_file, lambda: run.process.poll() is not None, run.output)
        asking = pool.submit(requests.get, f"{cloud.address}/workspaces", timeout=60)
        assert eventually(lambda: cloud.state["functions"]["list_workspaces"]["pid"] is not None)
        run.pids = descendants(run.process.pid)
        assert cloud.state["functions"]["list_workspaces"]["pid"] in run.pids
        run.process.terminate()
        assert run.process.wait(20) == 0
        with contextlib.suppress(requests.ConnectionError):
            assert asking.result().status_code == 503
    run.expect_no_process_or_file_left()


def test_a_script_that_waits_for_health_can_use_everything_at_once(tmp_path: Path) -> None:
    """From the first moment on the address refuses, or answers 503; with 200 the state exists."""
    [port] = free_ports(1)
    run = Run(tmp_path, LocalSettings(times="fast", schedule_seconds=0), port=port)
    script = f"""
        address=http://127.0.0.1:{port}
        for _ in $(seq 3000); do
            status=$(curl -s -o /dev/null -w '%{{http_code}}' $address/health) || true
            [ "$status" = 200 ] && break
            [ "$status" = 000 ] || [ "$status" = 503 ] || exit 9
            sleep 0.02
        done
        token=$({sys.executable} -m localcloud token --email a@example.com --state {run.state_file})
        curl -sS --fail $address/workspaces -H "Authorization: Bearer $token"
    """
    with run.process:
        try:
            done = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
        finally:
            run.process.kill()


def test_two_clouds_that_start_at_once_do_not_use_the_same_files(tmp_path: Path) -> None:
    """One of them is refused, and the other one can be used."""
    runs = [Run(tmp_path, LocalSettings(times="fast", schedule_seconds=0)) for _ in range(2)]
    try:
        assert eventually(lambda: any(run.process.poll() is not None for run in runs), 60)
        [refused] = [run for run in runs if run.process.poll() is not None]
        [running] = [run for run in runs if run is not refused]
        assert refused.process.returncode == 1
        cloud = wait_for_cloud(
            running.state_file, lambda: running.process.poll() is not None, running.output
        )
        assert cloud.state["pid"] == running.process.pid
        assert workspaces(cloud, cloud.token("first@example.com")) == []
    finally:
        for run in runs:
            with run.process:
                run.process.kill()


def test_a_cloud_that_is_started_as_soon_as_the_last_one_is_killed_keeps_its_files(
    tmp_path: Path,
) -> None:
    """It waits until all that the last one has left is removed."""
    settings = LocalSettings(times="fast", schedule_seconds=0)
    first = Run(tmp_path, settings)
    with first.process:
        wait_for_cloud(first.state_file, lambda: first.process.poll() is not None, first.output)
        first.process.kill()
    second = Run(tmp_path, settings)
    with second.process:
        try:
            cloud = wait_for_cloud(
                second.state_file, lambda: second.process.poll() is not None, second.output
            )
            assert cloud.state["pid"] == second.process.pid
            assert workspaces(cloud, cloud.token("first@example.com")) == []
        finally:
            second.process.kill()


def test_no_function_runs_before_the_first_request(tmp_path: Path) -> None:
    """A list starts the function that lists, and the state file and ``status`` say so."""
    run = Run(tmp_path, LocalSettings(times="fast", schedule_seconds=0))

    def running(cloud: RunningCloud) -> list[str]:
        functions = cloud.state["functions"].items()
        return [name for name, function in functions if function["pid"] is not None]

    with run.process:
        cloud = wait_for_cloud(run.state_file, lambda: run.process.poll() is not None, run.output)
        assert running(cloud) == []
        assert run_localcloud(cloud, "logs", "list_workspaces").stdout == ""
        assert workspaces(cloud, cloud.token("first@example.com")) == []
        assert running(cloud) == ["list_workspaces"]
        told = run_localcloud(cloud, "status").stdout.splitlines()
        assert sum(line.endswith("not started") for line in told) == len(FUNCTIONS) - 1
        run.process.kill()


def test_a_cloud_asks_for_as_many_open_files_as_it_needs(tmp_path: Path) -> None:
    """A shell's limit of 64 would not even do for its own ports."""
    state_file = tmp_path / "state.json"
    command = run_command(LocalSettings(times="fast", schedule_seconds=0), state_file)
    output = tmp_path / "output.txt"
    with (
        output.open("w") as printed,
        subprocess.Popen(
            ["/bin/sh", "-c", 'ulimit -S -n 64 && exec "$@"', "limited", *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            cloud = wait_for_cloud(state_file, lambda: process.poll() is not None, output)
            token = cloud.token("many@example.com")
            with ThreadPoolExecutor(64) as pool:
                assert list(pool.map(lambda _: workspaces(cloud, token), range(64))) == [[]] * 64
        finally:
            process.kill()


def test_the_sockets_of_gunicorn_have_short_paths(cloud: RunningCloud) -> None:
    """On macOS, where the temporary folder has 49 characters, they have at most 103."""
    cloud.function_pid("get_workspace_status")
    folder = Path(cloud.state["folder"])
    assert eventually(lambda: bool(list(folder.glob("*/.gunicorn/*.ctl"))))
    sockets = [path.relative_to(folder.parent) for path in folder.glob("*/.gunicorn/*.ctl")]
    assert max(49 + len(f"/{path}") for path in sockets) <= 103


def test_the_cloud_ends_when_an_emulator_dies(run: Run) -> None:
    """The emulator's data are lost, so the cloud stops, and says why in one line."""
    run.wait_until_ready()
    state = json.loads(run.state_file.read_text())
    os.kill(state["processes"]["firestore"]["pid"], signal.SIGKILL)
    assert run.process.wait(20) == 1
    assert re.search("Firestore.* has ended with -9; see ", run.output.read_text())
    run.expect_no_process_or_file_left()
