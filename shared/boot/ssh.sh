#!/bin/bash
# Lets whoever comes by SSH land in the container. Safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

# What is forwarded reaches the ports that the container has, on loopback, and nothing else: sshd itself could reach the metadata
# server, and sockets of the machine. A keyword that may come several times is taken from here alone (source: servconf.c,
# copy_set_server_options).
# shellcheck disable=SC2016 # it is a person's shell on the machine that reads the variable
OURS='
# workspace-hub
Match all
  ForceCommand exec sudo --non-interactive /bin/bash /etc/workspace-hub/shell.sh "$SSH_ORIGINAL_COMMAND"
  ClientAliveInterval 60
  ClientAliveCountMax 3
  AcceptEnv LANG LANGUAGE LC_* COLORTERM
  AllowAgentForwarding yes
  AllowTcpForwarding yes
  PermitOpen localhost:* 127.0.0.1:* [::1]:*
  PermitListen localhost:* 127.0.0.1:* [::1]:*
  GatewayPorts no
  AllowStreamLocalForwarding no
  PermitTunnel no
  X11Forwarding no
  PermitUserRC no
'

# Google's guest agent reads this file, empties it and writes it anew, and may write it without what was added meanwhile
# (source: google-guest-agent, oslogin.go). workspace-ssh.path has this script started whenever it was written; what happens while
# it runs is seen here. There is a mark for that sshd has read it: a file that was half written is refused, and tried again.
until [[ $(<"${SSHD_CONFIG}") == *"${OURS%$'\n'}"* ]] && [ -e "${STATE}/sshd" ]; do
  mkdir -p "${STATE}"
  rm -f "${STATE}/sshd"
  [[ $(<"${SSHD_CONFIG}") == *"${OURS%$'\n'}"* ]] || printf '%s' "${OURS}" >>"${SSHD_CONFIG}"
  sshd -t -f "${SSHD_CONFIG}"
  systemctl reload-or-restart sshd.service
  : >"${STATE}/sshd"
done
