"""Machines that one can enter, with OpenSSH's own clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from localcloud.processes import process_tree
from tests.machine_cloud import EnteredMachine, MachineCloud, Person, machine_cloud
from tests.processes import eventually, is_gone

if not process_tree.can_hold_machines():
    pytest.skip("machines that one can enter need Linux", allow_module_level=True)
if missing := [name for name in ("ssh", "sftp", "scp", "ssh-agent") if not shutil.which(name)]:
    pytest.skip(f"{', '.join(missing)} is not installed", allow_module_level=True)

# Writes a line to the file $1 again and again.
COUNT = 'i=0; while :; do i=$((i + 1)); echo $i >>"$1"; sleep 0.05; done'


@pytest.fixture(scope="module")
def cloud() -> Iterator[MachineCloud]:
    """One process with machines for all tests of this file that do not kill it."""
    with machine_cloud() as running:
        yield running


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who may enter."""
    return Person(tmp_path_factory.mktemp("alice"))


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who may not."""
    return Person(tmp_path_factory.mktemp("bob"))


@pytest.fixture(scope="module")
def shared_machine(cloud: MachineCloud, alice: Person) -> EnteredMachine:
    """One machine for all tests that leave nothing in it but files."""
    return EnteredMachine(cloud, [alice.key])


@pytest.fixture
def machine(cloud: MachineCloud, alice: Person) -> Iterator[EnteredMachine]:
    """A machine of the test's own."""
    machine = EnteredMachine(cloud, [alice.key])
    yield machine
    machine.act("end")


def home_of(machine: EnteredMachine, person: Person) -> Path:
    """Return a machine's home folder."""
    return Path(person.ssh(machine, "pwd").stdout.strip())


def test_a_machine_that_nobody_enters_costs_no_process(
    machine: EnteredMachine, alice: Person
) -> None:
    """It has none until the first connection, and one from then on."""
    assert machine.pid() is None
    assert alice.ssh(machine, "true").returncode == 0
    assert alice.ssh(machine, "true").returncode == 0
    pid = machine.pid()
    assert pid is not None
    assert not is_gone(pid)


def test_a_command_gives_its_output_its_errors_and_its_exit_code(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """They come apart, and input ends when the person's input ends."""
    done = alice.ssh(shared_machine, "cat; echo bad >&2; exit 7", stdin=None, input="good\n")
    assert (done.stdout, done.stderr, done.returncode) == ("good\n", "bad\n", 7)
    assert alice.ssh(shared_machine, "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert alice.ssh(shared_machine, "no-such-command").returncode == 127


def test_a_program_has_a_clean_environment_and_begins_at_home(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """Nothing of the environment of the cloud gets in, and temporary files are the machine's."""
    printed = alice.ssh(shared_machine, "pwd; env").stdout.splitlines()
    environment = dict(line.split("=", 1) for line in printed[1:])
    assert printed[0] == environment["HOME"]
    assert environment["WORKSPACE_NAME"] == shared_machine.name
    assert Path(environment["HOME"]).is_relative_to(shared_machine.cloud.folder)
    for name in ("TMPDIR", "TMUX_TMPDIR", "XDG_RUNTIME_DIR"):
        assert Path(environment[name]).is_relative_to(shared_machine.cloud.folder)
    known = {"PATH", "LANG", "TZ", "USER", "LOGNAME", "SHELL", "PWD", "SHLVL", "_", "OLDPWD"}
    ours = ("HOME", "WORKSPACE_", "SSH_", "TMP", "TMUX_", "XDG_", process_tree.MARK)
    assert [name for name in set(environment) - known if not name.startswith(ours)] == []


def test_only_the_keys_of_those_who_may_enter_are_let_in(
    cloud: MachineCloud, machine: EnteredMachine, alice: Person, bob: Person
) -> None:
    """Whatever name they give; and a change of who may enter counts at once."""
    refused = bob.ssh(machine, "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr
    cloud.call("allow", machine.name, [bob.key])
    assert bob.ssh(machine, "-l", "anybody", "true").returncode == 0
    assert alice.ssh(machine, "true").returncode == 255
    assert eventually(lambda: machine.logged_in() == 0)


def test_the_machine_proves_itself_by_the_key_that_it_reports(
    cloud: MachineCloud, machine: EnteredMachine, alice: Person
) -> None:
    """It keeps the key over a boot, and a new instance has another."""
    first = machine.host_key
    assert first.startswith("ssh-ed25519 ")
    assert alice.ssh(machine, "true").returncode == 0
    machine.act("end")
    machine.boot([alice.key])
    assert machine.host_key == first
    assert alice.ssh(machine, "true").returncode == 0
    machine.act("end")
    cloud.call("forget", machine.name)
    machine.boot([alice.key])
    assert machine.host_key != first
    assert alice.ssh(machine, "true").returncode == 0


def test_a_shell_has_a_terminal_of_the_persons_size(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """It follows changes, Ctrl-C ends the command in front, and the exit code is the shell's."""
    command = ["-tt", *alice.options(shared_machine), f"workspace@{shared_machine.host}"]
    shell = pexpect.spawn(
        "ssh",
        command,
        dimensions=(33, 101),
        encoding="utf-8",
        timeout=30,
        env={**os.environ, "TERM": "xterm-256color"},  # a scheduled job has none
    )
    shell.sendline("PS1=; stty -echo; echo re''ady")
    shell.expect_exact("ready\r\n")
    shell.sendline("stty size; tty; echo $TERM-$SSH_TTY")
    shell.expect(r"33 101\r\n/dev/pts/\d+\r\nxterm-256color-/dev/pts/\d+\r\n")
    shell.setwinsize(44, 122)

    def is_resized() -> bool:
        shell.sendline("stty size; echo do''ne")
        shell.expect_exact("done\r\n")
        return "44 122" in str(shell.before)

    assert eventually(is_resized)
    # The command itself says that it is in front. A Ctrl-C between an `echo` of the shell's own
    # and its next command is lost: bash alone did so in 15 of 150 tries on a busy machine.
    shell.sendline("""sh -c 'echo be""gun; exec sleep 1000'""")
    shell.expect_exact("begun\r\n")
    shell.sendintr()
    shell.sendline("exit 9")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 9


def test_all_of_a_large_output_arrives_at_a_slow_reader(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """The command ends long before its output is read, and none of that is cut off."""
    size = 20_000_000
    process = alice.start(
        shared_machine, f"workspace@{shared_machine.host}", f"head -c {size} /dev/zero; exit 3"
    )
    with process:
        assert process.stdout
        assert process.stdin
        process.stdin.close()
        time.sleep(3)  # longer than the pause after which a quiet output is given up
        assert len(process.stdout.buffer.read()) == size  # type: ignore[attr-defined]
        assert process.wait(30) == 3


def test_what_a_command_leaves_behind_does_not_keep_its_connection_open(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """A process in the background holds the output open, and ends with the command."""
    done = alice.ssh(shared_machine, "sleep 1000 & echo $!; exit 5")
    assert done.returncode == 5
    assert eventually(lambda: is_gone(int(done.stdout)))


def test_a_command_that_reads_nothing_and_closes_its_output_still_ends(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """Half of a channel may be closed first, in either direction."""
    done = alice.ssh(
        shared_machine, "exec <&- >&- 2>&-; sleep 0.2; exit 6", stdin=None, input="x" * 3_000_000
    )
    assert done.returncode == 6


def test_a_command_ends_with_its_connection_but_not_what_has_left_it(
    machine: EnteredMachine, alice: Person
) -> None:
    """It gets a hang-up. What ``nohup`` or ``setsid`` has started goes on."""
    script = (
        "nohup sleep 1001 >/dev/null 2>&1 & echo $!; setsid sleep 1002 >/dev/null 2>&1 & echo $!; "
        "sleep 1003 & echo $!; echo $$; wait"
    )
    process = alice.start(machine, f"workspace@{machine.host}", script)
    with process:
        assert process.stdout
        kept, also_kept, *ended = [int(process.stdout.readline()) for _ in range(4)]
        process.kill()
    assert eventually(lambda: all(map(is_gone, ended)))
    assert not is_gone(kept)
    assert not is_gone(also_kept)
    assert eventually(lambda: machine.logged_in() == 0)


def test_sftp_and_scp_copy_files_both_ways(
    shared_machine: EnteredMachine, alice: Person, tmp_path: Path
) -> None:
    """Paths are relative to the home, in the new protocol and in the old one."""
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(300_000))
    options, target = alice.options(shared_machine), f"workspace@{shared_machine.host}"
    for form in ([], ["-O"]):
        scp = ["scp", "-q", *form, *options]
        subprocess.run([*scp, str(source), f"{target}:copy"], check=True, timeout=60)
        subprocess.run([*scp, f"{target}:~/copy", str(back)], check=True, timeout=60)
        assert back.read_bytes() == source.read_bytes()
        back.unlink()
    batch = f"mkdir deep\nput {source} deep/there\nls deep\nget deep/there {back}\n"
    done = subprocess.run(
        ["sftp", "-q", "-b", "-", *options, target],
        input=batch,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "deep/there" in done.stdout
    assert back.read_bytes() == source.read_bytes()
    home = home_of(shared_machine, alice)
    assert (home / "copy").read_bytes() == source.read_bytes()


def test_rsync_copies_folders(
    shared_machine: EnteredMachine, alice: Person, tmp_path: Path
) -> None:
    """It speaks its own protocol over a command."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    shell = " ".join(["ssh", *alice.options(shared_machine)])
    target = f"workspace@{shared_machine.host}:"
    command = ["rsync", "-a", "-e", shell, str(tmp_path / "folder"), target]
    subprocess.run(command, check=True, timeout=60)
    assert (home_of(shared_machine, alice) / "folder" / "file").read_text() == "content"


@contextlib.contextmanager
def echoing_server(host: str) -> Iterator[int]:
    """Run a server that sends back what it gets, and yield its port."""
    with socket.create_server((host, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while data := connection.recv(100):
                            connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def answer_at(port: int) -> bytes:
    """Send something to a port, and return what comes back."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as there:
        there.sendall(b"hello")
        return there.recv(100)
    return b""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("direction", ["-L", "-R"])
def test_ports_of_the_loopback_address_are_forwarded(
    shared_machine: EnteredMachine, alice: Person, direction: str
) -> None:
    """In both directions."""
    port = free_port()
    with echoing_server("127.0.0.1") as target:
        forward = [direction, f"{port}:127.0.0.1:{target}", "-N"]
        process = alice.start(shared_machine, *forward, f"workspace@{shared_machine.host}")
        with process:
            assert eventually(lambda: answer_at(port) == b"hello")
            process.terminate()


def test_other_addresses_are_not_reached_through_a_machine(
    shared_machine: EnteredMachine, alice: Person
) -> None:
    """As on a real one, only the loopback address is, and only there a port is opened."""
    host = "127.78.200.1"
    with echoing_server(host) as target:
        done = alice.ssh(shared_machine, "-W", f"{host}:{target}")
        assert "stdio forwarding failed" in done.stderr
    forward = ["-o", "ExitOnForwardFailure=yes", "-R", f"{host}:{free_port()}:127.0.0.1:1"]
    assert alice.ssh(shared_machine, *forward, "true").returncode == 255


def test_the_agent_is_forwarded_only_if_it_is_asked_for(
    shared_machine: EnteredMachine, alice: Person, tmp_path: Path
) -> None:
    """With ``-A`` programs in the machine see the person's keys."""
    path = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
        try:
            assert eventually(Path(path).exists)
            environment = {**os.environ, "SSH_AUTH_SOCK": path}
            key = str(alice.folder / "key")
            subprocess.run(["ssh-add", "-q", key], env=environment, check=True)
            with_agent = alice.ssh(shared_machine, "-A", "ssh-add -L", env=environment)
            assert with_agent.stdout.split()[:2] == alice.key.split()[:2]
            without = alice.ssh(shared_machine, "-a", "echo [$SSH_AUTH_SOCK]", env=environment)
            assert without.stdout == "[]\n"
        finally:
            agent.terminate()


def test_a_home_stays_with_its_disk_and_goes_with_it(
    cloud: MachineCloud, machine: EnteredMachine, alice: Person
) -> None:
    """A new boot and a new machine find the same files; another disk has none of them."""
    home = home_of(machine, alice)
    write = "echo kept >file; mkdir locked; touch locked/file; chmod 500 locked; echo $TMPDIR"
    temporary = Path(
        alice.ssh(machine, f"{write}; touch $TMPDIR/a $WORKSPACE_SECRETS/a").stdout[:-1]
    )
    secrets = Path(alice.ssh(machine, "echo $WORKSPACE_SECRETS").stdout.strip())
    assert (temporary / "a").exists()
    assert (secrets / "a").exists()
    machine.act("end")
    assert not temporary.exists()
    assert not secrets.exists()
    machine.boot([alice.key])
    assert (
        alice.ssh(machine, "cat file; find $TMPDIR $WORKSPACE_SECRETS -name a").stdout == "kept\n"
    )
    machine.act("end")

    other = EnteredMachine(cloud, [alice.key], disk=machine.disk)
    assert alice.ssh(other, "cat file").stdout == "kept\n"
    fresh = EnteredMachine(cloud, [alice.key])
    assert alice.ssh(fresh, "ls -A").stdout == ""
    other.act("end")
    fresh.act("end")
    cloud.call("delete_disk", machine.disk)
    assert eventually(lambda: not home.exists())
    machine.boot([alice.key])
    assert alice.ssh(machine, "ls -A").stdout == ""


def test_a_connection_counts_as_use_as_soon_as_somebody_is_logged_in(
    cloud: MachineCloud, machine: EnteredMachine, alice: Person, bob: Person
) -> None:
    """Without a shell too; who is not let in, or never logs in, does not count."""
    with socket.create_connection((machine.host, machine.port)) as silent:
        assert silent.recv(4) == b"SSH-"
        assert bob.ssh(machine, "true").returncode == 255
        assert machine.logged_in() == 0
        with alice.start(machine, "-N", f"workspace@{machine.host}") as process:
            assert eventually(lambda: machine.logged_in() == 1)
            process.terminate()
        assert eventually(lambda: machine.logged_in() == 0)
    assert cloud.call("is_kept_awake", machine.name) is False


def test_a_touched_file_keeps_a_machine_awake_for_a_time(
    cloud: MachineCloud, machine: EnteredMachine, alice: Person
) -> None:
    """It counts after a new boot, too, and no longer once it is old or gone."""

    def is_kept_awake() -> bool:
        return bool(cloud.call("is_kept_awake", machine.name))

    alice.ssh(machine, "touch ~/.keep-awake")
    assert eventually(is_kept_awake)
    machine.act("end")
    machine.boot([alice.key])
    assert eventually(is_kept_awake)
    assert machine.pid() is None
    alice.ssh(machine, "touch -d '2 hours ago' ~/.keep-awake")
    assert eventually(lambda: not is_kept_awake())
    alice.ssh(machine, "touch -d 'now 30 seconds' ~/.keep-awake")
    assert eventually(is_kept_awake)
    alice.ssh(machine, "rm ~/.keep-awake")
    assert eventually(lambda: not is_kept_awake())


# What must stand still and end with a machine: each starts a counter that writes to the file $1.
WAYS_TO_HIDE = {
    "nohup": 'nohup sh -c "$COUNT" count "$1" >/dev/null 2>&1 &',
    "double fork": '(setsid sh -c "$COUNT" count "$1" >/dev/null 2>&1 &) &',
    "without an environment": '(env -i setsid /bin/sh -c "$COUNT" count "$1" >/dev/null 2>&1 &) &',
    "tmux": "tmux new-session -d \"sh -c '$COUNT' count $1\"",
    "fork loop": (
        'loop() { echo x >>"$1"; (loop "$1" &) ; }; '
        'export -f loop; nohup bash -c \'loop "$1"\' loop "$1" >/dev/null 2>&1 &'
    ),
}


def hide(machine: EnteredMachine, person: Person, way: str) -> Path:
    """Start a counter, and return its file once it counts.

    The connection ends after that: its end hangs up what has not yet hidden itself.
    """
    file = home_of(machine, person) / way.replace(" ", "-")
    script = f"COUNT='{COUNT}'; {WAYS_TO_HIDE[way]}\nuntil [ -s \"$1\" ]; do sleep 0.02; done"
    done = person.ssh(machine, "bash -s", stdin=None, input=f"set -- {file}; {script}\n")
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: file.exists() and file.stat().st_size > 20)
    return file


def hide_in_every_way(machine: EnteredMachine, person: Person) -> dict[str, Path]:
    """Start counters in all ways, and return their files."""
    ways = [way for way in WAYS_TO_HIDE if way != "tmux" or shutil.which("tmux")]
    return {way: hide(machine, person, way) for way in ways}


def those_that_grow(files: dict[str, Path]) -> list[str]:
    """Return which files grow while a counter would write to them several times."""
    sizes = {way: file.stat().st_size for way, file in files.items()}
    time.sleep(0.5)
    return [way for way, file in files.items() if file.stat().st_size > sizes[way]]


def grows(file: Path) -> bool:
    """Say whether a file grows within some time."""
    size = file.stat().st_size
    return eventually(lambda: file.stat().st_size > size)


def test_a_suspend_freezes_everything_and_a_resume_lets_it_go_on(
    machine: EnteredMachine, alice: Person
) -> None:
    """Whatever has hidden itself stands still, and goes on afterwards with its memory."""
    files = hide_in_every_way(machine, alice)
    for _ in range(3):
        machine.act("freeze")
        assert those_that_grow(files) == []
        assert alice.ssh(machine, "true").returncode == 255  # nobody is let in meanwhile
        machine.act("thaw")
        assert [way for way, file in files.items() if not grows(file)] == []
        assert alice.ssh(machine, "true").returncode == 0
    for way, file in files.items():
        lines = file.read_text().splitlines()
        if way != "fork loop":
            assert lines == [str(number + 1) for number in range(len(lines))], way
    machine.act("end")
    assert those_that_grow(files) == []


def test_a_frozen_machine_ends_too(machine: EnteredMachine, alice: Person) -> None:
    """A suspended machine that is deleted leaves no process behind, stopped or not."""
    hide_in_every_way(machine, alice)
    machine.act("freeze")
    pid = machine.pid()
    below = {each.pid for each in process_tree.all_processes().values() if each.parent == pid}
    assert len(below) >= 4
    machine.act("end")
    assert eventually(lambda: all(map(is_gone, below)))


def test_a_connection_stands_still_while_its_machine_is_suspended(
    machine: EnteredMachine, alice: Person
) -> None:
    """It goes on where it was, and a shell has not noticed that its command stood still."""
    options = ["-tt", *alice.options(machine), f"workspace@{machine.host}"]
    shell = pexpect.spawn("ssh", options, encoding="utf-8", timeout=30)
    shell.sendline("PS1=; stty -echo; echo re''ady")
    shell.expect_exact("ready\r\n")
    shell.sendline("sleep 1000")  # stopped by Ctrl-Z, it is to stay so
    stopped = ""

    def is_stopped() -> bool:
        nonlocal stopped
        shell.send("\x1a")
        stopped = alice.ssh(machine, "ps -e -o stat=,args= | grep '^T.*sleep 1000'").stdout
        return bool(stopped)

    assert eventually(is_stopped)
    shell.sendline("sh -c 'i=0; while :; do i=$((i + 1)); echo count $i; sleep 0.05; done'")
    shell.expect_exact("count 5\r\n")
    for _ in range(5):
        machine.act("freeze")
        machine.act("thaw")
    shell.expect_exact("count 30\r\n")
    assert alice.ssh(machine, "ps -e -o stat=,args= | grep '^T.*sleep 1000'").stdout == stopped
    shell.sendintr()
    shell.sendline("echo be''hind; jobs")
    shell.expect_exact("behind\r\n")
    shell.expect(r"\[1\]\+\s+Stopped\s+sleep 1000")
    shell.close(force=True)


def test_a_killed_first_process_takes_everything_with_it(
    machine: EnteredMachine, alice: Person
) -> None:
    """What it leaves is found by its mark, and the next connection starts another one."""
    file = hide(machine, alice, "double fork")
    first = machine.pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: machine.pid() is None)
    assert eventually(lambda: those_that_grow({"it": file}) == [])
    assert alice.ssh(machine, "head -n 1 double-fork").stdout == "1\n"
    assert machine.pid() not in {None, first}


def test_zombies_of_strangers_are_buried(machine: EnteredMachine, alice: Person) -> None:
    """The first process is the parent of all orphans, so it waits for them."""
    alice.ssh(machine, "for i in 1 2 3; do (setsid true &) & done")

    def zombies() -> list[process_tree.Process]:
        everything = process_tree.all_processes().values()
        return [each for each in everything if each.parent == machine.pid() and each.state == "Z"]

    assert eventually(lambda: not zombies())


def test_a_home_from_a_snapshot_has_what_was_in_it_at_that_moment(
    cloud: MachineCloud, alice: Person, bob: Person
) -> None:
    """Also while programs write, and never secrets, or what is in another person's home."""
    hers, his = EnteredMachine(cloud, [alice.key]), EnteredMachine(cloud, [bob.key])
    bob.ssh(his, "echo his >note")
    alice.ssh(hers, "echo before >note; ln -s ~/note link; mkdir -m 500 empty; echo x >gone")
    alice.ssh(hers, "touch ~/.keep-awake")
    alice.ssh(hers, f"nohup sh -c '{COUNT}' count count >/dev/null 2>&1 &")
    assert eventually((home_of(hers, alice) / "count").exists)
    alice.ssh(hers, "echo secret >$WORKSPACE_SECRETS/token")
    cloud.call("capture", hers.disk, "of-hers")
    cloud.call("capture", his.disk, "of-his")
    alice.ssh(hers, "echo after >note; rm gone")

    forked = f"home-{uuid.uuid4()}"
    cloud.call("restore", "of-hers", forked)
    fork = EnteredMachine(cloud, [alice.key], forked)
    seen = alice.ssh(fork, "cat note link gone; stat -c %a empty; ls | sort | tr '\\n' ' '")
    assert seen.stdout == "before\nbefore\nx\n500\ncount empty gone link note "
    assert alice.ssh(fork, "ls -A $WORKSPACE_SECRETS").stdout == ""
    assert alice.ssh(fork, "test -e ~/.keep-awake || echo asleep").stdout == "asleep\n"
    assert alice.ssh(hers, "ls ~/.keep-awake").returncode == 0
    assert alice.ssh(hers, "cat $WORKSPACE_SECRETS/token").stdout == "secret\n"
    alice.ssh(fork, "echo forked >link; rm gone")
    assert alice.ssh(hers, "cat note").stdout == "after\n"
    assert bob.ssh(his, "cat note").stdout == "his\n"
    assert bob.ssh(fork, "true").returncode == 255

    again = f"home-{uuid.uuid4()}"
    cloud.call("restore", "of-hers", again)
    second = EnteredMachine(cloud, [alice.key], again)
    assert alice.ssh(second, "cat note gone").stdout == "before\nx\n"
    cloud.call("delete_snapshot", "of-hers")
    cloud.call("delete_snapshot", "of-his")
    assert eventually(lambda: not list((cloud.folder / "cloud/snapshots").iterdir()))
    assert alice.ssh(second, "cat note").stdout == "before\n"
    for machine in (hers, his, fork, second):
        machine.act("end")


def test_a_restored_home_is_on_a_disk_beside_the_old_one(
    cloud: MachineCloud, alice: Person, bob: Person
) -> None:
    """The next machine has what was in the snapshot; the old disk has what was written since.

    A ``~/.keep-awake`` stays, since it is the same workspace's. Another person's home stays theirs.
    """
    hers, his = EnteredMachine(cloud, [alice.key]), EnteredMachine(cloud, [bob.key])
    bob.ssh(his, "echo his >note")
    alice.ssh(hers, "echo before >note; touch ~/.keep-awake")
    cloud.call("capture", hers.disk, "earlier")
    alice.ssh(hers, "echo after >note; echo more >new")
    old, hers.disk = hers.disk, f"{hers.disk}-2"
    hers.act("end")
    cloud.call("capture", old, "last")
    cloud.call("forget", hers.name)
    cloud.call("restore", "earlier", hers.disk)
    hers.boot([alice.key])

    assert alice.ssh(hers, "cat note; ls new; ls ~/.keep-awake").stdout.startswith("before\n/")
    alice.ssh(hers, "echo restored >note")
    cloud.call("delete_disk", old)
    cloud.call("restore", "last", old)
    back = EnteredMachine(cloud, [alice.key], old)
    assert alice.ssh(back, "cat note new").stdout == "after\nmore\n"
    assert alice.ssh(hers, "cat note").stdout == "restored\n"
    assert bob.ssh(his, "cat note").stdout == "his\n"
    assert [bob.ssh(each, "true").returncode for each in (hers, back)] == [255, 255]
    for machine in (hers, his, back):
        machine.act("end")


def test_snapshots_end_with_a_killed_cloud(alice: Person) -> None:
    """Nothing that somebody has written is left on the disk of whoever runs it."""
    with machine_cloud() as cloud:
        machine = EnteredMachine(cloud, [alice.key])
        alice.ssh(machine, "echo mine >note")
        cloud.call("capture", machine.disk, "kept")
        [snapshot] = (cloud.folder / "cloud/snapshots").iterdir()
        assert (snapshot / "note").read_text() == "mine\n"
        cloud.process.kill()
        cloud.process.wait(30)
        assert eventually(lambda: not (cloud.folder / "cloud").exists())


def kill_cloud(cloud: MachineCloud, _: EnteredMachine) -> None:
    """Kill the cloud."""
    cloud.process.kill()


def kill_cloud_of_frozen_machine(cloud: MachineCloud, machine: EnteredMachine) -> None:
    """Kill the cloud while the machine is suspended."""
    machine.act("freeze")
    cloud.process.kill()


def kill_cloud_and_reaper(cloud: MachineCloud, _: EnteredMachine) -> None:
    """Kill the cloud and its reaper at once."""
    os.kill(cloud.call("ready")["reaper"], signal.SIGKILL)
    cloud.process.kill()


def kill_cloud_and_machine(cloud: MachineCloud, machine: EnteredMachine) -> None:
    """Kill the cloud and the machine's first process at once."""
    pid = machine.pid()
    assert pid
    cloud.process.kill()
    os.kill(pid, signal.SIGKILL)


def leave_cloud(cloud: MachineCloud, _: EnteredMachine) -> None:
    """Let the cloud end by itself, without a word to its machines."""
    assert cloud.process.stdin
    cloud.process.stdin.close()


ENDS: list[tuple[Callable[[MachineCloud, EnteredMachine], None], set[str]]] = [
    (kill_cloud, set()),
    (kill_cloud_of_frozen_machine, set()),
    (kill_cloud_and_reaper, set()),
    # Without the first process, only the mark leads to the others.
    (kill_cloud_and_machine, {"without an environment"}),
    (leave_cloud, set()),
]


@pytest.mark.parametrize(("end", "leaves"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_nothing_is_left_however_the_cloud_ends(
    alice: Person, end: Callable[[MachineCloud, EnteredMachine], None], leaves: set[str]
) -> None:
    """No process writes any more, whatever it had done to hide."""
    with machine_cloud() as cloud:
        machine = EnteredMachine(cloud, [alice.key])
        ways = [way for way in WAYS_TO_HIDE if way not in leaves]
        for way in ways:
            if way != "tmux" or shutil.which("tmux"):
                hide(machine, alice, way)
        mark = f"{cloud.folder.name}/"
        pids = {process.pid for process in process_tree.members(mark)}
        assert len(pids) > len(ways)
        end(cloud, machine)
        cloud.process.wait(30)
        assert eventually(lambda: process_tree.members(mark) == [])
        assert eventually(lambda: all(map(is_gone, pids)))
