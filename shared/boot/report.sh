#!/bin/bash
# Tells the Hub that the container runs; then, every few minutes while somebody is connected, that they are.
set -euo pipefail
. /etc/workspace-hub/settings.sh

running() {
  [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" = true ]
}

for _ in $(seq 600); do
  running && break
  sleep 1
done
running || { report failed CONTAINER_NOT_RUNNING 'The container did not start.'; exit 1; }
report ready

while sleep 120; do
  if [ -n "$(ss --no-header --tcp state established '( sport = :22 )')" ]; then
    report heartbeat || true
  fi
done
