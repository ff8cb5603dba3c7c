#!/bin/bash
# Runs a person's shell, or the one command that they gave to ssh, in the container. sshd calls it
# through sudo.
#
# In a container, Docker lets a command run on after its caller is gone (moby issue 9098), and sshd
# tells only a terminal that the connection has ended. This script makes up for both: when a
# connection ends, its command ends.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${HANG_UP_SECONDS:=10}" # in which the command may end by itself
SESSION="${EPOCHREALTIME}-$$"
# Only the first process of a session in the container starts with this variable in its environment.
# shellcheck disable=SC2016 # the container's shell expands these
RUN_SESSION='unset WORKSPACE_SESSION; /bin/sh -c "$@"; exit "$?"'
RUN_LOGIN='command -v bash >/dev/null && exec bash --login; exec sh -l'
# Container-Optimized OS's sshd_config has `Subsystem sftp internal-sftp`, and the forced command
# gets that as the command (source: sshd's session.c, do_exec). sftp and scp can also name a server
# by its path.
SFTP='^(internal-sftp|/[^[:space:]]*/sftp-server)([[:space:]]+[-A-Za-z0-9_.,/]+)*[[:space:]]*$'
# The paths of OpenSSH's server: in Debian and Ubuntu; Fedora; Alpine, Arch and SUSE; Gentoo; built
# from source; in PATH, as with Nix. The server needs a name for its user (source:
# sftp-server-main.c), and so does scp.
# shellcheck disable=SC2016
FIND_SFTP='
! command -v id >/dev/null || id -un >/dev/null 2>&1 || exit 4
for each in "$0" /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server \
  /usr/lib/ssh/sftp-server /usr/lib64/misc/sftp-server /usr/libexec/sftp-server sftp-server; do
  command -v "${each}" && exit
done
exit 3'
NO_SFTP='The image of this workspace has no sftp-server, which sftp and scp need. Add it to the '
NO_SFTP+='image (in Debian, the package openssh-sftp-server), or use what the image has: '
NO_SFTP+='scp -O, rsync, tar.'
NO_NAME='The image of this workspace has no name for user 1000 in /etc/passwd, which sftp and scp '
NO_NAME+='need. Add one to the image.'
COPY='^(scp|rsync)[[:space:]]'

# Print the id of sshd's process for this connection. It ends with the connection.
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

# Wait until a process has ended, and send this script the signal that a terminal would send.
hang_up_after() {
  tail --pid="$1" --follow /dev/null &
  trap 'kill "$!"; exit' TERM
  wait "$!"
  kill -HUP "$$"
}

# Print the machine's process id of this session's first process in the container, if it runs.
first_process() {
  local found
  read -r found < <(grep --files-with-matches --no-messages --null-data --line-regexp \
    --fixed-strings "WORKSPACE_SESSION=${SESSION}" /proc/[0-9]*/environ) || return
  found=${found#/proc/}
  echo "${found%/environ}"
}

# Print the processes of a session that a hang-up would end. With nohup, a process ignores it.
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

# End the processes of this session: first as a terminal that hangs up does, then by force. A
# process that has left the session (tmux, setsid) or ignores the hang-up (nohup) runs on.
hang_up() {
  local first='' give_up=$((SECONDS + HANG_UP_SECONDS))
  until first=$(first_process); do
    # Docker may be about to start it.
    [ -n "${lost}" ] && [ "${SECONDS}" -lt "${give_up}" ] || return 0
    sleep 1
  done
  signal HUP "${first}"
  signal CONT "${first}"
  while [ -n "$(would_end "${first}")" ] && [ "${SECONDS}" -lt "${give_up}" ]; do
    sleep 1
  done
  signal KILL "${first}"
}

# Share this connection's SSH agent with the container. sshd has made a socket for it.
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

# Answer each request of the sftp protocol with a reason: refuse_sftp REASON. sshd does not pass a
# subsystem's standard error on (source: session.c, do_exec_no_pty). A packet has a length, a type
# and, except for the first packet, a number (source: draft-ietf-secsh-filexfer-02, sections 3 and
# 7). sftp and scp -r show the reason. scp of one file shows only that the operation is unsupported.
refuse_sftp() {
  local length kind number bytes
  while read -ra bytes < <(head --bytes=5 | od --address-radix=n --format=u1) &&
    [ "${#bytes[@]}" -eq 5 ]; do
    length=$((bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3])) kind=${bytes[4]}
    if [ "${kind}" -eq 1 ]; then # INIT: VERSION 3
      head --bytes="$((length - 1))" >/dev/null
      printf '\0\0\0\5\2\0\0\0\3'
    else # STATUS: operation unsupported
      number=$(head --bytes=4 | od --address-radix=n --format=x1)
      head --bytes="$((length - 5))" >/dev/null
      printf '\0\0\0%b\145%b\0\0\0\10\0\0\0%b%s\0\0\0\0' \
        "\\x$(printf %x "$((17 + ${#1}))")" "${number// /\\x}" "\\x$(printf %x "${#1}")" "$1"
    fi
  done
}

if [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" != true ]; then
  echo 'The container of this workspace is not running. Wait a moment, or see its status.' >&2
  exit 1
fi

command=${1:-}
if [ -z "${command}" ]; then
  run=("${RUN_LOGIN}")
elif [[ ${command} =~ ${SFTP} ]]; then
  read -ra words <<<"${command}"
  status=0
  server=$(docker exec "${CONTAINER}" /bin/sh -c "${FIND_SFTP}" "${words[0]}" </dev/null) ||
    status=$?
  case "${status}" in
    0) ;;
    3) refuse_sftp "${NO_SFTP}" && exit 127 ;;
    4) refuse_sftp "${NO_NAME}" && exit 127 ;;
    *) exit "${status}" ;;
  esac
  # shellcheck disable=SC2016
  run=('exec "$0" "$@"' "${server}" "${words[@]:1}")
elif [[ ${command} =~ ${COPY} ]]; then
  tool=${BASH_REMATCH[1]}
  absent="The image of this workspace has no ${tool}. Add it to the image, or use another tool."
  run=("command -v ${tool} >/dev/null || { echo '${absent}' >&2; exit 127; }; ${command}")
else
  run=("${command}")
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
hang_up_after "$(connection)" </dev/null >/dev/null 2>&1 &
watcher=$!
wait "${client}" || status=$?
trap '' HUP INT TERM
kill "${watcher}" 2>/dev/null || true
[ -z "${lost}" ] || kill "${client}" 2>/dev/null || true
hang_up
exit "${status}"
