# Sourced by the other scripts: what this machine is told, read from its own metadata at every use.
# What a person wrote is only ever the value of a quoted variable: it is data, never shell.

MOUNT=/mnt/disks/home
SECRETS=/run/workspace-secrets
DISK=/dev/disk/by-id/google-home
CONTAINER=workspace

metadata() {
  curl --fail --silent --show-error --max-time 10 --retry 5 --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/$1"
}

attribute() {
  metadata "attributes/$1"
}

# Tell the Hub: report EVENT [CODE MESSAGE]. Each report has a fresh token; the Hub may be away for a while.
report() {
  local url audience generation token body
  url=$(attribute hub-reports-url)
  audience=$(attribute hub-audience)
  generation=$(attribute hub-generation)
  body="{\"event\":\"$1\",\"generation\":${generation}"
  if [ "$#" -ge 3 ]; then
    body="${body},\"code\":\"$2\",\"message\":\"$3\""
  fi
  body="${body}}"
  for pause in 1 2 4 8 15 30 30 30 30 30 30; do
    token=$(metadata "service-accounts/default/identity?audience=${audience}&format=full") || true
    if printf 'header = "Authorization: Bearer %s"\n' "${token}" | curl --fail --silent --show-error --max-time 20 \
      --config - --header 'Content-Type: application/json' --data "${body}" "${url}"; then
      return 0
    fi
    sleep "${pause}"
  done
  return 1
}
