#!/bin/bash
# Configures sshd so that people who connect by SSH land in the container. It is safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

# Forwarding reaches only the container's ports on loopback. Otherwise sshd could reach the metadata
# server and the machine's sockets. A keyword that may occur several times is taken from this block
# only (source: servconf.c, copy_set_server_options).
# shellcheck disable=SC2016 # the person's shell on the machine expands the variable
SSHD_BLOCK='
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

has_block() {
  [[ $(<"${SSHD_CONFIG}") == *"${SSHD_BLOCK%$'\n'}"* ]]
}

# Google's guest agent reads this file, empties it and writes it again, and may drop what was added
# meanwhile (source: google-guest-agent, oslogin.go). workspace-ssh.path starts this script each
# time that the file was written. The loop handles changes while the script runs. The file `sshd`
# records that sshd has read the configuration: if it was half written, sshd refuses it, and the
# script is started again.
until has_block && [ -e "${STATE}/sshd" ]; do
  mkdir -p "${STATE}"
  rm -f "${STATE}/sshd"
  has_block || printf '%s' "${SSHD_BLOCK}" >>"${SSHD_CONFIG}"
  sshd -t -f "${SSHD_CONFIG}"
  systemctl reload-or-restart sshd.service
  : >"${STATE}/sshd"
done
