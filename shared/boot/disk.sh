#!/bin/bash
# Mounts the home disk, formatting it only when it is blank, and a memory-only folder for secrets. Safe to run again.
set -euo pipefail
. /etc/workspace-hub/settings.sh

for _ in $(seq 60); do
  [ -b "${DISK}" ] && break
  sleep 1
done
if [ ! -b "${DISK}" ]; then
  report failed DISK_MISSING 'The home disk is not attached.'
  exit 1
fi

# blkid ends with 2 only when it finds nothing at all on the disk; anything else is not ours to format.
status=0
blkid --probe "${DISK}" >/dev/null 2>&1 || status=$?
if [ "${status}" -eq 2 ]; then
  mkfs.ext4 -q -m 0 -L workspace-home "${DISK}"
fi

mkdir -p "${MOUNT}"
if ! mountpoint -q "${MOUNT}"; then
  fsck.ext4 -p "${DISK}" || [ "$?" -le 1 ] || true
  if ! mount -o nosuid,nodev,discard "${DISK}" "${MOUNT}"; then
    report failed DISK_UNMOUNTABLE 'The home disk does not mount. It has not been touched.'
    exit 1
  fi
fi
install -d -o 1000 -g 1000 -m 0750 "${MOUNT}/home"

mkdir -p "${SECRETS}"
if ! mountpoint -q "${SECRETS}"; then
  mount -t tmpfs -o size=16m,mode=0700,uid=1000,gid=1000,noexec,nosuid,nodev tmpfs "${SECRETS}"
fi
