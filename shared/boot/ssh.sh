#!/bin/bash
# Lets whoever comes by SSH land in the container. Safe to run again.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

if grep --quiet '^# workspace-hub$' "${SSHD_CONFIG}"; then
  exit 0
fi
cat >>"${SSHD_CONFIG}" <<'END'

# workspace-hub
Match all
  ForceCommand exec sudo --non-interactive /bin/bash /etc/workspace-hub/shell.sh "$SSH_ORIGINAL_COMMAND"
  ClientAliveInterval 60
  ClientAliveCountMax 3
END
sshd -t -f "${SSHD_CONFIG}"
systemctl reload-or-restart sshd.service
