"""The boot script that reports to the Hub, ``ready.sh``."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud
from tests.boot.fake_machine import (
    DENIED,
    GUARDS,
    HEALTH,
    NO_ANSWER,
    PULL_SAYS,
    Machine,
    rules,
)
from tests.guests.nspawn import metadata_handler

# A fake docker with one container. It runs while the file `running` exists, which has the result of
# its image's health check. While the file `restless` exists, it is a new container at each look.
# The Hub's health command succeeds while the file `well` exists, and otherwise ends with the status
# in the file `unwell`.
CONTAINER = """
case "$1" in
  inspect)
    since=2026-11-25
    [ ! -e "${FAKES}/restless" ] || since=${EPOCHREALTIME}
    [ -e "${FAKES}/running" ] && printf 'true %s%s\\n' "${since}" "$(<"${FAKES}/running")" ;;
  exec) [ -e "${FAKES}/well" ] || exit "$(cat "${FAKES}/unwell" || echo 1)" ;;
esac
"""


def is_now(machine: Machine, name: str, content: str = "") -> None:
    """Create a file that the fake tools check."""
    (machine.fakes / "new").write_text(content)
    (machine.fakes / "new").replace(machine.fakes / name)


def a_container(machine: Machine, *states: str) -> None:
    """Put a container on the machine."""
    machine.fake("docker", CONTAINER)
    for state in states:
        is_now(machine, state)


def ready(machine: Machine) -> None:
    """Have a machine report that it is ready."""
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_ready_is_reported_when_the_container_runs_and_is_healthy(machine: Machine) -> None:
    """It is not reported earlier, because a person connects at once."""
    a_container(machine)
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 3)
    assert machine.calls("docker", "exec") == []

    is_now(machine, "running")
    machine.until(lambda: len(machine.calls("docker", "exec")) > 3)
    assert machine.outside.reports == []

    is_now(machine, "well")
    machine.until(machine.outside.events)
    assert machine.outside.reports == [{"event": "ready", "generation": 3}]
    assert machine.calls("docker", "exec")[0] == [
        "docker",
        "exec",
        "workspace",
        "/bin/sh",
        "-c",
        HEALTH,
    ]


def test_an_images_own_health_check_counts_too(machine: Machine) -> None:
    """While it is starting or unhealthy, the Hub's command is not run.

    Without a command it alone decides.
    """
    machine.outside.attributes["hub-health-command"] = ""
    a_container(machine)
    is_now(machine, "running", " starting")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 4)
    is_now(machine, "running", " unhealthy")
    so_far = len(machine.calls("docker", "inspect"))
    machine.until(lambda: len(machine.calls("docker", "inspect")) > so_far + 3)
    assert machine.outside.reports == []

    is_now(machine, "running", " healthy")
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]
    assert machine.calls("docker", "exec") == []


def check_unhealthy(machine: Machine, words: str) -> None:
    """Check that the container is reported as unhealthy in time, for this reason."""
    machine.outside.attributes["hub-health-seconds"] = "1"

    assert machine.run("ready.sh") == 1
    [report] = machine.outside.reports
    assert report["code"] == "CONTAINER_UNHEALTHY"
    assert words in report["message"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "health command fails with status 1"),
        (126, "cannot be executed"),
        (127, "cannot be executed"),
        (124, "did not end within 30 seconds"),
    ],
)
def test_a_container_that_is_not_healthy_in_time_is_reported(
    machine: Machine, status: int, words: str
) -> None:
    """A command that does not exist is told apart from one that fails."""
    a_container(machine, "running")
    is_now(machine, "unwell", str(status))

    check_unhealthy(machine, words)


def test_a_health_command_that_hangs_is_ended(machine: Machine) -> None:
    """The reason says that it did not end in time."""
    machine.environment["HEALTH_PATIENCE_SECONDS"] = "0.2"
    a_container(machine, "running")
    machine.fake("docker", CONTAINER.replace("exec)", "exec) exec /bin/sleep 600;;\n  never)"))

    check_unhealthy(machine, "did not end within 0.2 seconds")


@pytest.mark.parametrize(
    ("health", "words"),
    [("starting", "not succeeded yet"), ("unhealthy", "image's health check fails")],
)
def test_an_images_failing_health_check_is_named_as_the_reason(
    machine: Machine, health: str, words: str
) -> None:
    """The Hub's own health command is not at fault."""
    a_container(machine, "well")
    is_now(machine, "running", f" {health}")

    check_unhealthy(machine, words)
    assert machine.calls("docker", "exec") == []


def did(machine: Machine, doing: str) -> None:
    """Record what container.sh is doing."""
    machine.state.mkdir(parents=True, exist_ok=True)
    (machine.state / "doing").write_text(f"{doing}\n")


def ended(machine: Machine, *reasons: str, ago_seconds: float = 0) -> None:
    """Record why and when the container has ended, as container.sh does."""
    machine.state.mkdir(parents=True, exist_ok=True)
    at = int(time.time() - ago_seconds)
    (machine.state / "new").write_text("".join(f"{at} {reason}\n" for reason in reasons))
    (machine.state / "new").replace(machine.state / "ends")


ENDS = "CONTAINER_ENDS The container ends with status 3."

NO_MEMORY = "CONTAINER_OUT_OF_MEMORY The container was killed."


@pytest.mark.parametrize(
    ("doing", "docker", "code", "words"),
    [
        ("", CONTAINER, "CONTAINER_NOT_RUNNING", "not started in time"),
        (
            "CONTAINER_NOT_RUNNING The image was still being pulled.",
            CONTAINER,
            "CONTAINER_NOT_RUNNING",
            "being pulled",
        ),
        ("METADATA_AWAY No settings.", CONTAINER, "METADATA_AWAY", "No settings."),
        ("CONTAINER_NOT_RUNNING Pulled.", "exit 1", "DOCKER_NOT_RUNNING", "Docker does not run"),
    ],
    ids=["nothing was done", "a slow pull", "no metadata", "no Docker"],
)
def test_a_container_that_does_not_start_in_time_is_reported(
    machine: Machine, doing: str, docker: str, code: str, words: str
) -> None:
    """The reason is what container.sh was doing when the time was over."""
    machine.environment["START_SECONDS"] = "1"
    machine.fake("docker", docker)
    if doing:
        did(machine, doing)

    assert machine.run("ready.sh") == 1
    [report] = machine.outside.reports
    assert report["code"] == code
    assert words in report["message"]


@pytest.mark.parametrize(
    ("states", "last"),
    [
        ([], ENDS),
        (["running", "well"], NO_MEMORY),
        (["running", "well", "restless"], "CONTAINER_REFUSED Docker cannot."),
        (["running"], "BOOT_DISK_FULL The disk is full."),
    ],
)
def test_a_container_that_keeps_ending_is_reported_and_never_ready(
    machine: Machine, states: list[str], last: str
) -> None:
    """While systemd restarts it again and again, the reason is that of its last end.

    It may run just then.
    """
    machine.environment["STEADY_SECONDS"] = "600"
    a_container(machine, *states)
    ended(machine, *[ENDS] * 4)
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "inspect")) > 3)
    assert machine.outside.reports == []

    ended(machine, *[ENDS] * 4, last)
    machine.until(machine.outside.reports.copy)

    [report] = machine.outside.reports
    assert f"{report['code']} {report['message']}" == last


def test_a_restart_by_systemd_does_not_report_a_second_time(machine: Machine) -> None:
    """The Hub knows the failure already."""
    a_container(machine)
    ended(machine, *[ENDS] * 5)

    assert machine.run("ready.sh") == machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_ENDS"]


def test_ready_is_reported_only_after_the_container_has_kept_running(machine: Machine) -> None:
    """Given a container that is a new one at each look, and healthy each time, it is not ready."""
    machine.environment["STEADY_SECONDS"] = "1"
    a_container(machine, "running", "well", "restless")
    machine.start("ready.sh")
    begun = time.monotonic()
    machine.until(
        lambda: time.monotonic() > begun + 2.5 and len(machine.calls("docker", "exec")) > 3
    )
    assert machine.outside.reports == []

    (machine.fakes / "restless").unlink()
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_ready_is_reported_only_after_the_container_has_stayed_healthy(machine: Machine) -> None:
    """One healthy look is not enough."""
    machine.environment["STEADY_SECONDS"] = "600"
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.calls("docker", "exec")) > 10)

    assert machine.outside.reports == []


@pytest.mark.parametrize(
    ("ends_written", "code"),
    [
        ([], "CONTAINER_UNHEALTHY"),
        ([ENDS], "CONTAINER_UNHEALTHY"),
        ([NO_MEMORY] * 2, "CONTAINER_OUT_OF_MEMORY"),
    ],
)
def test_a_container_that_never_becomes_steady_is_given_up_in_time(
    machine: Machine, ends_written: list[str], code: str
) -> None:
    """The wait always ends. If the container has ended more than once, that is the reason."""
    machine.environment["STEADY_SECONDS"] = "1"
    machine.outside.attributes["hub-health-seconds"] = "0"
    a_container(machine, "running", "well", "restless")
    machine.start("ready.sh")
    machine.until(lambda: machine.calls("docker", "exec"))
    ended(machine, *ends_written, ago_seconds=-1)

    machine.until(machine.outside.events)
    assert machine.outside.events() == [code]


def test_a_container_that_keeps_ending_later_is_reported_once(machine: Machine) -> None:
    """Heartbeats continue, since somebody may be there to save their work."""
    ready(machine)
    machine.fake("pgrep", "echo 812")
    ended(machine, *[ENDS] * 4, NO_MEMORY)
    machine.until(lambda: "CONTAINER_OUT_OF_MEMORY" in machine.outside.events())
    machine.rounds(4)

    assert machine.outside.events().count("CONTAINER_OUT_OF_MEMORY") == 1
    assert machine.outside.events()[-2:] == ["heartbeat", "heartbeat"]


def test_a_container_that_ran_again_may_be_reported_again(machine: Machine) -> None:
    """Its recovery is not reported, but a second failure is."""
    ready(machine)
    ended(machine, *[ENDS] * 5)
    machine.until(lambda: len(machine.outside.reports) > 1)
    ended(machine, *[ENDS] * 5, ago_seconds=900)
    machine.rounds(2)
    assert machine.outside.events() == ["ready", "CONTAINER_ENDS"]

    ended(machine, *[NO_MEMORY] * 5)
    machine.until(lambda: len(machine.outside.reports) > 2)
    assert machine.outside.events() == ["ready", "CONTAINER_ENDS", "CONTAINER_OUT_OF_MEMORY"]


def test_a_container_that_ends_now_and_then_is_not_reported(machine: Machine) -> None:
    """A person may restart it, and ends of long ago do not count."""
    ended(machine, *[ENDS] * 5, ago_seconds=700)
    ready(machine)
    machine.rounds(2)
    ended(machine, *[ENDS] * 4)
    machine.rounds(2)

    assert machine.outside.events() == ["ready"]


@pytest.mark.parametrize(
    ("reasons", "code"),
    [([NO_MEMORY], "CONTAINER_OUT_OF_MEMORY"), ([], "CONTAINER_NOT_RUNNING")],
    ids=["after an end", "without one"],
)
def test_a_container_that_is_gone_for_good_is_reported_once(
    machine: Machine, reasons: list[str], code: str
) -> None:
    """It is reported after the time that a start may take."""
    machine.environment["START_SECONDS"] = "600"
    ready(machine)
    did(machine, "CONTAINER_NOT_RUNNING Docker did not start it.")
    (machine.fakes / "running").unlink()
    machine.rounds(2)
    assert machine.outside.events() == ["ready"]

    ended(machine, *reasons)
    machine.until(lambda: len(machine.outside.reports) > 1)
    machine.rounds(6)
    assert machine.outside.events() == ["ready", code]


def test_a_container_that_is_away_for_a_moment_is_not_gone(machine: Machine) -> None:
    """The time is counted anew when it is back."""
    machine.environment["START_SECONDS"] = "600"
    ready(machine)
    for _ in range(4):
        (machine.fakes / "running").unlink()
        machine.rounds(2)
        is_now(machine, "running")
        machine.rounds(1)

    assert machine.outside.events() == ["ready"]


def test_a_removed_firewall_rule_is_added_again(machine: Machine) -> None:
    """This happens while the container runs."""
    ready(machine)
    machine.rounds(1)
    (machine.fakes / "iptables.rules").write_text("")
    machine.until(lambda: rules(machine) == {"iptables": [GUARDS["iptables"]]})


def test_the_container_is_observed_more_often_than_heartbeats_are_due(machine: Machine) -> None:
    """This holds for heartbeats that are more frequent than the usual looks, too."""
    del machine.environment["WATCH_SECONDS"]
    machine.outside.attributes["hub-heartbeat-seconds"] = "10"
    machine.fake("pgrep", "echo 812")
    ready(machine)
    machine.until(lambda: len(machine.outside.reports) > 3)

    pauses = [call[1] for call in machine.calls("sleep")]
    assert set(pauses) == {"5"}


def test_heartbeats_are_as_far_apart_as_the_hub_answers(machine: Machine) -> None:
    """If the interval is no multiple of the pause, the last pause is shorter."""
    machine.outside.attributes["hub-heartbeat-seconds"] = "100"
    ready(machine)
    machine.until(lambda: len(machine.calls("sleep")) > 3)

    assert [call[1] for call in machine.calls("sleep")][:4] == ["60", "40"] * 2


def test_without_anybody_there_is_no_heartbeat(machine: Machine) -> None:
    """Otherwise no workspace would ever become idle."""
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]


# The titles of sshd's processes, as `ps` shows them with OpenSSH 9.2 and 10.0 on Debian, and as
# session.c and monitor.c of OpenSSH's sources set them. Spaces at the end are the rest of the
# command line.
LOGGED_IN = [
    *(
        "sshd: dev@pts/0",
        "sshd: dev@notty",
        "sshd: dev@pts/0,pts/1",
        "sshd: dev",
        "sshd: dev@internal-sftp",
        "sshd: root",
    ),
    *(
        "sshd-session: alice_example_com@pts/0",
        "sshd-session: dev@notty",
        "sshd-session: dev",
        "sshd: dev@notty      ",
    ),
]

NOT_LOGGED_IN = [
    *(
        "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
        "/usr/sbin/sshd -D",
        "sshd: [accepted]",
        "sshd: [net]",
    ),
    *(
        "sshd: dev [priv]",
        "sshd: dev [net]",
        "sshd: dev [pam]",
        "sshd: unknown [priv]",
        "sshd: unknown [net]",
    ),
    *(
        "sshd-session: dev [priv]",
        "sshd-session: [accepted]",
        "sshd-auth: dev [net]",
        "sshd-auth: dev",
        "ssh: dev@pts/0",
    ),
    *(
        "docker exec --interactive --tty workspace /bin/sh -c bash",
        "bash sshd: dev",
        "not-sshd: dev",
    ),
]


def processes(machine: Machine, *titles: str) -> None:
    """Put these processes on the machine. A real tool matches the script's pattern."""
    (machine.fakes / "titles").write_text("".join(f"{title}\n" for title in titles))
    machine.fake("pgrep", 'grep --extended-regexp -e "${@: -1}" "${FAKES}/titles"')


@pytest.mark.parametrize("title", ["sshd: dev@pts/0", "sshd-session: dev"])
def test_heartbeats_are_sent_while_somebody_is_logged_in(machine: Machine, title: str) -> None:
    """They may have a shell or not. Each report has this boot's generation."""
    ready(machine)
    processes(machine, *NOT_LOGGED_IN, title)
    machine.until(lambda: len(machine.outside.reports) > 3)

    processes(machine, *NOT_LOGGED_IN)
    machine.rounds(2)
    so_far = len(machine.outside.reports)
    machine.rounds(4)

    assert len(machine.outside.reports) == so_far
    heartbeat = {"event": "heartbeat", "generation": 3, "because": "session"}
    assert machine.outside.reports[1:] == [heartbeat] * (so_far - 1)
    assert machine.calls("pgrep")[0][1:2] == ["--ns"]
    assert machine.calls("pgrep")[0][3:6] == ["--nslist", "pid", "--full"]


def test_processes_without_a_login_do_not_count(machine: Machine) -> None:
    """These are an unauthenticated connection, its monitor, and a command without a connection."""
    ready(machine)
    processes(machine, *NOT_LOGGED_IN)
    machine.rounds(3)

    assert len(machine.calls("pgrep")) > 3
    assert machine.outside.events() == ["ready"]
    pattern = machine.calls("pgrep")[0][-1]
    for title in LOGGED_IN:
        processes(machine, *NOT_LOGGED_IN, title)
        titles = str(machine.fakes / "titles")
        found = subprocess.run(
            ["grep", "-E", "-e", pattern, titles], check=False, capture_output=True, text=True
        )
        assert found.stdout == f"{title}\n"


def test_a_login_between_two_heartbeats_counts(machine: Machine) -> None:
    """The script looks more often than it reports."""
    machine.environment["WATCH_SECONDS"] = "10"
    ready(machine)
    machine.fake("pgrep", '[ ! -e "${FAKES}/came" ] || exit 1; touch "${FAKES}/came"')

    machine.until(lambda: len(machine.outside.reports) > 1)
    so_far = len(machine.calls("sleep"))
    machine.until(lambda: len(machine.calls("sleep")) > so_far + 30)
    assert machine.outside.events() == ["ready", "heartbeat"]


@pytest.mark.parametrize("status", [2, 3, 127])
def test_if_logins_cannot_be_read_somebody_is_assumed_to_be_there(
    machine: Machine, status: int
) -> None:
    """A machine in use must not be stopped because a tool has changed."""
    machine.fake("pgrep", f"exit {status}")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.events()[1] == "heartbeat"
    assert "<4>Cannot find out whether somebody is logged in" in machine.said()


KEYS = {
    "ed25519": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEd",
    "ecdsa": "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY=",
    "rsa": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB",
}


def with_host_keys(machine: Machine, **keys: str) -> None:
    """Give sshd these public keys, each in a file of its own, with a comment."""
    lines = []
    for kind, key in keys.items():
        file = machine.folder / f"ssh_host_{kind}_key"
        file.with_suffix(".pub").write_text(f"{key} root@{kind}\n")
        lines.append(f"hostkey {file}")
    said = "\n".join(["port 22", *lines, "hostkeyagent none"])
    machine.fake("sshd", f"[ \"$1\" = -T ] || exit 0\ncat <<'END'\n{said}\nEND")


@pytest.mark.parametrize(
    ("kinds", "reported"), [("rsa ecdsa ed25519", "ed25519"), ("rsa ecdsa", "ecdsa"), ("rsa",) * 2]
)
def test_ready_brings_the_machines_own_ssh_key(machine: Machine, kinds: str, reported: str) -> None:
    """The best of those that sshd has, in whichever order and folder, without its comment."""
    with_host_keys(machine, **{kind: KEYS[kind] for kind in kinds.split()})

    ready(machine)

    assert machine.outside.reports == [
        {"event": "ready", "generation": 3, "host_key": KEYS[reported]}
    ]
    assert machine.calls("sshd")[-1] == ["sshd", "-T", "-f", str(machine.sshd_config)]


@pytest.mark.parametrize(
    "key", ['ssh-ed25519 AAAA", "event": "failed', "ssh-ed25519", "", "ssh-dss AAAA", "a b\nc d"]
)
def test_what_is_no_ssh_key_is_not_reported(machine: Machine, key: str) -> None:
    """The machine is ready all the same."""
    with_host_keys(machine, ed25519=key)

    ready(machine)

    assert machine.outside.reports == [{"event": "ready", "generation": 3}]


@pytest.mark.parametrize("sshd", ["exit 255", "echo hostkey /nowhere", "echo hostkey"])
def test_a_machine_whose_keys_are_not_known_is_ready_without(machine: Machine, sshd: str) -> None:
    """People then trust the key that they see first, as without the Hub."""
    machine.fake("sshd", sshd)

    ready(machine)

    assert machine.outside.reports == [{"event": "ready", "generation": 3}]


def test_a_hub_that_does_not_know_host_keys_gets_ready_without(machine: Machine) -> None:
    """An older revision beside a newer one refuses the field."""
    with_host_keys(machine, **KEYS)
    machine.outside.hub_answers = [400, 204]
    a_container(machine, "running", "well")
    machine.start("ready.sh")

    machine.until(lambda: len(machine.outside.reports) > 1)
    assert [report.get("host_key") for report in machine.outside.reports] == [KEYS["ed25519"], None]
    machine.until(lambda: "report ready of generation 3: the Hub answered 204" in machine.said())


def test_a_hub_that_does_not_know_the_reason_gets_heartbeats_without_it(machine: Machine) -> None:
    """An older revision beside a newer one refuses the field."""
    machine.outside.hub_answers = [204, 400, 204]
    machine.fake("pgrep", "echo 812")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 2)
    _, refused, taken = machine.outside.reports[:3]
    assert refused == {"event": "heartbeat", "generation": 3, "because": "session"}
    assert taken == {"event": "heartbeat", "generation": 3}


def test_a_refused_heartbeat_or_failure_changes_nothing(machine: Machine) -> None:
    """The log says so. A failure is reported again, since it may count for the next operation."""
    machine.outside.hub_answers = [204, 409, 409]
    machine.fake("pgrep", "echo 812")
    ready(machine)
    machine.until(lambda: len(machine.outside.reports) > 1)
    ended(machine, *[ENDS] * 5)
    machine.until(lambda: len(machine.outside.reports) > 4)

    assert sorted(set(machine.outside.events())) == ["CONTAINER_ENDS", "heartbeat", "ready"]
    assert machine.outside.events().count("CONTAINER_ENDS") == 2
    assert "The Hub refused the report" in machine.said()


def keep_awake(machine: Machine, age_seconds: float) -> None:
    """Touch ~/.keep-awake this many seconds ago."""
    file = machine.mount / "home" / ".keep-awake"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    at = time.time() - age_seconds
    os.utime(file, (at, at))


@pytest.mark.parametrize(
    "age_seconds", [5, 3500, -30], ids=["just now", "within the hour", "a clock that differs"]
)
def test_a_touched_file_keeps_the_workspace_awake(machine: Machine, age_seconds: float) -> None:
    """It counts for as long as the Hub allows after the last touch."""
    keep_awake(machine, age_seconds)
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 2)
    heartbeat = {"event": "heartbeat", "generation": 3, "because": "keep_awake"}
    assert machine.outside.reports[1:3] == [heartbeat] * 2


def test_a_login_is_the_reason_before_the_file(machine: Machine) -> None:
    """There is no limit on how long people may work."""
    keep_awake(machine, 5)
    machine.fake("pgrep", "echo 812")
    ready(machine)

    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.reports[1]["because"] == "session"


@pytest.mark.parametrize("age_seconds", [3700, -3600], ids=["too long ago", "from the future"])
def test_no_workspace_is_kept_awake_for_ever(machine: Machine, age_seconds: float) -> None:
    """Neither a forgotten file nor one with a time in the future counts."""
    keep_awake(machine, age_seconds)
    ready(machine)
    machine.rounds(5)

    assert machine.outside.events() == ["ready"]


def test_a_boot_keeps_its_generation(machine: Machine) -> None:
    """The Hub writes the next generation before a restart, and this boot must not report for it."""
    ready(machine)
    machine.outside.attributes["hub-generation"] = "4"
    machine.fake("pgrep", "echo 812")
    machine.until(lambda: len(machine.outside.reports) > 2)
    machine.fake("docker", PULL_SAYS.format(said=DENIED, local=1))
    machine.run("container.sh")

    assert {report["generation"] for report in machine.outside.reports} == {3}
    assert "IMAGE_DENIED" in machine.outside.events()


def test_the_next_boot_has_the_next_generation(machine: Machine) -> None:
    """The last generation was kept in memory only."""
    ready(machine)
    machine.end()
    shutil.rmtree(machine.state)
    machine.outside.attributes["hub-generation"] = "4"

    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.reports) > 1)
    assert [report["generation"] for report in machine.outside.reports] == [3, 4]


@pytest.mark.parametrize("says", [NO_ANSWER, 401, 408, 429, 500, 503])
def test_a_report_is_retried_after_a_passing_error(machine: Machine, says: int) -> None:
    """No answer, 5xx, 401 (a clock that is late after a suspend): each retry has a fresh token."""
    machine.outside.hub_answers = [says, says]
    a_container(machine, "running", "well")
    machine.start("ready.sh")

    machine.until(lambda: machine.calls("sleep", "60"))
    assert machine.outside.events() == ["ready"] * 3
    assert machine.calls("sleep")[:2] == [["sleep", "0.25"], ["sleep", "0.5"]]


def test_a_report_is_retried_ever_more_rarely(machine: Machine) -> None:
    """At once at first, since a worker may be about to record the machine; then with backoff."""
    machine.outside.hub_answers = [503] * 9
    a_container(machine, "running", "well")
    machine.start("ready.sh")

    machine.until(lambda: machine.calls("sleep", "60"))
    pauses = [call[1] for call in machine.calls("sleep")]
    assert pauses[:9] == ["0.25", "0.5", "1", "2", "4", "8", "15", "30", "30"]


def test_a_report_is_retried_while_the_hub_cannot_be_reached(machine: Machine) -> None:
    """The Hub's address is read again each time."""
    right = machine.outside.attributes["hub-reports-url"]
    machine.outside.attributes["hub-reports-url"] = "http://127.0.0.1:9/workspaces/x/reports"
    a_container(machine, "running", "well")
    machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.tokens) > 1)

    machine.outside.attributes["hub-reports-url"] = right
    machine.until(machine.outside.events)
    assert machine.outside.events() == ["ready"]


def test_a_token_that_cannot_be_fetched_is_asked_for_again(machine: Machine) -> None:
    """The metadata server may be away for a moment, too."""
    machine.outside.tokens_refused = 2
    ready(machine)

    assert len(machine.outside.tokens) == 1


@pytest.mark.parametrize("says", [400, 403, 404, 409, 410])
def test_a_refused_ready_report_ends_the_script(machine: Machine, says: int) -> None:
    """Another generation counts, or the workspace is gone.

    There are no heartbeats, and systemd does not retry.
    """
    machine.outside.hub_answers = [says]
    a_container(machine, "running", "well")
    machine.fake("pgrep", "echo 812")

    assert machine.run("ready.sh") == 0
    assert machine.outside.events() == ["ready"]


def test_a_report_is_given_up_when_the_hub_stays_away(machine: Machine) -> None:
    """The exit status is a failure, so systemd starts the script again, which reports again."""
    machine.environment["PATIENCE_SECONDS"] = "0"
    machine.outside.hub_answers = [503] * 100
    a_container(machine)
    ended(machine, *[ENDS] * 5)

    assert machine.run("ready.sh") == machine.run("ready.sh") == 1
    assert machine.outside.events() == ["CONTAINER_ENDS"] * 2


def test_after_a_lost_ready_report_the_next_start_reports_again(machine: Machine) -> None:
    """The Hub was away for longer than the patience.

    The exit status makes systemd start the script again.
    """
    machine.environment["PATIENCE_SECONDS"] = "0"
    machine.outside.hub_answers = [503]
    a_container(machine, "running", "well")

    assert machine.run("ready.sh") == 1
    ready_again = machine.start("ready.sh")
    machine.until(lambda: len(machine.outside.reports) > 1)
    assert machine.outside.events() == ["ready"] * 2
    assert ready_again.poll() is None


def test_the_local_hub_accepts_a_report(machine: Machine, cloud: RunningCloud) -> None:
    """Given a real workspace's metadata and a token, both from the local metadata server."""
    alice = ApiClient(cloud.address, cloud.token("scripted@example.com"))
    workspace = alice.wait_until_settled(alice.create("scripted")["id"], "READY")
    [its] = [each for each in cloud.machines() if each["name"] == workspace["instance_name"]]
    url = f"{cloud.state['services']['identity']}/machines/{its['id']}"
    server = ThreadingHTTPServer(("127.0.0.1", 0), metadata_handler(url))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            ["bash", "-c", ". shared/boot/settings.sh; report heartbeat session"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "STATE": str(machine.state),
                "GCE_METADATA_HOST": f"127.0.0.1:{server.server_port}",
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "report heartbeat session of generation 1: the Hub answered 204",
    ), done.stderr
