#!/bin/bash
# Runs a person's shell, or the one command that they gave to ssh, in the container. Called by sshd through sudo.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
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

options=(--interactive)
[ ! -t 0 ] || options+=(--tty --env "TERM=${TERM:-xterm}")
exec docker exec "${options[@]}" "${CONTAINER}" /bin/sh -c "${run[@]}"
