#!/bin/bash
# Runs a person's shell, or the one command that they gave to ssh, in the container. Called by sshd through sudo.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

if [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" != true ]; then
  echo 'The container of this workspace is not running. Wait a moment, or see its status.' >&2
  exit 1
fi
options=(--interactive)
[ ! -t 0 ] || options+=(--tty --env "TERM=${TERM:-xterm}")
if [ -n "${1:-}" ]; then
  exec docker exec "${options[@]}" "${CONTAINER}" /bin/sh -c "$1"
fi
exec docker exec "${options[@]}" "${CONTAINER}" /bin/sh -c 'command -v bash >/dev/null && exec bash --login; exec sh -l'
