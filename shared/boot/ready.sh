#!/bin/bash
# Tells the Hub that the workspace can be used, or why it cannot; then, every few minutes while somebody uses it, that they
# do, and once when its container does not stay.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${START_SECONDS:=360}"   # for the image to be pulled and the container to run
: "${STEADY_SECONDS:=10}"   # a container that has stayed up so long, and healthy, is ready
: "${MOST_ENDS:=5}"         # a container that has ended so often...
: "${WINDOW_SECONDS:=600}"  # ...within this time will not stay
: "${WATCH_SECONDS:=15}"    # how often it is looked at later; more often than heartbeats are due
: "${HEALTH_PATIENCE_SECONDS:=30}"

health_command=$(attribute hub-health-command)
health_seconds=$(attribute hub-health-seconds)
heartbeat_seconds=$(attribute hub-heartbeat-seconds)
keep_awake_seconds=$(attribute hub-keep-awake-seconds)
container_metadata=$(attribute hub-container-metadata)

running='' started='' health='' # the container as it was seen last
unwell=''                       # why it is not healthy

# See whether the container runs, since when, and what its image's own health check says, if it has one.
look() {
  local form='{{.State.Running}} {{.State.StartedAt}}{{with .State.Health}} {{.Status}}{{end}}'
  read -r running started health < <(timeout 30 docker inspect --format "${form}" "${CONTAINER}" 2>/dev/null) ||
    running='' started='' health=''
}

healthy() {
  local status=0
  [ "${running}" = true ] || return 1
  case "${health}" in
    '' | healthy) ;;
    starting) unwell='the health check of its image has not succeeded yet' && return 1 ;;
    *) unwell='the health check of its image fails' && return 1 ;;
  esac
  [ -n "${health_command}" ] || return 0
  timeout --kill-after=5 "${HEALTH_PATIENCE_SECONDS}" \
    docker exec "${CONTAINER}" /bin/sh -c "${health_command}" >/dev/null 2>&1 || status=$?
  case "${status}" in
    0) return 0 ;;
    124 | 137) unwell="its health command did not end within ${HEALTH_PATIENCE_SECONDS} seconds" ;;
    126 | 127) unwell='its health command, or the shell for it, cannot be executed in the image' ;;
    *) unwell="its health command fails with status ${status}" ;;
  esac
  return 1
}

# Print how often the container has ended since then (in seconds since 1970), and why it did so last.
ends_since() {
  local at rest count=0 why=''
  if [ -e "${STATE}/ends" ]; then
    while read -r at rest; do
      [ "${at}" -lt "$1" ] || count=$((count + 1)) why=${rest}
    done <"${STATE}/ends"
  fi
  echo "${count} ${why}"
}

# Say why the container does not run; what it is doing is the reason where it has not even ended.
why_not_running() {
  local count code why
  read -r count code why < <(ends_since "$1")
  if [ "${count}" -gt 0 ]; then
    echo "${code} ${why}"
  elif ! timeout 30 docker version >/dev/null 2>&1; then
    echo 'DOCKER_NOT_RUNNING Docker does not run on the machine. If it stays so, the boot image is not one that the Hub can use.'
  elif [ -e "${STATE}/doing" ]; then
    cat "${STATE}/doing"
  else
    echo 'CONTAINER_NOT_RUNNING The container was not started in time.'
  fi
}

# Wait until the container has stayed up, and healthy, for a while. One that ends again and again, or is not there or not
# healthy in time, is reported, and that is the end.
await_steady() {
  local begun give_up seen='' steady='' steady_at=0 count code why
  begun=$(date +%s)
  give_up=$((SECONDS + START_SECONDS))
  while :; do
    look
    read -r count code why < <(ends_since "$((begun - WINDOW_SECONDS))")
    [ "${count}" -lt "${MOST_ENDS}" ] || fail "${code}" "${why}"
    if [ "${running}" = true ] && [ -z "${seen}" ]; then
      seen=1 give_up=$((SECONDS + health_seconds + STEADY_SECONDS))
    fi
    if healthy; then
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
  fail CONTAINER_UNHEALTHY "The container runs, but ${unwell:-it does not stay healthy}. Take another image."
}

# Report once, if the container keeps ending or has been away for as long as it may take to start. What is counted is the
# watch's own time, for the clock jumps over a suspend.
away_seconds=0
watch_container() {
  local now count code why
  now=$(date +%s)
  look
  read -r count code why < <(ends_since "$((now - WINDOW_SECONDS))")
  if [ "${count}" -ge "${MOST_ENDS}" ]; then
    failed "${code}" "${why}"
  elif [ "${running}" = true ]; then
    away_seconds=0
    [ "${count}" -gt 0 ] || rm -f "${STATE}/failed" # it has been steady again
  elif [ "$((away_seconds += $1))" -ge "${START_SECONDS}" ]; then
    read -r code why < <(why_not_running "$((now - WINDOW_SECONDS))")
    failed "${code}" "${why}"
  fi
}

# Somebody is logged in by SSH, with a shell or without. sshd gives the process that serves an authenticated connection the
# title `sshd: NAME` or `sshd: NAME@TERMINAL`, from 9.8 on `sshd-session: ...` (source: session.c, do_authenticated and
# session_proctitle). Before that it is `NAME [net]`, `[accepted]` and the like, and the process that watches over it has
# `NAME [priv]` from the moment that a name was given. A process in the container, which may call itself what it likes, is in
# another PID namespace. A connection whose peer is dead is ended by sshd itself: see ClientAliveInterval in ssh.sh.
logged_in() {
  local status=0
  pgrep --ns "$$" --nslist pid --full '^sshd(-session)?: [^][ ]+ *$' >/dev/null || status=$?
  [ "${status}" -lt 2 ] || echo '<4>It cannot be seen whether somebody is logged in: they are taken to be.' >&2
  [ "${status}" -ne 1 ]
}

# Somebody has asked for long work to be left alone, by touching ~/.keep-awake: for so long at most since they last did.
kept_awake() {
  local touched age
  touched=$(stat --format %Y "${MOUNT}/home/.keep-awake" 2>/dev/null) || return 1
  age=$(($(date +%s) - touched))
  [ "${age}" -gt -60 ] && [ "${age}" -lt "${keep_awake_seconds}" ]
}

# Report that the workspace is used, and why. After the next one is due this one would be old news.
heartbeat() {
  local because=session
  if [ -z "${seen}" ]; then
    kept_awake || return 0
    because=keep_awake
  fi
  PATIENCE_SECONDS=${heartbeat_seconds} report heartbeat "${because}" || true
}

await_steady
rm -f "${STATE}/failed"
result=0
report ready || result=$?
case "${result}" in
  1) exit 0 ;; # this boot is over: another one counts, or the workspace is gone
  2) exit 1 ;; # systemd has it tried again
esac

[ "${WATCH_SECONDS}" -lt "${heartbeat_seconds}" ] || WATCH_SECONDS=$(((heartbeat_seconds + 1) / 2))
since=0 seen=''
while :; do
  pause=$((heartbeat_seconds - since < WATCH_SECONDS ? heartbeat_seconds - since : WATCH_SECONDS))
  sleep "${pause}"
  watch_container "${pause}"
  guard_metadata "${container_metadata}" || echo '<3>The container is not kept from the metadata server any more.' >&2
  ! logged_in || seen=1
  since=$((since + pause))
  [ "${since}" -ge "${heartbeat_seconds}" ] || continue
  /bin/bash "${BASH_SOURCE[0]%/*}/ssh.sh" || true # should anything have rewritten sshd's configuration
  heartbeat
  since=0 seen=''
done
