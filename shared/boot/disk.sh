#!/bin/bash
# Mounts the home disk and a memory-only folder for secrets. Formats the disk only if it is blank.
# It is safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

# Succeed if the disk is blank: it has only zeros where a file system, a partition table or
# encryption begins. A disk with unknown contents is not blank.
is_blank() {
  local found
  found=$(head --bytes=16M "${DISK}" | tr --delete '\0' | head --bytes=1 | wc --bytes) &&
    [ "${found}" -eq 0 ]
}

# Fail if a tool's text says that the disk itself is the cause: blame_disk TEXT.
blame_disk() {
  echo "$1" >&2
  case "${1,,}" in
    *'input/output error'* | *'short read'* | *'short write'*)
      fail DISK_UNREADABLE \
        'The home disk cannot be read or written: input/output error. It has not been formatted.' ;;
    *'read-only'* | *'write-protected'*)
      fail DISK_READ_ONLY 'The home disk is attached read-only. Attach it for writing.' ;;
    *'no space left'*)
      fail DISK_FULL 'The home disk is full: the home cannot be created. Make the disk larger.' ;;
  esac
}

# Check the file system. The exit status of fsck is a sum (source: its manual page). 1 and 2 mean
# that errors were corrected, 4 that some are left, 8 and more that it could not work. A broken
# superblock is one reason for that.
check_disk() {
  local said status=0
  said=$(fsck.ext4 -p "${DISK}" 2>&1) || status=$?
  if [ "$((status & ~3))" -eq 0 ]; then
    echo "${said}"
    return
  fi
  blame_disk "${said}"
  if [ "${status}" -lt 16 ] && [ "$((status & 4))" -ne 0 ] || [[ ${said,,} == *super*block* ]]; then
    fail DISK_DAMAGED \
      'The home disk needs a file system check by hand. It has not been mounted; snapshot it first.'
  fi
  fail DISK_NOT_CHECKED \
    "The check of the home disk could not run (status ${status}). It has not been mounted."
}

# Mount the disk. Without `rw` a disk that cannot be written would be mounted read-only.
mount_disk() {
  local said
  said=$(mkdir -p "${MOUNT}" &&
    mount -t ext4 -o rw,nosuid,nodev,discard "${DISK}" "${MOUNT}" 2>&1) || {
    blame_disk "${said}"
    fail DISK_UNMOUNTABLE \
      'The home disk cannot be mounted. Snapshot it before you repair it by hand.'
  }
}

# Grow the file system to the size of its disk, which may have been made larger. If it has that size
# already, nothing happens. This is done while it is mounted, because then the kernel uses the
# journal. If the kernel refuses, it is done unmounted, after the full check that this needs. If the
# file system cannot grow, the home is used as it is.
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
    is_blank || kind=unknown
  fi
  if [ -z "${kind}" ]; then
    said=$(mkfs.ext4 -q -m 0 -L workspace-home "${DISK}" 2>&1) || {
      blame_disk "${said}"
      fail DISK_NOT_FORMATTED 'The new home disk could not be formatted.'
    }
  elif [ "${kind}" != ext4 ]; then
    fail DISK_FOREIGN \
      "The home disk has something other than the Hub's file system on it. It has not been changed."
  fi
  check_disk
  mount_disk
  grow
}

make_home() {
  local said
  said=$(install -d -o 1000 -g 1000 -m 0750 "${MOUNT}/home" 2>&1) || {
    blame_disk "${said}"
    fail DISK_UNUSABLE \
      "The home's folder cannot be created on the home disk: something else is in its place."
  }
}

# Note on the disk, outside the home, which workspace it is of. A disk that was made from a snapshot
# has the note of another workspace. If it has a ~/.keep-awake, that was touched there: it is
# removed, because it would keep this machine running although nobody asked for that. If something
# fails here, the home is used as it is.
claim_home() {
  local id of
  id=$(attribute hub-workspace-id) || return 0
  of=$(cat "${MOUNT}/workspace-id" 2>/dev/null) || true
  [ -n "${id}" ] && [ "${of}" != "${id}" ] || return 0
  [ -z "${of}" ] || rm -f "${MOUNT}/home/.keep-awake" || true
  echo "${id}" >"${MOUNT}/workspace-id" ||
    echo '<4>The home disk cannot be given a note of its workspace.' >&2
}

# Mount the folder for secrets. A kernel can keep a tmpfs out of swap since version 6.4. With an
# older kernel the machine must have no swap at all.
mount_secrets() {
  local options=size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev
  mkdir -p "${SECRETS}" || fail SECRETS_NOT_SAFE 'The folder for secrets could not be created.'
  mount -t tmpfs -o "${options},noswap" tmpfs "${SECRETS}" 2>/dev/null && return
  [ "$(wc --lines </proc/swaps)" -le 1 ] ||
    fail SECRETS_NOT_SAFE \
      'The machine swaps to disk, so secrets would not be safe. Use another boot image.'
  mount -t tmpfs -o "${options}" tmpfs "${SECRETS}" ||
    fail SECRETS_NOT_SAFE 'The memory-only folder for secrets could not be mounted.'
}

# Let the kernel boot again ten seconds after a panic. Container-Optimized OS makes the kernel panic
# when a task hangs (hung_task_panic=1). By Linux's default the kernel would then stop, and Compute
# Engine would still see a machine that runs.
echo 10 2>/dev/null >"${KERNEL_PANIC}" ||
  echo '<4>After a panic the kernel will not boot again by itself.' >&2

mountpoint -q "${MOUNT}" || mount_home
make_home
claim_home
mountpoint -q "${SECRETS}" || mount_secrets
