#!/bin/bash
# Tells the Hub that the workspace can be used; then, every few minutes while somebody uses it, that they do.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${START_SECONDS:=360}" # for the image to be pulled and the container to run
: "${MOST_STARTS:=5}"     # a container that has ended so often will not stay

health_command=$(attribute hub-health-command)
health_seconds=$(attribute hub-health-seconds)
heartbeat_seconds=$(attribute hub-heartbeat-seconds)
keep_awake_seconds=$(attribute hub-keep-awake-seconds)

# Print "true" when the container runs, and what its image's own health check says, if it has one.
state() {
  docker inspect --format '{{.State.Running}}{{with .State.Health}} {{.Status}}{{end}}' "${CONTAINER}" 2>/dev/null
}

running() {
  [[ $(state) == true* ]]
}

healthy() {
  case "$(state)" in
    true | 'true healthy') ;;
    *) return 1 ;;
  esac
  [ -z "${health_command}" ] || timeout 30 docker exec "${CONTAINER}" /bin/sh -c "${health_command}" >/dev/null 2>&1
}

starts() {
  systemctl show --property NRestarts --value workspace-container.service
}

await_container() {
  local give_up=$((SECONDS + START_SECONDS))
  until running; do
    [ "$(starts)" -lt "${MOST_STARTS}" ] || ends
    [ "${SECONDS}" -lt "${give_up}" ] ||
      fail CONTAINER_NOT_RUNNING 'The container did not start in time. Start the workspace again, or take a smaller image.'
    sleep 1
  done
}

await_health() {
  local give_up=$((SECONDS + health_seconds))
  until healthy; do
    [ "$(starts)" -lt "${MOST_STARTS}" ] || ends
    [ "${SECONDS}" -lt "${give_up}" ] ||
      fail CONTAINER_UNHEALTHY 'The container runs, but its health command does not succeed. Start it with another image.'
    sleep 1
  done
}

# Say why a container does not stay, as far as its last end tells.
ends() {
  [ "$(cat "${STATE}/container-ended" 2>/dev/null)" != 125 ] ||
    fail CONTAINER_REFUSED 'Docker cannot run the container: see the log of the machine. Start the workspace with another image.'
  fail CONTAINER_ENDS 'The container ends as soon as it starts. Start the workspace with an image that keeps running.'
}

# Somebody has asked for long work to be left alone, by touching ~/.keep-awake: for so long at most since they last did.
kept_awake() {
  local touched age
  touched=$(stat --format %Y "${MOUNT}/home/.keep-awake" 2>/dev/null) || return 1
  age=$(($(date +%s) - touched))
  [ "${age}" -gt -60 ] && [ "${age}" -lt "${keep_awake_seconds}" ]
}

in_use() {
  [ -n "$(ss --no-header --tcp state established '( sport = :22 )')" ] ||
    pgrep --euid 0 --full '^docker (exec --interactive --tty|attach) ' >/dev/null ||
    kept_awake
}

await_container
await_health
# Refused means that this boot is over: another generation counts, or the workspace is gone.
report ready || exit 0
while sleep "${heartbeat_seconds}"; do
  /bin/bash "${BASH_SOURCE[0]%/*}/ssh.sh" || true # should anything have rewritten sshd's configuration
  if in_use; then
    report heartbeat || true
  fi
done
