"""Boots a workspace with the image of `images/workspace/`, and works in it as people do."""

from __future__ import annotations

import re
import shlex
import tarfile
import uuid
from collections.abc import Iterator

import pexpect
import pytest

from localcloud.api_client import ApiClient, Workspace
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import LocalSettings
from tests.guests.fleet import IMAGE_REPOSITORY, Fleet, in_nspawn
from tests.guests.nspawn import Guest, missing, storage_driver
from tests.guests.people import KEY, let_in, ssh, titles, wait_for
from tests.guests.registry import BuiltImage
from tests.guests.workspace_image import TAG, NotReachableError, workspace_image

LACKING = missing()
pytestmark = [
    pytest.mark.xdist_group("guests"),
    pytest.mark.skipif(bool(LACKING), reason=f"booting needs {', '.join(LACKING)}"),
    pytest.mark.timeout(900),  # the first run makes the image
]
HOME = "/mnt/disks/home/home"  # the container's home, as the machine sees it
REPOSITORY = "ssh://dev@127.0.0.1/home/workspace/origin.git"
BRANCH = "feature/$(id>executed)"


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    """The image, built from its Dockerfile."""
    try:
        return workspace_image()
    except NotReachableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """A cloud with silent simulated machines, without suspend."""
    overrides = {"HUB_IMAGE_REPOSITORY": IMAGE_REPOSITORY, "HUB_DEFAULT_IMAGE_TAG": TAG}
    with start_cloud(LocalSettings(times="fast", schedule_seconds=1, overrides=overrides)) as cloud:
        cloud.fault("never_ready")
        cloud.fault("suspend_unsupported")
        yield cloud


@pytest.fixture(scope="module")
def fleet(
    cloud: RunningCloud, image: BuiltImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Guests for the cloud's machines."""
    folder = tmp_path_factory.mktemp("image")
    fleet = Fleet(cloud, folder, in_nspawn({TAG: image}, storage_driver(folder)))
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def alice(cloud: RunningCloud) -> ApiClient:
    """The owner of the workspace."""
    return ApiClient(cloud.address, cloud.token("alice@example.com"))


@pytest.fixture(scope="module")
def booted(alice: ApiClient, fleet: Fleet) -> Workspace:
    """A workspace that its guest has made READY: the image's own health check has succeeded."""
    made = alice.create("image", metadata={"repo": REPOSITORY, "branch": BRANCH})
    ready = alice.wait_until_settled(made["id"], "READY", seconds=240)
    settle(guest_of(ready, fleet))
    return ready


def guest_of(workspace: Workspace, fleet: Fleet) -> Guest:
    """Return a workspace's guest."""
    guest = fleet.guest(workspace["instance_name"])
    assert isinstance(guest, Guest)
    return guest


def settle(guest: Guest) -> None:
    """Let in a person, who also has two agents with a key each."""
    let_in(guest)
    for name in ("first", "second"):
        guest.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"/root/{name}")
        guest.run("sh", "-c", f"cat /root/{name}.pub >>/home/dev/.ssh/authorized_keys")


@pytest.fixture
def guest(booted: Workspace, fleet: Fleet) -> Iterator[Guest]:
    """The workspace's guest, in which nobody is, and nothing is left of another test."""
    guest = guest_of(booted, fleet)
    yield guest
    guest.run("pkill", "--exact", "ssh", check=False)
    wait_for(lambda: not titles(guest, "shell.sh"), "everybody has left")
    inside = "tmux kill-server; rm -rf ~/.no-tmux ~/answer* /run/secrets/* ~/origin*"
    ssh(guest, f"{inside}; true")
    ssh(guest, "touch ~/.local/state/workspace/cloned")


class Terminal:
    """A person's terminal, from which they have connected by ssh.

    Args:
        guest: the machine; the person is on it, too.
        agent: the name of a key that the person's agent has; None: no agent is forwarded.
        term: the terminal's kind.
    """

    def __init__(self, guest: Guest, agent: str | None = None, term: str = "xterm") -> None:
        self._guest = guest
        connect = ["ssh", "-tt", *KEY, *(["-A"] if agent else []), "dev@127.0.0.1"]
        if agent:
            given = f"ssh-add -q /root/{agent}; exec {shlex.join(connect)}"
            connect = ["ssh-agent", "sh", "-c", given]
        command, *arguments = guest.entered("env", f"TERM={term}", *connect)
        self.process = pexpect.spawn(
            command, arguments, encoding="utf-8", timeout=30, dimensions=(30, 120)
        )

    def expect(self, pattern: str) -> str:
        """Wait until something appears that matches, and return all that came until then."""
        self.process.expect(pattern)
        return str(self.process.before) + str(self.process.after)

    def ask(self, command: str) -> str:
        """Type a command into the shell, and return what it printed."""
        name = f"answer-{uuid.uuid4()}"
        self.process.sendline(f"{{ {command} ; }} >~/{name}.new 2>&1; mv ~/{name}.new ~/{name}")
        wait_for(lambda: self._guest.run("ls", f"{HOME}/{name}") != "", f"an answer to {command}")
        return self._guest.run("cat", f"{HOME}/{name}").strip()

    def lose(self) -> None:
        """Lose the connection, without a word to the other side."""
        self._guest.run("pkill", "--signal=KILL", "--exact", "ssh")
        self.end()

    def end(self) -> None:
        """Wait until the connection is over."""
        self.process.expect(pexpect.EOF)
        self.process.close()
        wait_for(lambda: not titles(self._guest, "shell.sh"), "the machine has noticed")


def in_tmux(guest: Guest, agent: str | None = None) -> Terminal:
    """Return a person's terminal once it shows tmux."""
    terminal = Terminal(guest, agent)
    terminal.expect("touch ~/.no-tmux")
    return terminal


def test_the_image_runs_as_the_hub_runs_it(guest: Guest) -> None:
    """Its user has a name and owns the home, which has Debian's first files."""
    said = ssh(guest, "id; pwd; ls -A ~; stat -c %U ~ ~/.bashrc; readlink -f /home/node")
    assert "uid=1000(workspace) gid=1000(workspace)" in said
    assert "/home/workspace" in said.splitlines()
    assert {".bashrc", ".profile"} <= set(said.splitlines())
    assert said.splitlines()[-3:] == ["workspace", "workspace", "/home/workspace"]
    form = "{{.State.Health.Status}}"
    assert guest.run("docker", "inspect", "--format", form, "workspace").strip() == "healthy"


TOOLS = (
    *("git --version", "gh --version", "rg --version", "jq --version", "curl --version"),
    *("cc --version", "make --version", "python3 -m venv --help", "pip --version"),
    *("node --version", "npm --version", "npx --version", "gemini --version"),
    *("tmux -V", "ssh -V", "rsync --version", "less --version", "git lfs version"),
)


def test_the_tools_are_there_for_commands_too(guest: Guest) -> None:
    """They work without a login shell. What people install for themselves comes first in PATH."""
    failed = ssh(guest, "".join(f"{tool} >/dev/null 2>&1 || echo '{tool}'\n" for tool in TOOLS))
    assert failed == ""
    assert ssh(guest, "node -p process.release.lts").strip() not in {"", "undefined"}
    assert ssh(guest, "echo $GEMINI_CLI_WORKSPACE $LANG").strip() == "1 C.UTF-8"
    ssh(guest, "mkdir -p ~/.local/bin; printf '#!/bin/sh\\necho ours\\n' >~/.local/bin/jq")
    ssh(guest, "chmod +x ~/.local/bin/jq")
    assert ssh(guest, "jq; bash -lc jq; npm prefix -g").split() == [
        *("ours", "ours"),
        "/home/workspace/.local",
    ]
    ssh(guest, "rm ~/.local/bin/jq")


LEFT = re.compile(
    r"\./root/(?!\.bashrc$|\.profile$|\.ssh/$).+|\./(?:tmp|mnt|dev|proc|sys)/.+"
    r"|\./var/lib/apt/lists/.+_.+|\./var/cache/apt/.*\.(?:deb|bin)|\./var/log/.*\.log"
    r"|\./(?:root|home|etc)/.*(?:\.npmrc|\.netrc|\.git-credentials|_history|ssh_host_.*)"
    r"|.*/s?bin/(?:sshd|sudo)"
)


def test_nothing_of_the_build_is_left(image: BuiltImage) -> None:
    """No token, cache, log or key is in the layer, and no server that would let anybody in."""
    with tarfile.open(image.layer) as layer:
        members = layer.getmembers()
        machine_id = layer.extractfile("./etc/machine-id")
        assert machine_id is not None
        assert machine_id.read() == b""
    names = [member.name + "/" * member.isdir() for member in members]
    assert "./usr/bin/git" in names
    assert [name for name in names if LEFT.fullmatch(name)] == []


def test_orphans_are_collected(guest: Guest) -> None:
    """A process whose parent has ended does not stay as a zombie."""
    ssh(guest, "sh -c '(sleep 0.1 &) ; exit' ; for i in 1 2 3; do (setsid true &); done")
    wait_for(
        lambda: "Z" not in ssh(guest, "ps -eo stat= --no-headers | cut -c1"), "no zombie is left"
    )


def test_the_container_ends_when_it_is_asked_to(guest: Guest) -> None:
    """Its image alone does, without Docker's init, and is not killed; the same with the init."""
    image = guest.run("docker", "inspect", "--format", "{{.Image}}", "workspace").strip()
    for options in ([], ["--init"]):
        guest.run("docker", "run", "--detach", "--name=other", *options, image)
        guest.run("docker", "stop", "--time=60", "other")
        ended = guest.run("docker", "inspect", "--format", "{{.State.ExitCode}}", "other").strip()
        assert ended == "143"
        guest.run("docker", "rm", "other")


def test_a_home_of_somebody_else_is_unhealthy_and_says_so(guest: Guest) -> None:
    """Otherwise a workspace would be READY in which nobody can save a file."""
    image = guest.run("docker", "inspect", "--format", "{{.Image}}", "workspace").strip()
    guest.run("install", "-d", "-o", "1001", "-m", "0755", "/run/other-home")
    volume = "--volume=/run/other-home:/home/workspace"
    guest.run("docker", "run", "--detach", "--name=other", volume, image)
    form = "{{.State.Health.Status}} {{range .State.Health.Log}}{{.Output}}{{end}}"
    wait_for(
        lambda: (
            "is not the home of user 1000"
            in guest.run("docker", "inspect", "--format", form, "other")
        ),
        "the health check says why",
    )
    guest.run("docker", "rm", "--force", "other")


def test_a_lost_connection_is_taken_up_again(guest: Guest) -> None:
    """What ran in the terminal runs on, and the next login finds it."""
    terminal = in_tmux(guest)
    terminal.ask("cd /tmp; kept=here; sleep 7101 & true")
    terminal.lose()
    assert titles(guest, "^sleep 7101") == ["sleep 7101"]
    again = in_tmux(guest)
    assert (
        again.ask("echo $kept; pwd; jobs -r")
        == "here\n/tmp\n[1]+  Running                 sleep 7101 &"
    )
    again.process.sendline("kill %1; exit")
    again.end()


def test_a_second_terminal_has_the_same_windows_and_a_choice_of_its_own(guest: Guest) -> None:
    """Otherwise both would show what is typed into either."""
    first = in_tmux(guest)
    first.ask("where=first")
    second = in_tmux(guest)
    second.process.send("\x02c")
    wait_for(lambda: second.ask("echo [$where]") == "[]", "it is in a window of its own")
    assert first.ask("echo [$where]") == "[first]"
    second.process.sendline("exit")
    first.lose()
    assert ssh(guest, "tmux list-sessions -F '#{session_name}'").split() == ["main"]


ASK = "echo [$TMUX]; tmux list-sessions 2>&1"
ELSEWHERE = {
    "a command": ("-T", ASK, None),
    "a command with a terminal": ("-tt", ASK, None),
    "an editor's shell": ("-T", "bash", f"{ASK}\nexit\n"),
    "a login shell for a command": ("-tt", f"bash -lc '{ASK}'", None),
    "a look at the environment": ("-T", f"bash -ilc '{ASK}' 2>&1", None),
    "a look with a terminal": ("-tt", f"bash -ilc '{ASK}'", None),
    "an editor's terminal": ("-tt", "TERM_PROGRAM=vscode bash --login", f"{ASK}\nexit\n"),
    "a program that reads prompts": ("-tt", "TERM=dumb bash --login", f"{ASK}\nexit\n"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_only_people_at_a_terminal_get_tmux(guest: Guest, what: str) -> None:
    """Commands and editors would hang in it, or read its escape sequences."""
    terminal, command, said = ELSEWHERE[what]
    connect = ("env", "TERM=xterm", "ssh", *KEY, terminal, "dev@127.0.0.1")
    heard = guest.run(*connect, f"{command}; true", user_input=said)
    assert "[]" in heard
    assert "tmux does not work" not in heard
    assert "no server running" in heard or "error connecting" in heard
    assert ssh(guest, "pgrep -x tmux; true") == ""


def test_a_file_in_the_home_turns_tmux_off(guest: Guest) -> None:
    """The shell is then as any other; so it is if tmux cannot run."""
    ssh(guest, "touch ~/.no-tmux")
    terminal = Terminal(guest)
    terminal.expect(r"\$ ")
    assert terminal.ask("echo [$TMUX]; tmux ls 2>&1 | wc -l; shopt login_shell") == (
        "[]\n1\nlogin_shell    \ton"
    )
    terminal.process.sendline("exit")
    terminal.end()
    ssh(guest, "rm ~/.no-tmux; touch /tmp/no-folder; mkdir -p ~/.config")
    ssh(guest, "rm -rf /tmp/tmux-1000; touch /tmp/tmux-1000")
    terminal = Terminal(guest)
    terminal.expect("tmux does not work here")
    assert terminal.ask("echo [$TMUX]") == "[]"
    ssh(guest, "rm /tmp/tmux-1000")


def test_a_terminal_and_a_language_that_are_unknown_are_replaced(guest: Guest) -> None:
    """Tmux would not start, and every program would warn."""
    terminal = Terminal(guest, term="xterm-from-next-year")
    terminal.expect("touch ~/.no-tmux")
    assert terminal.ask("echo $TERM; locale 2>&1 >/dev/null") == "tmux-256color"
    asked = f"LANG=xx_XX.UTF-8 LC_TIME=yy_YY ssh {shlex.join(KEY)} -o SendEnv='LANG LC_*'"
    look = "bash -lc 'locale 2>&1; perl -e 1 2>&1'"
    said = guest.run("sh", "-c", f'{asked} dev@127.0.0.1 "{look}"')
    assert "Cannot" not in said
    assert "warning" not in said
    assert "LANG=C.UTF-8" in said


def test_an_agent_follows_into_a_session_that_was_left(guest: Guest) -> None:
    """A shell that was begun with one agent uses that of who connects next."""
    terminal = in_tmux(guest, agent="first")
    assert "first" in terminal.ask("ssh-add -l")
    terminal.lose()
    again = in_tmux(guest, agent="second")
    said = again.ask("ssh-add -l; echo $SSH_AUTH_SOCK")
    assert "second" in said
    assert "first" not in said
    assert said.endswith("/run/workspace/ssh-agent")
    again.lose()


def test_an_agent_that_ends_is_replaced_by_another_that_is_there(guest: Guest) -> None:
    """Two terminals are open. One is closed, whichever has connected last."""
    stays = in_tmux(guest, agent="first")
    leaves = in_tmux(guest, agent="second")
    assert "second" in stays.ask("ssh-add -l")
    leaves.process.send("\x02d")
    leaves.process.expect(pexpect.EOF)
    wait_for(lambda: "first" in stays.ask("ssh-add -l"), "the other agent is named")
    stays.lose()


def test_tokens_are_taken_from_memory_at_each_login(guest: Guest) -> None:
    """Only files that are named as such are taken, and other tools' path for GitHub's token works.

    A token that was brought or taken away later counts in shells that are already open.
    """
    ssh(guest, "cat >/dev/shm/.gh_token; chmod 600 /dev/shm/.gh_token", said="ghp_first\n")
    ssh(guest, "cat >/run/secrets/GEMINI_API_KEY", said="$(touch ~/executed) `x` 'a b'")
    ssh(guest, "echo evil >/run/secrets/PATH; echo evil >/run/secrets/LD_PRELOAD")
    ask = 'echo "$GH_TOKEN|$GEMINI_API_KEY|${LD_PRELOAD:-}"; test -e ~/executed && echo executed'
    assert ssh(guest, "cat /run/secrets/GH_TOKEN").strip() == "ghp_first"
    expected = "|$(touch ~/executed) `x` 'a b'|"
    assert ssh(guest, f"bash -lc {shlex.quote(ask)}; true").strip() == f"ghp_first{expected}"
    terminal = in_tmux(guest)
    assert terminal.ask(ask) == f"ghp_first{expected}"
    given = "printf 'protocol=https\\nhost=github.com\\n\\n' | git credential fill"
    assert "password=ghp_first" in terminal.ask(given).splitlines()
    ssh(guest, "echo ghp_second >/run/secrets/GH_TOKEN")
    terminal.ask("true")
    assert terminal.ask(ask) == f"ghp_second{expected}"
    ssh(guest, "rm /run/secrets/GH_TOKEN")
    terminal.ask("true")
    assert terminal.ask('echo "[$GH_TOKEN]"') == "[]"
    assert "ghp_" not in ssh(guest, "tmux show-environment -g")
    terminal.lose()


MAKE_ORIGIN = """
rm -rf origin.git origin made ~/.local/state/workspace/cloned ~/.ssh/known_hosts
git init -q -b main made && cd made && git config user.email a@b && git config user.name A
echo main >file && git add . && git commit -qm 1
git switch -qc '{branch}' && echo branch >file && git commit -qam 2
git switch -q main && git clone -q --bare . ../origin.git && cd .. && rm -rf made
""".replace("{branch}", BRANCH)


def test_the_repository_is_cloned_at_the_first_login_that_can(guest: Guest) -> None:
    """Without an agent it fails at once: nobody is asked for a password or about a host.

    The next login has an agent, and clones the branch. No later one clones again.
    """
    ssh(guest, MAKE_ORIGIN)
    without = in_tmux(guest)
    without.expect("could not be cloned")
    assert without.ask("test -e ~/origin || echo absent") == "absent"
    without.lose()
    with_agent = in_tmux(guest, agent="first")
    with_agent.expect("The repository is in ~/origin")
    assert with_agent.ask("cat ~/origin/file; git -C ~/origin branch --show-current") == (
        f"branch\n{BRANCH}"
    )
    assert with_agent.ask("test -e executed || test -e origin/executed || echo safe") == "safe"
    with_agent.lose()
    ssh(guest, "rm -rf origin")
    last = in_tmux(guest, agent="first")
    assert "No such file" in last.ask("sleep 1; ls ~/origin")
    last.lose()


def test_no_command_clones(guest: Guest) -> None:
    """A command, a copy or an editor must not wait for a clone, or read its messages."""
    ssh(guest, MAKE_ORIGIN)
    assert ssh(guest, "bash -lc true") == ""
    assert ssh(guest, "test -e ~/origin || echo absent").strip() == "absent"


def test_a_branch_that_is_not_there_is_said(guest: Guest) -> None:
    """The default branch is cloned then. What git might take for an option is refused by it."""
    ssh(guest, MAKE_ORIGIN)
    clone = "WORKSPACE_REPO=/home/workspace/origin.git WORKSPACE_BRANCH={} {} 2>&1"
    script = "/usr/local/lib/workspace/clone"
    said = ssh(guest, clone.format("absent", script))
    assert "has no branch absent" in said
    assert ssh(guest, "cat ~/origin/file").strip() == "main"
    ssh(guest, "rm -rf ~/origin ~/.local/state/workspace/cloned")
    hostile = "WORKSPACE_REPO='ext::sh -c touch% ~/executed' WORKSPACE_BRANCH=--upload-pack=x"
    assert "could not be cloned" in ssh(guest, f"{hostile} {script} 2>&1")
    hostile = "WORKSPACE_REPO='--upload-pack=touch executed;:/' WORKSPACE_BRANCH="
    assert "could not be cloned" in ssh(guest, f"{hostile} {script} 2>&1")
    assert ssh(guest, "ls -A ~ | grep -c executed; true").strip() == "0"


COPIES = {
    "scp": ("scp", "-q", *KEY, "/root/copied", "dev@127.0.0.1:copied"),
    "scp by its old protocol": ("scp", "-q", "-O", *KEY, "/root/copied", "dev@127.0.0.1:copied"),
    "sftp": ("sftp", "-q", *KEY, "-b", "/root/batch", "dev@127.0.0.1"),
    "rsync": ("rsync", "-e", f"ssh {shlex.join(KEY)}", "/root/copied", "dev@127.0.0.1:copied"),
}


@pytest.mark.parametrize("tool", COPIES)
def test_files_are_copied_in_and_out(guest: Guest, tool: str) -> None:
    """The login files say nothing that these protocols would read, also with a bashrc that does."""
    guest.run("sh", "-c", "date >/root/copied; echo 'put /root/copied copied' >/root/batch")
    ssh(guest, "rm -f copied")
    guest.run(*COPIES[tool])
    assert (
        ssh(guest, "cat copied; stat -c %u copied") == guest.run("cat", "/root/copied") + "1000\n"
    )
    guest.run("scp", "-q", *KEY, "dev@127.0.0.1:copied", "/root/back")
    assert guest.run("cmp", "/root/copied", "/root/back") == ""
    ssh(guest, "rm copied")


def test_a_stop_forgets_secrets_and_sessions_and_keeps_the_home(
    booted: Workspace, fleet: Fleet, alice: ApiClient
) -> None:
    """The machine was off. The first files of the home are not given again."""
    guest = guest_of(booted, fleet)
    ssh(guest, "echo secret >/run/secrets/GH_TOKEN; echo kept >~/work; rm ~/.bashrc")
    ssh(guest, "cat /dev/shm/.gh_token")
    alice.stop(booted["id"])
    alice.wait_until_settled(booted["id"], "SUSPENDED", seconds=60)
    fleet.off(booted["instance_name"])
    alice.start(booted["id"])
    alice.wait_until_settled(booted["id"], "READY", seconds=240)
    again = guest_of(booted, fleet)
    settle(again)
    assert ssh(again, "cat ~/work; ls -A /run/secrets; cat /dev/shm/.gh_token 2>&1; true") == (
        "kept\ncat: /dev/shm/.gh_token: No such file or directory\n"
    )
    assert "no such file" in ssh(again, "ls ~/.bashrc 2>&1; true").lower()
