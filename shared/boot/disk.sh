#!/bin/bash
# Mounts the home disk, formatting it only when it is blank, and a memory-only folder for secrets. Safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

# Blank is what holds nothing but zeros where any file system, partition table or encryption begins. That nobody knows what
# is on a disk does not make it blank.
blank() {
  local found
  found=$(head --bytes=16M "${DISK}" | tr --delete '\0' | head --bytes=1 | wc --bytes) && [ "${found}" -eq 0 ]
}

# Take what a tool said of the disk: some causes are the disk's own, whichever tool met them.
blame_disk() {
  echo "$1" >&2
  case "${1,,}" in
    *'input/output error'* | *'short read'* | *'short write'*)
      fail DISK_UNREADABLE 'The home disk cannot be read or written: input/output error. Nothing has been formatted.' ;;
    *'read-only'* | *'write-protected'*)
      fail DISK_READ_ONLY 'The home disk is attached read-only. Attach it for writing.' ;;
    *'no space left'*)
      fail DISK_FULL 'The home disk is full, so that the home cannot be made on it. Make the disk larger.' ;;
  esac
}

# The exit status of fsck is a sum: 1 and 2 say that errors were corrected, 4 that some are left, 8 and more that it could
# not work, which a broken superblock is a reason for, too (source: its manual page).
check() {
  local said status=0
  said=$(fsck.ext4 -p "${DISK}" 2>&1) || status=$?
  if [ "$((status & ~3))" -eq 0 ]; then
    echo "${said}"
    return
  fi
  blame_disk "${said}"
  if [ "${status}" -lt 16 ] && [ "$((status & 4))" -ne 0 ] || [[ ${said,,} == *super*block* ]]; then
    fail DISK_DAMAGED 'The home disk needs a file system check by hand. It has not been mounted; snapshot it first.'
  fi
  fail DISK_NOT_CHECKED "The check of the home disk could not run: it ended with status ${status}. It has not been mounted."
}

# `rw`, for otherwise a disk that cannot be written to is mounted all the same.
mount_disk() {
  local said
  said=$(mkdir -p "${MOUNT}" && mount -t ext4 -o rw,nosuid,nodev,discard "${DISK}" "${MOUNT}" 2>&1) || {
    blame_disk "${said}"
    fail DISK_UNMOUNTABLE 'The home disk does not mount. Snapshot it before trying to repair it by hand.'
  }
}

# Let the file system take all of its disk, which may have been made larger; where it does already, nothing happens. While
# it is mounted, since the kernel does that by way of the journal. Where the kernel refuses, unmounted, which needs a whole
# check first. That it does not grow is no reason to keep somebody from their home.
grow() {
  local said status=0
  said=$(resize2fs "${DISK}" 2>&1) || status=$?
  if [ "${status}" -ne 0 ] && [ "${status}" -lt 126 ] && umount "${MOUNT}"; then
    echo "${said}" >&2
    status=0
    fsck.ext4 -f -p "${DISK}" || status=$?
    [ "$((status & ~3))" -ne 0 ] || status=0
    [ "${status}" -ne 0 ] || said=$(resize2fs "${DISK}" 2>&1) || status=$?
    mount_disk
  fi
  if [ "${status}" -eq 0 ]; then
    echo "${said}"
  else
    echo "<4>The file system of the home does not grow with its disk: ${said}" >&2
  fi
}

mount_home() {
  local kind said
  for _ in $(seq 60); do
    [ -e "${DISK}" ] && break
    sleep 1
  done
  [ -e "${DISK}" ] || fail DISK_MISSING 'The home disk is not attached to the machine.'
  kind=$(blkid --probe --match-tag TYPE --output value "${DISK}") || true
  if [ -z "${kind}" ]; then
    said=$(head --bytes=16M "${DISK}" 2>&1 >/dev/null) || blame_disk "${said}: input/output error"
    blank || kind=unknown
  fi
  if [ -z "${kind}" ]; then
    said=$(mkfs.ext4 -q -m 0 -L workspace-home "${DISK}" 2>&1) || {
      blame_disk "${said}"
      fail DISK_NOT_FORMATTED 'The new home disk could not be formatted.'
    }
  elif [ "${kind}" != ext4 ]; then
    fail DISK_FOREIGN 'There is something on the home disk that is not a file system of ours. It has not been touched.'
  fi
  check
  mount_disk
  grow
}

make_home() {
  local said
  said=$(install -d -o 1000 -g 1000 -m 0750 "${MOUNT}/home" 2>&1) || {
    blame_disk "${said}"
    fail DISK_UNUSABLE 'The folder of the home cannot be made on the home disk, for something else is in its place.'
  }
}

# Kernels since 6.4 can keep a tmpfs out of swap; on an older one there must be no swap at all.
mount_secrets() {
  local options=size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev
  mkdir -p "${SECRETS}" || fail SECRETS_NOT_SAFE 'The folder for secrets could not be made.'
  mount -t tmpfs -o "${options},noswap" tmpfs "${SECRETS}" 2>/dev/null && return
  [ "$(wc --lines </proc/swaps)" -le 1 ] ||
    fail SECRETS_NOT_SAFE 'The machine swaps to disk, so there is no place for secrets. Take another boot image.'
  mount -t tmpfs -o "${options}" tmpfs "${SECRETS}" ||
    fail SECRETS_NOT_SAFE 'The memory-only folder for secrets could not be mounted.'
}

# A kernel that panics boots again ten seconds later. Container-Optimized OS has it panic when a task hangs (hung_task_panic=1);
# by Linux's own default it would then stand still, and look to Compute Engine like a machine that runs.
echo 10 2>/dev/null >"${KERNEL_PANIC}" || echo '<4>A kernel that panics will not boot again by itself.' >&2

mountpoint -q "${MOUNT}" || mount_home
make_home
mountpoint -q "${SECRETS}" || mount_secrets
