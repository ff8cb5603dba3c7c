# shellcheck shell=bash
# Sourced by the other scripts: where things are, what this machine is told, and how it reports to the Hub.
#
# What it is told is its own metadata, read when it is needed. What a person wrote is only ever the value of a quoted
# variable: it is data, never shell. The places can be set from outside, as the tests do.

: "${DISK:=/dev/disk/by-id/google-home}"
: "${MOUNT:=/mnt/disks/home}"                # the home disk; the container has its folder `home`
: "${SECRETS:=/run/workspace-secrets}"       # in memory only
: "${STATE:=/run/workspace-hub}"             # gone at a reboot, kept by a suspend: as long as this boot
: "${SSHD_CONFIG:=/etc/ssh/sshd_config}"
: "${GCE_METADATA_HOST:=metadata.google.internal}"
: "${PATIENCE_SECONDS:=1800}"                # how long a report is repeated; the Hub's own deadlines are shorter
# shellcheck disable=SC2034 # used by those who source this
CONTAINER=workspace

metadata() {
  curl --fail --silent --show-error --max-time 10 --retry 5 --retry-connrefused --get \
    --header 'Metadata-Flavor: Google' "$@"
}

# Print an attribute of this machine; it fails when the metadata server does not answer.
attribute() {
  metadata "http://${GCE_METADATA_HOST}/computeMetadata/v1/instance/attributes/$1"
}

identity_token() {
  metadata --data-urlencode "audience=$1" --data format=full \
    "http://${GCE_METADATA_HOST}/computeMetadata/v1/instance/service-accounts/default/identity"
}

# Print the generation of this boot: the one that the metadata had when it was first asked for.
generation() {
  if [ ! -s "${STATE}/generation" ]; then
    mkdir -p "${STATE}"
    attribute hub-generation >"${STATE}/generation.new" || return 1
    mv "${STATE}/generation.new" "${STATE}/generation"
  fi
  cat "${STATE}/generation"
}

# Tell the Hub: report EVENT [CODE MESSAGE], both in words of our own that need no quoting in JSON.
# Every attempt has a fresh token, and goes on until the Hub says something definite or the patience is at its end.
report() {
  local url audience generation body token status pause=1 give_up=$((SECONDS + PATIENCE_SECONDS))
  while :; do
    if url=$(attribute hub-reports-url) && audience=$(attribute hub-audience) && generation=$(generation) &&
      token=$(identity_token "${audience}"); then
      body="{\"event\":\"$1\",\"generation\":${generation}"
      [ "$#" -lt 3 ] || body="${body},\"code\":\"$2\",\"message\":\"$3\""
      # The token goes through standard input: what is on a command line can be read by everybody.
      status=$(printf 'header = "Authorization: Bearer %s"\n' "${token}" |
        curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' --config - \
          --header 'Content-Type: application/json' --data "${body}}" "${url}") || status=000
      echo "report $1${2:+ $2} of generation ${generation}: the Hub answered ${status}"
      case "${status}" in
        2??) return 0 ;;
        000 | 401 | 408 | 429 | 5??) ;; # nobody there, a clock that lags after a suspend, too often, the Hub's own trouble
        *) return 1 ;;
      esac
    fi
    [ "${SECONDS}" -lt "${give_up}" ] || return 1
    sleep "${pause}"
    pause=$((pause < 15 ? pause * 2 : 30))
  done
}

# Report why this machine cannot be a workspace, and end.
fail() {
  report failed "$1" "$2" || true
  exit 1
}
