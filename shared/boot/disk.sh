#!/bin/bash
# Mounts the home disk, formatting it only when it is blank, and a memory-only folder for secrets. Safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

# Blank is what holds nothing but zeros where any file system, partition table or encryption begins. That a disk cannot be
# read, or that nobody knows what is on it, does not make it blank.
blank() {
  local found
  found=$(head --bytes=16M "${DISK}" | tr --delete '\0' | head --bytes=1 | wc --bytes) && [ "${found}" -eq 0 ]
}

mount_home() {
  local kind
  for _ in $(seq 60); do
    [ -e "${DISK}" ] && break
    sleep 1
  done
  [ -e "${DISK}" ] || fail DISK_MISSING 'The home disk is not attached to the machine. Start the workspace again.'
  kind=$(blkid --probe --match-tag TYPE --output value "${DISK}") || true
  if [ -z "${kind}" ] && blank; then
    mkfs.ext4 -q -m 0 -L workspace-home "${DISK}" ||
      fail DISK_NOT_FORMATTED 'The new home disk could not be formatted. Start the workspace again, or delete it.'
  elif [ "${kind}" != ext4 ]; then
    fail DISK_FOREIGN 'There is something on the home disk that is not a file system of ours. It has not been touched.'
  fi
  fsck.ext4 -p "${DISK}" || [ "$?" -le 2 ] || # 1 and 2: repaired
    fail DISK_DAMAGED 'The home disk needs a file system check by hand. It has not been mounted; snapshot it first.'
  mkdir -p "${MOUNT}"
  mount -t ext4 -o nosuid,nodev,discard "${DISK}" "${MOUNT}" ||
    fail DISK_UNMOUNTABLE 'The home disk does not mount. Snapshot it before trying to repair it by hand.'
}

# Kernels since 6.4 can keep a tmpfs out of swap; on an older one there must be no swap at all.
mount_secrets() {
  local options=size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev
  mkdir -p "${SECRETS}"
  mount -t tmpfs -o "${options},noswap" tmpfs "${SECRETS}" 2>/dev/null && return
  [ "$(wc --lines </proc/swaps)" -le 1 ] ||
    fail SECRETS_NOT_SAFE 'The machine swaps to disk, so there is no place for secrets. Take another boot image.'
  mount -t tmpfs -o "${options}" tmpfs "${SECRETS}" ||
    fail SECRETS_NOT_SAFE 'The memory-only folder for secrets could not be made. Start the workspace again.'
}

mountpoint -q "${MOUNT}" || mount_home
install -d -o 1000 -g 1000 -m 0750 "${MOUNT}/home"
mountpoint -q "${SECRETS}" || mount_secrets
