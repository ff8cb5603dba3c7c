#!/bin/bash
# Reports to the Hub: first that the workspace is ready, or why it cannot be. Then, while somebody
# uses it, a heartbeat every few minutes. And once, a failure when the container does not keep
# running.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${START_SECONDS:=360}"   # the time to pull the image and start the container
: "${STEADY_SECONDS:=10}"   # a container is ready after it has run this long and is healthy
: "${MOST_ENDS:=5}"         # a container that has ended this often...
: "${WINDOW_SECONDS:=600}"  # ...within this time does not keep running
: "${WATCH_SECONDS:=15}"    # between two later looks at it; less than between two heartbeats
: "${HEALTH_PATIENCE_SECONDS:=30}"

health_command=$(attribute hub-health-command)
health_seconds=$(attribute hub-health-seconds)
heartbeat_seconds=$(attribute hub-heartbeat-seconds)
keep_awake_seconds=$(attribute hub-keep-awake-seconds)
container_metadata=$(attribute hub-container-metadata)

running='' started='' health='' # the container's last observed state
symptom='' # why it is not healthy

# Observe whether the container runs, since when, and what its image's health check says, if any.
observe() {
  local form='{{.State.Running}} {{.State.StartedAt}}{{with .State.Health}} {{.Status}}{{end}}'
  read -r running started health < <(
    timeout 30 docker inspect --format "${form}" "${CONTAINER}" 2>/dev/null
  ) || running='' started='' health=''
}

is_healthy() {
  local status=0
  [ "${running}" = true ] || return 1
  case "${health}" in
    '' | healthy) ;;
    starting) symptom="its image's health check has not succeeded yet" && return 1 ;;
    *) symptom="its image's health check fails" && return 1 ;;
  esac
  [ -n "${health_command}" ] || return 0
  timeout --kill-after=5 "${HEALTH_PATIENCE_SECONDS}" \
    docker exec "${CONTAINER}" /bin/sh -c "${health_command}" >/dev/null 2>&1 || status=$?
  case "${status}" in
    0) return 0 ;;
    124 | 137)
      symptom="its health command did not end within ${HEALTH_PATIENCE_SECONDS} seconds" ;;
    126 | 127)
      symptom='its health command, or the shell for it, cannot be executed in the image' ;;
    *) symptom="its health command fails with status ${status}" ;;
  esac
  return 1
}

# Print how often the container has ended since a time (seconds since 1970), and the last reason.
ends_since() {
  local at rest count=0 why=''
  if [ -e "${STATE}/ends" ]; then
    while read -r at rest; do
      [ "${at}" -lt "$1" ] || count=$((count + 1)) why=${rest}
    done <"${STATE}/ends"
  fi
  echo "${count} ${why}"
}

# Print why the container does not run. If it has not ended since a time, the reason is what
# container.sh is doing.
why_not_running() {
  local count code why
  read -r count code why < <(ends_since "$1")
  if [ "${count}" -gt 0 ]; then
    echo "${code} ${why}"
  elif ! timeout 30 docker version >/dev/null 2>&1; then
    echo 'DOCKER_NOT_RUNNING Docker does not run on the machine.' \
      'If this persists, use another boot image.'
  elif [ -e "${STATE}/doing" ]; then
    cat "${STATE}/doing"
  else
    echo 'CONTAINER_NOT_RUNNING The container was not started in time.'
  fi
}

# Wait until the container has run and been healthy for a while. If it ends again and again, or does
# not run or is not healthy in time, report that and end.
await_steady() {
  local begun give_up seen='' steady='' steady_at=0 count code why
  begun=$(date +%s)
  give_up=$((SECONDS + START_SECONDS))
  while :; do
    observe
    read -r count code why < <(ends_since "$((begun - WINDOW_SECONDS))")
    [ "${count}" -lt "${MOST_ENDS}" ] || fail "${code}" "${why}"
    if [ "${running}" = true ] && [ -z "${seen}" ]; then
      seen=1 give_up=$((SECONDS + health_seconds + STEADY_SECONDS))
    fi
    if is_healthy; then
      [ "${started}" = "${steady}" ] || steady=${started} steady_at=${SECONDS}
      [ "$((SECONDS - steady_at))" -lt "${STEADY_SECONDS}" ] || return 0
    else
      steady=''
    fi
    [ "${SECONDS}" -lt "${give_up}" ] || break
    sleep 1
  done
  read -r count _ < <(ends_since "${begun}")
  if [ "${running}" != true ] || [ "${count}" -gt 1 ]; then
    read -r code why < <(why_not_running "${begun}")
    fail "${code}" "${why}"
  fi
  why=${symptom:-it does not stay healthy}
  fail CONTAINER_UNHEALTHY "The container runs, but ${why}. Use another image."
}

# Report once if the container keeps ending, or has not run for as long as it may take to start:
# watch_container SECONDS, the time since the last call. The clock is not used for this, because it
# jumps when the machine is resumed.
away_seconds=0
watch_container() {
  local now count code why
  now=$(date +%s)
  observe
  read -r count code why < <(ends_since "$((now - WINDOW_SECONDS))")
  if [ "${count}" -ge "${MOST_ENDS}" ]; then
    failed "${code}" "${why}"
  elif [ "${running}" = true ]; then
    away_seconds=0
    [ "${count}" -gt 0 ] || rm -f "${STATE}/failed" # it has kept running again
  elif [ "$((away_seconds += $1))" -ge "${START_SECONDS}" ]; then
    read -r code why < <(why_not_running "$((now - WINDOW_SECONDS))")
    failed "${code}" "${why}"
  fi
}

# Succeed if somebody is logged in by SSH, with or without a shell.
#
# The process of an authenticated connection has the title `sshd: NAME` or `sshd: NAME@TERMINAL`,
# from sshd 9.8 on `sshd-session: ...` (source: session.c, do_authenticated and session_proctitle).
# Before authentication the title is `NAME [net]`, `[accepted]` and the like. The process that
# monitors it has `NAME [priv]` as soon as a name was given. Processes in the container can take any
# title, but are in another PID namespace. sshd ends a connection with a dead peer itself: see
# ClientAliveInterval in ssh.sh.
is_logged_in() {
  local status=0
  pgrep --ns "$$" --nslist pid --full '^sshd(-session)?: [^][ ]+ *$' >/dev/null || status=$?
  [ "${status}" -lt 2 ] ||
    echo '<4>Cannot find out whether somebody is logged in: assuming that somebody is.' >&2
  [ "${status}" -ne 1 ]
}

# Succeed if somebody has touched ~/.keep-awake, so that long work is not suspended. It counts for a
# limited time after the last touch.
is_kept_awake() {
  local touched age
  touched=$(stat --format %Y "${MOUNT}/home/.keep-awake" 2>/dev/null) || return 1
  age=$(($(date +%s) - touched))
  [ "${age}" -gt -60 ] && [ "${age}" -lt "${keep_awake_seconds}" ]
}

# Print the machine's own SSH key as TYPE BASE64: the Ed25519 one if it has one, and nothing if no
# key is known. sshd itself says where its keys are: Container-Optimized OS has them in another
# folder than Debian.
host_key() {
  local keys kind name file type key
  keys=$(sshd -T -f "${SSHD_CONFIG}" 2>/dev/null) || return 0
  for kind in ssh-ed25519 ecdsa-sha2-nistp256 ssh-rsa; do
    while read -r name file; do
      [ "${name}" = hostkey ] || continue
      [ -r "${file}.pub" ] || continue
      read -r type key _ <"${file}.pub" || true
      if [ "${type}" = "${kind}" ] && [[ ${key} =~ ^[A-Za-z0-9+/]{1,1000}=*$ ]]; then
        echo "${type} ${key}"
        return 0
      fi
    done <<<"${keys}"
  done
}

# Report that the workspace is in use, and why. It is retried until the next heartbeat is due.
heartbeat() {
  local because=session
  if [ -z "${seen}" ]; then
    is_kept_awake || return 0
    because=keep_awake
  fi
  PATIENCE_SECONDS=${heartbeat_seconds} report heartbeat "${because}" || true
}

await_steady
rm -f "${STATE}/failed"
result=0
report ready "$(host_key)" || result=$?
case "${result}" in
  1) exit 0 ;; # the Hub expects nothing of this boot: another one counts, or the workspace is gone
  2) exit 1 ;; # systemd starts this script again
esac

[ "${WATCH_SECONDS}" -lt "${heartbeat_seconds}" ] || WATCH_SECONDS=$(((heartbeat_seconds + 1) / 2))
since=0 seen=''
while :; do
  pause=$((heartbeat_seconds - since < WATCH_SECONDS ? heartbeat_seconds - since : WATCH_SECONDS))
  sleep "${pause}"
  watch_container "${pause}"
  guard_metadata "${container_metadata}" ||
    echo '<3>The metadata server is not closed to the container any more.' >&2
  ! is_logged_in || seen=1
  since=$((since + pause))
  [ "${since}" -ge "${heartbeat_seconds}" ] || continue
  # Something may have rewritten sshd's configuration.
  /bin/bash "${BASH_SOURCE[0]%/*}/ssh.sh" || true
  heartbeat
  since=0 seen=''
done
