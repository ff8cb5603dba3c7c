"""Checks the boot files with their real readers, and by Container-Optimized OS's rules.

The readers are cloud-init, systemd, sudo and bash.

The rules (source: Google's documentation of it, "Security overview", "Creating and configuring
instances"): ``/etc`` is in memory and is written anew at each boot. Most writable file systems are
mounted noexec. There is no package manager, so only the system's own tools exist.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.boot import user_data as module
from shared.boot.user_data import DROP_INS, FOLDER, SCRIPTS, STARTED, UNITS, user_data

BOOT = Path(module.__file__).parent
SCHEMAS = Path("/usr/lib/python3/dist-packages/cloudinit/config/schemas")
BASH_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# The tools that the scripts may call. Container-Optimized OS has all of them: check that before you
# add a tool.
TOOLS = frozenset(
    {
        *(
            "cat",
            "chown",
            "date",
            "head",
            "install",
            "mkdir",
            "mv",
            "od",
            "rm",
            "seq",
            "sleep",
            "stat",
            "tail",
            "timeout",
            "tr",
            "wc",
        ),  # coreutils
        *("blkid", "mount", "mountpoint", "umount"),  # util-linux
        *("fsck.ext4", "mkfs.ext4", "resize2fs"),  # e2fsprogs
        *("docker", "docker-credential-gcr"),
        *("grep", "pgrep", "systemctl"),  # GNU grep; pgrep of procps
        *("iptables", "ip6tables"),
        *("/bin/bash", "sshd", "sudo"),
        "systemd-cat",
        "curl",
    }
)


def needed(tool: str, package: str) -> str:
    """Return a tool's path; skip the test if the tool is not installed."""
    found = shutil.which(tool, path=BASH_PATH)
    if not found:
        pytest.skip(f"needs {tool}: apt-get install {package}")
    return found


def told(*command: str | Path) -> str:
    """Return the output of a tool that checks files; the tool must accept them."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def config() -> dict[str, Any]:
    """Return the user-data as cloud-init reads it."""
    read: dict[str, Any] = yaml.safe_load(user_data())
    return read


def source(name: str) -> str:
    """Return a boot file without its comments."""
    return "".join(
        line
        for line in (BOOT / name).read_text().splitlines(keepends=True)
        if not line.lstrip().startswith("#")
    )


# ---- which commands a script calls ---------------------------------------------------------------

_KEYWORDS = frozenset(
    {"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "{", "}", "!", "time"}
)
# Commands that call another command, and how many words that are not options come before it.
_CALLERS = {
    "systemd-cat": 0,
    "exec": 0,
    "command": 0,
    "builtin": 0,
    "env": 0,
    "nohup": 0,
    "sudo": 0,
    "timeout": 1,
    "xargs": 0,
}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^\]]*\])?\+?=")
_FUNCTION = re.compile(r"[\w-]+\(\)")
_HEREDOC = re.compile(r"<<(-?)[ \t]*(['\"]?)(\w+)\2")


class Commands:
    """The first word of each command in a script, in substitutions too, without its own functions.

    It knows only the part of bash's grammar that the scripts use. It takes unknown text for a
    command, so that a test fails rather than passes. A command that is a variable has the name of
    the variable: ``${tool}``.

    Attributes:
        called: the commands.
    """

    def __init__(self, script: str) -> None:
        self._text = script
        self._at = 0
        self._heredocs: list[str] = []
        self._called: set[str] = set()
        self._functions: set[str] = set()
        self._commands("")
        assert self._at >= len(script), f"not understood: {script[self._at : self._at + 60]!r}"
        self.called = frozenset(self._called - self._functions)

    def _commands(self, end: str) -> None:
        """Read commands up to ``end``: a parenthesis, ``;;`` of a case, or the script's end."""
        expects, skips = True, 0  # a command comes next, after so many words
        while self._at < len(self._text):
            rest = self._text[self._at : self._at + 2]
            if rest[0] in " \t" or rest == "\\\n":
                self._at += 1 if rest[0] in " \t" else 2
            elif rest[0] == "#":
                self._past("\n", keep=True)
            elif end and rest.startswith(end):
                self._at += len(end)
                return
            elif rest[0] == "\n":
                self._at += 1
                self._skip_heredocs()
                expects, skips = True, 0
            elif rest == "((":
                self._arithmetic()
            elif rest[0] == "(":
                self._at += 1
                self._commands(")")
            elif rest[0] in ";&|" and rest != "&>":
                self._at += 1
                expects, skips = True, 0
            elif rest[0] in "<>" or rest == "&>":
                self._redirection()
            else:
                word = self._word()
                if word.isdigit() and self._text[self._at : self._at + 1] in {"<", ">"}:
                    continue  # a redirection's number
                if not expects:
                    continue
                if word == "esac" and end == ";;":
                    self._at -= len(word)
                    return
                expects, skips = self._first_word(word, skips)

    def _first_word(self, word: str, skips: int) -> tuple[bool, int]:
        """Read a word where a command may be.

        Return whether a command may follow it, and after how many further words.
        """
        if word in _KEYWORDS:
            return True, 0
        if word == "case":
            self._case()
        elif word == "[[":
            while self._word_after_blanks() != "]]":
                pass
        elif word == "for":
            pass  # its list consists of words; `do` comes after a line's end or `;`
        elif _ASSIGNMENT.match(word) or word.startswith("-"):
            return True, skips
        elif _FUNCTION.fullmatch(word):
            self._functions.add(word[:-2])
            return True, 0
        elif skips:
            return True, skips - 1
        else:
            self._called.add(word)
            return word in _CALLERS, _CALLERS.get(word, 0)
        return False, 0

    def _case(self) -> None:
        self._word_after_blanks()
        assert self._word_after_blanks() == "in"
        while self._word_after_blanks() != "esac":
            while self._text[self._at] != ")":
                self._at += self._text[self._at] in " \t|"
                self._word_after_blanks()
            self._at += 1
            self._commands(";;")

    def _redirection(self) -> None:
        if self._text.startswith("<<<", self._at):
            self._at += 3
        elif heredoc := _HEREDOC.match(self._text, self._at):
            self._heredocs.append(heredoc[3])
            self._at = heredoc.end()
            return
        elif self._text[self._at + 1 : self._at + 2] == "(":
            self._at += 2
            self._commands(")")
            return
        while self._text[self._at] in "<>&|":
            self._at += 1
        self._word_after_blanks()

    def _skip_heredocs(self) -> None:
        for name in self._heredocs:
            self._past(f"\n{name}\n", back=1)
        self._heredocs.clear()

    def _word_after_blanks(self) -> str:
        while self._text[self._at] in " \t\n|#" or self._text.startswith("\\\n", self._at):
            if self._text[self._at] == "#":
                self._past("\n", keep=True)
            else:
                self._at += 1
        return self._word()

    def _word(self) -> str:
        """Return a word without its quotes, and read the commands that are substituted in it."""
        word, quoted = "", False
        while self._at < len(self._text):
            char = self._text[self._at]
            if not quoted and word.endswith("=") and char == "(":  # an array
                self._array()
                continue
            if not quoted and self._text.startswith("()", self._at):  # a function
                self._at += 2
                return f"{word}()"
            if not quoted and char in " \t\n;&|<>()":
                break
            self._at += 1
            if char == '"':
                quoted = not quoted
            elif char == "'" and not quoted:
                start = self._at
                self._past("'")
                word += self._text[start : self._at - 1]
            elif char == "\\":
                word += self._text[self._at]
                self._at += 1
            elif char == "`":
                start = self._at
                self._past("`")
                self._called |= Commands(self._text[start : self._at - 1]).called
            elif char == "$":
                word += self._expansion()
            else:
                word += char
        return word

    def _expansion(self) -> str:
        """Read the text after a dollar sign, and return it as it is written."""
        start = self._at
        if self._text.startswith("((", self._at):
            self._arithmetic()
        elif self._text.startswith("(", self._at):
            self._at += 1
            self._commands(")")
        elif self._text.startswith("{", self._at):
            self._past("}")
            inside = self._text[start + 1 : self._at - 1]
            for substituted in re.findall(r"\$\((.*)\)", inside):
                self._called |= Commands(substituted).called
        return f"${self._text[start : self._at]}"

    def _arithmetic(self) -> None:
        self._at += 2
        depth = 2
        while depth:
            char = self._text[self._at]
            self._at += 1
            if char == "$":
                self._expansion()
            depth += {"(": 1, ")": -1}.get(char, 0)

    def _array(self) -> None:
        self._at += 1
        while self._text[self._at] != ")":
            if self._text[self._at] in " \t\n":
                self._at += 1
            else:
                self._word()
        self._at += 1

    def _past(self, text: str, *, keep: bool = False, back: int = 0) -> None:
        """Go on after the next ``text``, or to the end of the script if there is none."""
        self._at -= back
        found = self._text.find(text, self._at)
        self._at = len(self._text) if found < 0 else found + (0 if keep else len(text))


def externals(script: str) -> frozenset[str]:
    """Return the commands that a script calls and that are not builtins of bash."""
    return Commands(script).called - BUILTINS


BUILTINS = frozenset(told("/bin/bash", "-c", "compgen -b").split())


def functions_of(name: str) -> frozenset[str]:
    """Return the functions that a script defines."""
    return frozenset(re.findall(r"^(\w+)\(\) \{$", (BOOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_calls_only_tools_that_the_machine_has(name: str) -> None:
    """Container-Optimized OS has no jq, python or apt. Such a call would fail only there."""
    assert externals((BOOT / name).read_text()) - functions_of("settings.sh") <= TOOLS


def test_sshds_forced_command_calls_only_tools_that_the_machine_has() -> None:
    """The forced command is a script of one line inside another script."""
    [forced] = re.findall(r"^ *ForceCommand (.+)$", source("ssh.sh"), re.MULTILINE)
    assert externals(forced) == {"sudo", "/bin/bash"}


def test_every_allowed_tool_is_called() -> None:
    """A tool that is no longer called must be removed from the list."""
    called = {tool for name in SCRIPTS for tool in externals((BOOT / name).read_text())}
    assert called | {"sudo", "/bin/bash"} >= TOOLS


@pytest.mark.parametrize(
    "script",
    [
        "jq . <file",
        "echo one\njq .\n",
        "echo one; jq .",
        "[ -e file ] && jq .",
        "echo one | jq . >file",
        "if ! jq .; then echo; fi",
        "while jq .; do :; done",
        "for x in 1 2; do jq .; done",
        "for x in $(jq .); do :; done",
        "{ jq .; }",
        "(cd /; jq .)",
        "exec jq .",
        "timeout 30 jq .",
        "timeout --kill-after=5 30 jq .",
        "sudo --non-interactive jq .",
        "LANG=C jq .",
        "value=$(jq .)",
        'value="a $(echo "$(jq .)") b"',
        'echo "${value:-$(jq .)}"',
        "values=(one $(jq .))",
        "echo `jq .`",
        "cat <(jq .)",
        "case $(jq .) in a) ;; esac",
        "case a in a | b) jq . ;; *) : ;; esac",
        "case a in\n  a) : ;;\n  *)\n    jq .\n    ;;\nesac",
        "[[ $(jq .) == true* ]] || :",
        "age=$(($(jq .) - (1 + 2)))",
        "((1 + $(jq .))); :",
        "of() {\n  jq .\n}\nof",
        "cat <<'END' | jq .\njq-not\nEND\n",
        "cat <<'END'\nnot\nEND\njq .\n",
        "2>/dev/null jq .",
        "echo $((1 + 2)) && 'jq' .",
        "if :; then echo; else \\\n  jq .; fi",
        "case a in\n  a) ;; # one\n  # two\n  b) jq . ;;\nesac",
    ],
)
def test_a_tool_is_found_wherever_a_script_calls_it(script: str) -> None:
    """The tests above rely on this: they would miss a hidden call."""
    assert externals(script) - TOOLS == {"jq"}


@pytest.mark.parametrize(
    "script",
    [
        "echo jq",
        "echo 'a; jq'",
        '# jq\necho "; jq"',
        "cat >jq <<END\njq\nEND\n",
        "a=jq",
        "echo $((jq + 1))",
        "a=(jq)",
    ],
)
def test_text_that_only_looks_like_a_call_is_not_one(script: str) -> None:
    """Arguments, quotes, comments, files, here-documents and numbers are not calls."""
    assert externals(script) <= {"cat"}


# ---- cloud-init ----------------------------------------------------------------------------------


def test_cloud_init_accepts_the_user_data(tmp_path: Path) -> None:
    """It is valid by cloud-init's own schema."""
    file = tmp_path / "user-data"
    file.write_text(user_data())
    assert "Valid" in told(needed("cloud-init", "cloud-init"), "schema", "--config-file", file)


def test_cloud_init_knows_every_key() -> None:
    """The schema accepts a misspelt key at the top, which would have no effect."""
    needed("cloud-init", "cloud-init")
    [schema_file] = SCHEMAS.glob("schema-cloud-config-v*.json")
    schema = json.loads(schema_file.read_text())["$defs"]
    known = {key for part in schema.values() for key in part.get("properties", {})}
    of_a_file = schema["cc_write_files"]["properties"]["write_files"]["items"]["properties"].keys()

    assert {"runcmd", "write_files"} <= known
    assert "runcmmd" not in known
    assert config().keys() <= known
    for file in config()["write_files"]:
        assert file.keys() <= of_a_file


def test_the_user_data_has_exactly_the_boot_files() -> None:
    """Each file is in it byte for byte. JSON and YAML readers see the same content."""
    assert user_data().startswith("#cloud-config\n")
    assert json.loads(user_data().partition("\n")[2]) == config()
    for file in config()["write_files"]:
        name = "sudoers" if "sudoers" in file["path"] else Path(file["path"]).name
        [source_of] = [each for each, path in DROP_INS.items() if path == file["path"]] or [name]
        assert file["content"] == (BOOT / source_of).read_text()


def test_no_boot_file_is_forgotten() -> None:
    """Every script and unit of the folder is on the machine's list, and the list has no others."""
    kinds = {".sh", ".service", ".path", ".conf"}
    here = {path.name for path in BOOT.iterdir() if path.suffix in kinds}
    assert {*SCRIPTS, *UNITS, *DROP_INS} == here
    paths = [file["path"] for file in config()["write_files"]]
    assert sorted(paths) == sorted(
        [
            *(f"{FOLDER}/{name}" for name in SCRIPTS),
            *(f"/etc/systemd/system/{name}" for name in UNITS),
            *DROP_INS.values(),
            "/etc/sudoers.d/workspace-hub",
        ]
    )


def test_the_user_data_is_small_enough() -> None:
    """A metadata value may have 256 KB (source: Compute Engine, "About VM metadata")."""
    assert len(user_data().encode()) < 256 * 1024


# ---- systemd, sudo, bash -------------------------------------------------------------------------


def verified(folder: Path, change: Callable[[str], str] = str) -> subprocess.CompletedProcess[str]:
    """Have systemd check the units in a folder of their own, with stubs for other units."""
    folder.mkdir()
    docker = folder / "docker"
    docker.write_text("#!/bin/bash\n")
    docker.chmod(0o755)
    (folder / "docker.service").write_text(f"[Service]\nExecStart={docker}\n")
    for name in UNITS:
        (folder / name).write_text(
            change((BOOT / name).read_text()).replace("/usr/bin/docker", str(docker))
        )
    command = [
        needed("systemd-analyze", "systemd"),
        "verify",
        "--man=no",
        *(str(folder / name) for name in UNITS),
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """It prints nothing: an unknown key is only a warning, but the unit would do something else."""
    said = verified(tmp_path / "units")
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Restart=always", "Restrat=always"),
        ("Requires=workspace-disk", "Requires=workspace-dusk"),
        ("=/bin/bash", "=/bin/no-bash"),
        ("Type=oneshot", "Type=once"),
    ],
)
def test_systemds_check_finds_an_unknown_key(tmp_path: Path, right: str, wrong: str) -> None:
    """Given a unit with an unknown key, the check above fails."""
    said = verified(tmp_path / "units", lambda unit: unit.replace(right, wrong))
    assert said.stdout + said.stderr


def test_sudo_accepts_its_rule(tmp_path: Path) -> None:
    """A file that sudo cannot read would make sudo fail for everybody on the machine."""
    file = tmp_path / "sudoers"
    shutil.copyfile(BOOT / "sudoers", file)
    file.chmod(0o440)
    told(needed("visudo", "sudo"), "-cf", file)


def test_sudo_reads_the_file() -> None:
    """Sudo skips files with a dot in their name, and refuses a file that others may write."""
    [file] = [file for file in config()["write_files"] if "sudoers.d" in file["path"]]
    assert "." not in Path(file["path"]).name
    assert (file["permissions"], file["owner"]) == ("0440", "root:root")


def test_shellcheck_finds_nothing() -> None:
    """It checks all scripts with the files that they source."""
    shellcheck = needed("shellcheck", "shellcheck")
    told(
        shellcheck, "--external-sources", "--source-path", BOOT, *(BOOT / name for name in SCRIPTS)
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_parse_the_script(name: str) -> None:
    """The script is not run."""
    assert told("/bin/bash", "-n", BOOT / name) == ""


# ---- Container-Optimized OS ----------------------------------------------------------------------


def settings_of(unit: str, key: str) -> list[str]:
    """Return a unit's values for a key."""
    return re.findall(rf"^{key}=(.*)$", source(unit), re.MULTILINE)


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_a_unit_starts_a_script_by_bash_and_absolute_paths(unit: str) -> None:
    """A file that is written at boot may be on a noexec file system. Systemd has no useful PATH."""
    [start] = settings_of(unit, "ExecStart")
    script = start.removeprefix(f"/bin/bash {FOLDER}/")
    assert script in SCRIPTS or start == "/bin/sync"
    assert all(stop.lstrip("-").startswith("/") for stop in settings_of(unit, "ExecStop"))
    assert not re.findall(r"^Exec(?!Start=|Stop=)\w*=", source(unit), re.MULTILINE)


def test_the_watched_file_is_the_file_that_the_script_writes() -> None:
    """The unit of the same name writes it."""
    [watched] = settings_of("workspace-ssh.path", "PathChanged")
    assert f'"${{SSHD_CONFIG:={watched}}}"' in source("settings.sh")
    assert settings_of("workspace-ssh.service", "RemainAfterExit") == []


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_a_scripts_output_is_on_the_serial_console(unit: str) -> None:
    """By default a unit's output is not.

    If a machine never reports, the console is the only place with the reason.
    """
    assert (
        settings_of(unit, "StandardOutput")
        == settings_of(unit, "StandardError")
        == ["journal+console"]
    )


@pytest.mark.parametrize("name", [*SCRIPTS, *UNITS])
def test_nothing_is_enabled(name: str) -> None:
    """``/etc`` is empty again at the next boot, so the units are started each time."""
    assert "[Install]" not in source(name)
    assert not re.search(r"\benable\b|\bWantedBy\b", source(name))


def test_nothing_is_written_outside_etc() -> None:
    """Other folders are read-only, or exist only later in the boot."""
    for file in config()["write_files"]:
        path = Path(file["path"])
        assert path.is_relative_to("/etc"), path
        assert ".." not in path.parts


def test_runcmd_only_starts_units() -> None:
    """It does not wait, because cloud-init is part of the boot.

    Commands are lists, so no shell reads them.
    """
    assert config()["runcmd"] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "start", "--no-block", *STARTED],
    ]


def brought(unit: str) -> Iterator[str]:
    """Yield a unit of the Hub and all units that it starts."""
    yield unit
    for other in " ".join(settings_of(unit, "Requires") + settings_of(unit, "Wants")).split():
        if other in UNITS:
            yield from brought(other)


def test_the_started_units_start_all_others() -> None:
    """No unit is unused."""
    wanted = [unit for name in DROP_INS for unit in settings_of(name, "Wants")]
    assert {unit for started in [*STARTED, *wanted] for unit in brought(started)} == set(UNITS)


def test_systemd_syncs_before_it_suspends(tmp_path: Path) -> None:
    """``sleep.target`` wants the unit, and waits for its end: each suspend runs it once more."""
    systemctl = needed("systemd-analyze", "systemd")
    folder = tmp_path / "etc/systemd/system"
    (folder / "sleep.target.d").mkdir(parents=True)
    (folder / "sleep.target").write_text("[Unit]\nDefaultDependencies=no\n")
    for name, path in DROP_INS.items():
        (folder / Path(path).relative_to("/etc/systemd/system")).write_text(
            (BOOT / name).read_text()
        )
    for name in UNITS:
        (folder / name).write_text((BOOT / name).read_text())
    dot = told(systemctl, f"--root={tmp_path}", "--man=no", "verify", folder / "sleep.target")
    assert dot == ""
    assert settings_of("workspace-sync.service", "Before") == ["sleep.target"]
    assert settings_of("workspace-sync.service", "Type") == ["oneshot"]
    assert settings_of("workspace-sync.service", "RemainAfterExit") == []
    assert settings_of("workspace-sleep.conf", "Wants") == ["workspace-sync.service"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_ordered_after_the_units_that_it_starts(unit: str) -> None:
    """Without an order systemd starts them at the same time."""
    after = " ".join(settings_of(unit, "After")).split()
    assert set(" ".join(settings_of(unit, "Requires") + settings_of(unit, "Wants")).split()) <= set(
        after
    )


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "settings.sh"])
def test_a_script_stops_at_errors_and_sources_settings_sh_from_its_folder(name: str) -> None:
    """It works in any folder: on the machine, and in the tests."""
    lines = source(name).splitlines()
    assert lines[:2] == ["set -euo pipefail", '. "${BASH_SOURCE[0]%/*}/settings.sh"']
    assert (BOOT / name).read_text().startswith("#!/bin/bash\n")


def test_no_script_relies_on_an_execute_bit() -> None:
    """No script has one on the machine, so bash runs each of them."""
    for file in config()["write_files"]:
        assert int(file["permissions"], 8) & 0o7133 == 0, file["path"]
        assert file["owner"] == "root:root"
    for name in [*SCRIPTS, *UNITS, "sudoers"]:
        for run in re.findall(rf"\S+ {FOLDER}/[a-z]+\.sh\b", source(name)):
            assert re.search(r"(^|=)/bin/bash ", run), run
