#!/bin/bash
# Runs a person's shell, or the one command that they gave to ssh, in the container. Called by sshd through sudo.
#
# Docker lets a command in a container run on when whoever asked for it is gone (moby issue 9098), and sshd tells nobody but a
# terminal that a connection has ended. So both are seen to here: when a connection ends, so does what was asked for by it.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${HANG_UP_SECONDS:=10}" # for what was asked for to end by itself
SESSION="${EPOCHREALTIME}-$$"
# The first process of a session in the container: the only one that begins with this variable in its environment.
# shellcheck disable=SC2016 # these are read by the container's shell
RUN_SESSION='unset WORKSPACE_SESSION; /bin/sh -c "$@"; exit "$?"'
RUN_LOGIN='command -v bash >/dev/null && exec bash --login; exec sh -l'
# Container-Optimized OS's sshd_config has `Subsystem sftp internal-sftp`, and the forced command gets that as what was asked
# for (source: sshd's session.c, do_exec). sftp and scp can name a server by its path, too.
SFTP='^(internal-sftp|/[^[:space:]]*/sftp-server)([[:space:]]+[-A-Za-z0-9_.,/]+)*[[:space:]]*$'
# Where OpenSSH's is: Debian and Ubuntu; Fedora; Alpine, Arch and SUSE; Gentoo; made from its source; in PATH, as with Nix.
# It wants a name for its user (source: sftp-server-main.c), and so does scp.
# shellcheck disable=SC2016
FIND_SFTP='
! command -v id >/dev/null || id -un >/dev/null 2>&1 || exit 4
for each in "$0" /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
  /usr/lib64/misc/sftp-server /usr/libexec/sftp-server sftp-server; do
  command -v "${each}" && exit
done
exit 3'
NO_SFTP='The image of this workspace has no sftp-server, which sftp and scp need. Add it to the image (in Debian, the package '
NO_SFTP+='openssh-sftp-server), or use what it has: scp -O, rsync, tar.'
NO_NAME='The image of this workspace has no name for user 1000 in /etc/passwd, which sftp and scp need. Add one to the image.'
COPIES='^(scp|rsync)[[:space:]]'

# Print the process of sshd that serves this connection: it ends with it.
connection() {
  local pid=$$ parent name key value
  while [ "${pid}" -gt 1 ]; do
    parent=0 name=
    while read -r key value; do
      case "${key}" in
        Name:) name=${value} ;;
        PPid:) parent=${value} && break ;;
      esac
    done <"/proc/${pid}/status"
    [[ ${name} != sshd* ]] || break
    pid=${parent}
  done
  [ "${pid}" -gt 1 ] || pid=${PPID}
  echo "${pid}"
}

# Wait until a process has ended, and tell this script by the signal that a terminal gives.
watch_over() {
  tail --pid="$1" --follow /dev/null &
  trap 'kill "$!"; exit' TERM
  wait "$!"
  kill -HUP "$$"
}

# Print the first process of this session in the container, by its number on the machine, if it runs.
first_process() {
  local found
  read -r found < <(grep --files-with-matches --no-messages --null-data --line-regexp --fixed-strings \
    "WORKSPACE_SESSION=${SESSION}" /proc/[0-9]*/environ) || return
  found=${found#/proc/}
  echo "${found%/environ}"
}

# Print which processes of a session run and would end when it hangs up; nohup has them ignore that.
would_end() {
  local pid key value
  for pid in $(pgrep --session "$1"); do
    while read -r key value; do
      [ "${key}" != SigIgn: ] || [ "$((0x${value} & 1))" -ne 0 ] || echo "${pid}"
    done 2>/dev/null <"/proc/${pid}/status" || true
  done
}

signal() {
  local pids
  read -d '' -ra pids <<<"$(would_end "$2")" || true
  [ "${#pids[@]}" -eq 0 ] || kill "-$1" "${pids[@]}" 2>/dev/null || true
}

# End what runs in this session, as a terminal that hangs up does, and by force what does not end by that. What has left the
# session (tmux, setsid) or ignores that it ends (nohup) goes on.
hang_up() {
  local first='' give_up=$((SECONDS + HANG_UP_SECONDS))
  until first=$(first_process); do
    [ -n "${lost}" ] && [ "${SECONDS}" -lt "${give_up}" ] || return 0 # Docker may be about to start it
    sleep 1
  done
  signal HUP "${first}"
  signal CONT "${first}"
  while [ -n "$(would_end "${first}")" ] && [ "${SECONDS}" -lt "${give_up}" ]; do
    sleep 1
  done
  signal KILL "${first}"
}

# Let the container have the agent of this connection, which sshd has made a socket for.
share_agent() {
  local kind
  kind=$(stat --format '%F of %u' "${SSH_AUTH_SOCK:-}" 2>/dev/null) || return 0
  [ "${kind}" = "socket of ${SUDO_UID:-}" ] || [ "${kind}" = 'socket of 1000' ] || return 0
  agent="${AGENTS}/${SESSION}"
  trap 'umount --lazy "${agent}" || true; rm -f "${agent}"' EXIT
  if : >"${agent}" && mount --bind "${SSH_AUTH_SOCK}" "${agent}" && chown 1000:1000 "${agent}"; then
    options+=(--env "SSH_AUTH_SOCK=/run/ssh-agents/${SESSION}")
  else
    echo 'Your agent is not forwarded: the machine cannot share it with the container.' >&2
  fi
}

# Refuse sftp in its own words, to each request with the reason: of a subsystem's standard error sshd passes nothing on
# (source: session.c, do_exec_no_pty). A packet is its length, its type and, but for the first, a number (source: the draft
# draft-ietf-secsh-filexfer-02, sections 3 and 7). sftp and scp -r show the reason, scp of one file only that it is unsupported.
refuse_sftp() {
  local length kind number bytes
  while read -ra bytes < <(head --bytes=5 | od --address-radix=n --format=u1) && [ "${#bytes[@]}" -eq 5 ]; do
    length=$((bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3])) kind=${bytes[4]}
    if [ "${kind}" -eq 1 ]; then # INIT: VERSION 3
      head --bytes="$((length - 1))" >/dev/null
      printf '\0\0\0\5\2\0\0\0\3'
    else # STATUS: operation unsupported
      number=$(head --bytes=4 | od --address-radix=n --format=x1)
      head --bytes="$((length - 5))" >/dev/null
      printf '\0\0\0%b\145%b\0\0\0\10\0\0\0%b%s\0\0\0\0' "\\x$(printf %x "$((17 + ${#1}))")" "${number// /\\x}" \
        "\\x$(printf %x "${#1}")" "$1"
    fi
  done
}

if [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" != true ]; then
  echo 'The container of this workspace is not running. Wait a moment, or see its status.' >&2
  exit 1
fi

asked=${1:-}
if [ -z "${asked}" ]; then
  run=("${RUN_LOGIN}")
elif [[ ${asked} =~ ${SFTP} ]]; then
  read -ra words <<<"${asked}"
  status=0
  server=$(docker exec "${CONTAINER}" /bin/sh -c "${FIND_SFTP}" "${words[0]}" </dev/null) || status=$?
  case "${status}" in
    0) ;;
    3) refuse_sftp "${NO_SFTP}" && exit 127 ;;
    4) refuse_sftp "${NO_NAME}" && exit 127 ;;
    *) exit "${status}" ;;
  esac
  # shellcheck disable=SC2016
  run=('exec "$0" "$@"' "${server}" "${words[@]:1}")
elif [[ ${asked} =~ ${COPIES} ]]; then
  tool=${BASH_REMATCH[1]}
  absent="The image of this workspace has no ${tool}. Add it to the image, or use another tool that copies."
  run=("command -v ${tool} >/dev/null || { echo '${absent}' >&2; exit 127; }; ${asked}")
else
  run=("${asked}")
fi

options=(--interactive --env "WORKSPACE_SESSION=${SESSION}")
[ ! -t 0 ] || options+=(--tty --env "TERM=${TERM:-xterm}")
for name in LANG LANGUAGE COLORTERM "${!LC_@}"; do
  [ -z "${!name:-}" ] || options+=(--env "${name}=${!name}")
done
share_agent

lost='' status=0
trap 'lost=1' HUP INT TERM
docker exec "${options[@]}" "${CONTAINER}" /bin/sh -c "${RUN_SESSION}" sh "${run[@]}" <&0 &
client=$!
watch_over "$(connection)" </dev/null >/dev/null 2>&1 &
watcher=$!
wait "${client}" || status=$?
trap '' HUP INT TERM
kill "${watcher}" 2>/dev/null || true
[ -z "${lost}" ] || kill "${client}" 2>/dev/null || true
hang_up
exit "${status}"
