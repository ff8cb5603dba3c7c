"""The boot script that mounts the home disk, ``disk.sh``."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.boot.fake_machine import (
    DISK_BYTES,
    Machine,
)
from tests.boot.test_user_data import needed


def attach(machine: Machine, **contents: bytes) -> None:
    """Attach a home disk with nothing on it but what is given: ``at_510=...``."""
    with machine.disk.open("wb") as disk:
        disk.truncate(DISK_BYTES)
        for place, content in contents.items():
            disk.seek(int(place.removeprefix("at_")))
            disk.write(content)


def attach_ext4(machine: Machine, **files: str) -> None:
    """Attach a home disk with the Hub's file system and these files on it."""
    attach(machine)
    contents = machine.folder / "contents"
    contents.mkdir()
    for name, text in files.items():
        (contents / name).write_text(text)
    mkfs = needed("mkfs.ext4", "e2fsprogs")
    subprocess.run(
        [mkfs, "-q", "-d", str(contents), str(machine.disk)], check=True, capture_output=True
    )


def read(machine: Machine, name: str) -> str:
    """Return a file's text from the home disk."""
    command = [needed("debugfs", "e2fsprogs"), "-R", f"cat {name}", str(machine.disk)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def digest(machine: Machine) -> str:
    """Return a hash of everything on the home disk."""
    with machine.disk.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def check_home_mounted(machine: Machine) -> None:
    """Check that the home disk was mounted once, with nosuid and nodev."""
    [mount] = machine.calls("mount", "-t", "ext4")
    assert mount == [
        "mount",
        "-t",
        "ext4",
        "-o",
        "rw,nosuid,nodev,discard",
        str(machine.disk),
        str(machine.mount),
    ]
    [install] = machine.calls("install")
    assert install[1:] == ["-d", "-o", "1000", "-g", "1000", "-m", "0750", f"{machine.mount}/home"]


def test_a_blank_disk_is_formatted_and_mounted(machine: Machine) -> None:
    """The real mkfs formats it, and the real blkid recognises the result."""
    attach(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    command = [needed("blkid", "util-linux"), "--probe", "-o", "export", str(machine.disk)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {"TYPE=ext4", "LABEL=workspace-home"} <= set(found.splitlines())
    assert machine.outside.reports == []


def test_a_kernel_that_panics_boots_again(machine: Machine) -> None:
    """Otherwise it would stop and look like a running machine.

    If the setting fails, the home is still mounted.
    """
    attach(machine)
    assert machine.run("disk.sh") == 0, machine.said()
    assert (machine.folder / "kernel_panic").read_text() == "10\n"

    machine.environment["KERNEL_PANIC"] = str(machine.folder / "nowhere" / "panic")
    assert machine.run("disk.sh") == 0, machine.said()
    assert "<4>After a panic" in machine.said()


def test_running_it_again_changes_nothing(machine: Machine) -> None:
    """Given everything is mounted, a second run neither formats nor mounts anything."""
    attach(machine)
    machine.run("disk.sh")
    before = digest(machine)

    assert machine.run("disk.sh") == 0, machine.said()

    check = len(machine.calls("install"))
    assert (len(machine.calls("mkfs.ext4")), len(machine.calls("mount")), check) == (1, 2, 2)
    assert digest(machine) == before


def test_at_the_next_boot_the_disk_is_not_formatted_again(machine: Machine) -> None:
    """After a boot nothing is mounted.

    The file system is checked, and files written since are still there.
    """
    attach(machine)
    machine.run("disk.sh")
    (machine.fakes / "mounted").write_text("")
    work = machine.folder / "work"
    work.write_text("all of it")
    write = [needed("debugfs", "e2fsprogs"), "-w", "-R", f"write {work} work", str(machine.disk)]
    subprocess.run(write, check=True, capture_output=True)

    assert machine.run("disk.sh") == 0, machine.said()

    assert (len(machine.calls("mkfs.ext4")), len(machine.calls("mount", "-t", "ext4"))) == (1, 2)
    assert len(machine.calls("fsck.ext4", "-p")) == 2
    assert read(machine, "work") == "all of it"


def test_files_on_an_existing_home_disk_stay(machine: Machine) -> None:
    """Given a person's files from a former machine, the disk is mounted with them."""
    attach_ext4(machine, work="all of it")

    assert machine.run("disk.sh") == 0, machine.said()

    check_home_mounted(machine)
    assert machine.calls("mkfs.ext4") == []
    assert read(machine, "work") == "all of it"


def boot_with(machine: Machine, workspace_id: str, *, again: bool = True) -> None:
    """Boot a workspace's machine with the home disk, which has a touched ``~/.keep-awake``."""
    machine.outside.attributes["hub-workspace-id"] = workspace_id
    if again:
        (machine.fakes / "mounted").write_text("")
    assert machine.run("disk.sh") == 0, machine.said()


def test_a_fork_is_not_kept_awake_by_what_was_touched_before_its_snapshot(machine: Machine) -> None:
    """A workspace's own file stays at each of its boots, also one of before the disk had a note."""
    attach(machine)
    file = machine.mount / "home" / ".keep-awake"
    work = machine.mount / "home" / "work"
    file.parent.mkdir(parents=True)
    file.touch()
    work.write_text("all of it")
    boot_with(machine, "one", again=False)
    assert file.exists()
    boot_with(machine, "one")
    assert file.exists()

    boot_with(machine, "its-fork")

    assert not file.exists()
    assert work.read_text() == "all of it"
    file.touch()
    boot_with(machine, "its-fork")
    assert file.exists()


def test_a_home_is_used_though_nobody_can_tell_whose_it_is(machine: Machine) -> None:
    """Neither the metadata server nor the disk need to work for that."""
    attach(machine)
    del machine.outside.attributes["hub-workspace-id"]
    assert machine.run("disk.sh") == 0, machine.said()
    machine.outside.attributes["hub-workspace-id"] = "one"
    (machine.mount / "workspace-id").mkdir()
    assert machine.run("disk.sh") == 0, machine.said()
    assert machine.outside.reports == []


def test_a_disk_that_appears_late_is_waited_for(machine: Machine) -> None:
    """Its name comes from udev some time into the boot."""
    attach_ext4(machine)
    elsewhere = machine.disk.rename(machine.folder / "elsewhere")
    machine.fake(
        "sleep",
        f'[ ! -e {machine.folder}/soon ] || mv {elsewhere} "${{DISK}}"\n'
        f"touch {machine.folder}/soon",
    )

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("sleep") == [["sleep", "1"]] * 2
    check_home_mounted(machine)


def check_left_alone(machine: Machine, code: str) -> None:
    """Check that the disk is reported and unchanged.

    It is neither mounted nor formatted, and there are no secrets.
    """
    before = digest(machine)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    [report] = machine.outside.reports
    assert report.keys() == {"event", "generation", "code", "message"}
    assert (report["event"], report["generation"]) == ("failed", 3)
    assert report["message"].endswith(".")
    assert machine.calls("mount", "-t") == machine.calls("resize2fs") == []
    assert digest(machine) == before


def mbr() -> dict[str, bytes]:
    """Return a partition table with one empty partition."""
    return {"at_446": bytes.fromhex("80 202100 83 dd1e3f 00080000 00f80000"), "at_510": b"\x55\xaa"}


FOREIGN: dict[str, Callable[[], dict[str, bytes]]] = {
    "a partition table": mbr,
    "encryption": lambda: {"at_0": b"LUKS\xba\xbe\x00\x02" + bytes(8) + b"\x40"},
    "xfs": lambda: {"at_0": b"XFSB\x00\x00\x10\x00"},
    "btrfs": lambda: {"at_65600": b"_BHRfS_M"},
    "squashfs": lambda: {"at_0": b"hsqs"},
    "what nobody knows": lambda: {"at_0": os.urandom(65536)},
    "what nobody knows, behind zeros": lambda: {"at_16000000": os.urandom(100)},
    "a single byte": lambda: {"at_1000000": b"\x01"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_contents_are_reported_and_left_alone(machine: Machine, what: str) -> None:
    """Only zeros are blank: this holds for contents that blkid knows and for those it does not."""
    attach(machine, **FOREIGN[what]())

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


@pytest.mark.parametrize(
    ("tool", "package", "options"),
    [
        ("mkswap", "util-linux", []),
        ("mkfs.ext3", "e2fsprogs", ["-q"]),
        ("mkfs.vfat", "dosfstools", []),
        ("mkfs.xfs", "xfsprogs", ["-q"]),
    ],
)
def test_another_file_system_is_reported_and_left_alone(
    machine: Machine, tool: str, package: str, options: list[str]
) -> None:
    """Given a file system that its own tool has made, the disk is not changed."""
    attach(machine)
    if tool == "mkfs.xfs":
        os.truncate(machine.disk, 320 * 1024 * 1024)  # it makes none that is smaller
    subprocess.run(
        [needed(tool, package), *options, str(machine.disk)], check=True, capture_output=True
    )

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_home_disk_with_an_overwritten_beginning_is_not_blank(machine: Machine) -> None:
    """To blkid it is empty, but its files can still be rescued."""
    attach_ext4(machine, work="all of it")
    with machine.disk.open("r+b") as disk:
        disk.write(bytes(4096))

    check_left_alone(machine, "DISK_FOREIGN")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_fails_while_it_is_read_is_not_blank(machine: Machine) -> None:
    """Given zeros and then a read error, the rest of the disk is unknown."""
    attach(machine)
    broken = "printf '\\0'; echo 'head: error reading: Input/output error' >&2; exit 1"
    machine.fake("head", f'case "$*" in *16M*) {broken} ;; esac; exec /usr/bin/head "$@"')

    check_left_alone(machine, "DISK_UNREADABLE")
    assert machine.calls("mkfs.ext4") == []


def test_a_disk_that_cannot_be_read_at_all_is_not_blank(machine: Machine) -> None:
    """The kernel's own input/output error is reported."""
    attach(machine)
    machine.environment["DISK"] = "/proc/self/mem"
    machine.fake("mkfs.ext4", ":")

    check_left_alone(machine, "DISK_UNREADABLE")
    assert machine.calls("mkfs.ext4") == []


def test_a_missing_disk_is_reported(machine: Machine) -> None:
    """It is reported after a minute, and nothing is created in its place."""
    machine.fake("sleep", ":")

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_MISSING"]
    assert machine.calls("sleep") == [["sleep", "1"]] * 60
    assert not machine.disk.exists()
    assert machine.calls("mount") == []


IO_ERROR = "Input/output error"

WRITE_PROTECTED = (
    "/dev/sdb: Read-only file system;"
    " Disk write-protected; use the -n option to do a read-only check"
)

SHORT_READ = (
    "Attempt to read block from filesystem resulted in short read while trying to open /dev/sdb"
)

BAD_SUPERBLOCK = "Bad magic number in super-block while trying to open /dev/sdb"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("", "DISK_NOT_FORMATTED"),
        (IO_ERROR, "DISK_UNREADABLE"),
        (WRITE_PROTECTED, "DISK_READ_ONLY"),
    ],
)
def test_a_disk_that_cannot_be_formatted_is_reported(
    machine: Machine, said: str, code: str
) -> None:
    """It is not mounted. If mkfs names the disk as the cause, the reason says so."""
    attach(machine)
    machine.fake("mkfs.ext4", f"echo '{said}' >&2; exit 1")

    check_left_alone(machine, code)


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (4, "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.", "DISK_DAMAGED"),
        (5, "", "DISK_DAMAGED"),
        (12, "", "DISK_DAMAGED"),
        (8, BAD_SUPERBLOCK, "DISK_DAMAGED"),
        (8, SHORT_READ, "DISK_UNREADABLE"),
        (8, f"Error reading block 33 ({IO_ERROR}).", "DISK_UNREADABLE"),
        (4, f"Error reading block 33 ({IO_ERROR}).", "DISK_UNREADABLE"),
        (8, WRITE_PROTECTED, "DISK_READ_ONLY"),
        (8, "/dev/sdb is in use.", "DISK_NOT_CHECKED"),
        (16, "Usage: fsck.ext4", "DISK_NOT_CHECKED"),
        (32, "", "DISK_NOT_CHECKED"),
        (127, "fsck.ext4: command not found", "DISK_NOT_CHECKED"),
        (134, "Aborted", "DISK_NOT_CHECKED"),
    ],
)
def test_a_file_system_that_fails_its_check_is_not_mounted(
    machine: Machine, status: int, said: str, code: str
) -> None:
    """Damage, an unreadable disk and a check that could not run have different codes."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"echo '{said}'; exit {status}")

    check_left_alone(machine, code)


def test_a_file_system_larger_than_its_disk_is_damaged(machine: Machine) -> None:
    """Given a truncated copy of a disk, the real fsck finds damage."""
    attach_ext4(machine)
    os.truncate(machine.disk, DISK_BYTES // 2)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["DISK_DAMAGED"]
    assert machine.calls("mount", "-t") == machine.calls("resize2fs") == []


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_repaired_file_system_is_mounted(machine: Machine, status: int) -> None:
    """The fsck statuses 1 and 2 mean that errors were corrected, and 3 means both."""
    attach_ext4(machine)
    machine.fake("fsck.ext4", f"exit {status}")

    assert machine.run("disk.sh") == 0, machine.said()
    check_home_mounted(machine)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("mount: wrong fs type, bad option, bad superblock on /dev/sdb", "DISK_UNMOUNTABLE"),
        (f"mount: can't read superblock: {IO_ERROR}.", "DISK_UNREADABLE"),
        (
            "mount: /dev/sdb is write-protected but explicit read-write mode requested.",
            "DISK_READ_ONLY",
        ),
    ],
)
def test_a_disk_that_cannot_be_mounted_is_reported(machine: Machine, said: str, code: str) -> None:
    """Nothing is written to the mount point: it would be lost with the machine."""
    attach_ext4(machine, work="all of it")
    machine.fake("mount", f'case "$*" in *ext4*) echo "{said}" >&2; exit 32 ;; esac')

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    assert (
        machine.calls("install")
        == machine.calls("mount", "-t", "tmpfs")
        == machine.calls("resize2fs")
        == []
    )
    assert read(machine, "work") == "all of it"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("install: cannot create directory 'home': No space left on device", "DISK_FULL"),
        ("install: cannot change permissions of 'home': Read-only file system", "DISK_READ_ONLY"),
        (f"install: cannot stat 'home': {IO_ERROR}", "DISK_UNREADABLE"),
        ("install: cannot create directory 'home': File exists", "DISK_UNUSABLE"),
    ],
)
def test_a_home_folder_that_cannot_be_created_is_reported(
    machine: Machine, said: str, code: str
) -> None:
    """Given the disk is mounted but something else is in the folder's place, the boot fails."""
    attach_ext4(machine)
    machine.fake("install", f'echo "{said}" >&2; exit 1')

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == [code]
    assert machine.calls("mount", "-t", "tmpfs") == []


def size(machine: Machine) -> int:
    """Return the size of the home disk's file system in bytes."""
    command = [needed("dumpe2fs", "e2fsprogs"), "-h", str(machine.disk)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    of = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in said.splitlines())
    }
    return int(of["Block count"]) * int(of["Block size"])


def test_a_file_system_grows_with_its_disk(machine: Machine) -> None:
    """The real resize2fs grows it at the next boot, and its files stay."""
    attach_ext4(machine, work="all of it")
    os.truncate(machine.disk, 4 * DISK_BYTES)

    assert machine.run("disk.sh") == 0, machine.said()

    assert size(machine) == 4 * DISK_BYTES
    assert read(machine, "work") == "all of it"
    assert disk_calls(machine) == ["mount -t", "resize2fs"]


def disk_calls(machine: Machine) -> list[str]:
    """Return the calls that touched the home disk after its check, in order."""
    done = [
        call
        for call in machine.calls()
        if call[0] in {"resize2fs", "umount", "fsck.ext4"} or "ext4" in call
    ]
    return [" ".join(call[:2] if call[0] == "mount" else call[:-1]) for call in done][1:]


def test_a_file_system_that_does_not_grow_while_mounted_grows_unmounted(machine: Machine) -> None:
    """The real resize2fs requires a full check first. Then the disk is mounted again."""
    attach_ext4(machine, work="all of it")
    os.truncate(machine.disk, 4 * DISK_BYTES)
    real = needed("resize2fs", "e2fsprogs")
    machine.fake(
        "resize2fs",
        f'[ -e "${{FAKES}}/tried" ] && exec {real} "$@"; touch "${{FAKES}}/tried"; exit 1',
    )

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == [
        "mount -t",
        "resize2fs",
        "umount",
        "fsck.ext4 -f -p",
        "resize2fs",
        "mount -t",
    ]
    assert size(machine) == 4 * DISK_BYTES
    assert read(machine, "work") == "all of it"
    assert "<4>" not in machine.said()


@pytest.mark.parametrize(
    ("status", "tried"),
    [(1, ["umount", "fsck.ext4 -f -p", "resize2fs", "mount -t"]), (127, [])],
    ids=["refused", "no such tool"],
)
def test_a_file_system_that_cannot_grow_is_still_used(
    machine: Machine, status: int, tried: list[str]
) -> None:
    """The log has a warning, and the boot continues."""
    attach_ext4(machine)
    machine.fake("resize2fs", f"echo 'Permission denied to resize' >&2; exit {status}")

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == ["mount -t", "resize2fs", *tried]
    assert str(machine.mount) in (machine.fakes / "mounted").read_text()
    assert (
        "<4>The file system of the home does not grow with its disk: Permission denied"
        in machine.said()
    )
    assert machine.outside.reports == []


def test_a_file_system_that_did_not_grow_grows_at_the_next_boot(machine: Machine) -> None:
    """Though its disk has had that size for a while (as in cloudfoundry/bosh-agent #464)."""
    attach_ext4(machine, work="all of it")
    before = size(machine)
    os.truncate(machine.disk, 4 * DISK_BYTES)
    machine.fake("resize2fs", "exit 1")
    assert machine.run("disk.sh") == 0, machine.said()
    assert size(machine) == before

    machine.fake("resize2fs", f'exec {needed("resize2fs", "e2fsprogs")} "$@"')
    (machine.fakes / "mounted").write_text("")  # it boots again
    assert machine.run("disk.sh") == 0, machine.said()

    assert size(machine) == 4 * DISK_BYTES
    assert read(machine, "work") == "all of it"


def test_errors_of_the_full_check_do_not_prevent_the_mount(machine: Machine) -> None:
    """The file system was good enough to be mounted. It only does not grow."""
    attach_ext4(machine)
    machine.fake("resize2fs", "exit 1")
    machine.fake("fsck.ext4", '[ "$1" != -f ] || exit 4')

    assert machine.run("disk.sh") == 0, machine.said()

    assert disk_calls(machine) == ["mount -t", "resize2fs", "umount", "fsck.ext4 -f -p", "mount -t"]
    assert machine.outside.reports == []


SECRETS_OPTIONS = "size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev"

NO_NOSWAP = 'case "$*" in *noswap*) exit 32 ;; esac; echo "${@: -1}" >>"${FAKES}/mounted"'


def swapping(machine: Machine, swaps: int) -> None:
    """Have /proc/swaps list this many swap areas, under its heading."""
    machine.fake("wc", f'[ "$1" != --lines ] || exec echo {swaps + 1}; exec /usr/bin/wc "$@"')


@pytest.mark.parametrize("swaps", [0, 1])
def test_secrets_are_in_memory_and_never_in_swap(machine: Machine, swaps: int) -> None:
    """Given a kernel with noswap, secrets are safe even if the machine swaps."""
    attach_ext4(machine)
    swapping(machine, swaps)

    assert machine.run("disk.sh") == 0, machine.said()

    assert machine.calls("mount", "-t", "tmpfs") == [
        ["mount", "-t", "tmpfs", "-o", f"{SECRETS_OPTIONS},noswap", "tmpfs", str(machine.secrets)]
    ]


def test_an_older_kernel_without_swap_gets_secrets(machine: Machine) -> None:
    """It refuses the option noswap, but there is no swap."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 0)

    assert machine.run("disk.sh") == 0, machine.said()

    options = [mount[4] for mount in machine.calls("mount", "-t", "tmpfs")]
    assert options == [f"{SECRETS_OPTIONS},noswap", SECRETS_OPTIONS]


def test_an_older_kernel_that_swaps_gets_no_secrets(machine: Machine) -> None:
    """Its secrets would be written to the boot disk."""
    attach_ext4(machine)
    machine.fake("mount", NO_NOSWAP)
    swapping(machine, 1)

    assert machine.run("disk.sh") == 1

    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]
    assert len(machine.calls("mount", "-t", "tmpfs")) == 1


def test_without_a_folder_for_secrets_the_boot_fails(machine: Machine) -> None:
    """This holds for each reason why the folder cannot be created."""
    attach_ext4(machine)
    machine.fake("mount", 'case "$*" in *tmpfs*) exit 32 ;; esac')
    swapping(machine, 0)

    assert machine.run("disk.sh") == 1
    assert machine.outside.events() == ["SECRETS_NOT_SAFE"]
