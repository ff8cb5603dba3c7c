#!/bin/bash
# Lets whoever comes by SSH land in the container. Safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

if grep --quiet '^# workspace-hub$' "${SSHD_CONFIG}"; then
  exit 0
fi
# What is forwarded reaches the ports that the container has, on loopback, and nothing else: sshd itself could reach the metadata
# server, and sockets of the machine. A keyword that may come several times is taken from here alone (source: servconf.c,
# copy_set_server_options).
cat >>"${SSHD_CONFIG}" <<'END'

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
END
sshd -t -f "${SSHD_CONFIG}"
systemctl reload-or-restart sshd.service
