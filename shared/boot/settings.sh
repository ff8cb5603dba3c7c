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

# Tell the Hub: report EVENT, report EVENT BECAUSE or report EVENT CODE MESSAGE, in words of our own that need no quoting in
# JSON. Every attempt has a fresh token. It returns 0 once the Hub has taken the report, 1 if the Hub refuses it, and 2 if
# the Hub said nothing definite until the patience was at its end.
report() {
  local url audience generation body token status because='' failure='' pause=1 give_up=$((SECONDS + PATIENCE_SECONDS))
  [ "$#" -ne 2 ] || because=",\"because\":\"$2\""
  [ "$#" -lt 3 ] || failure=",\"code\":\"$2\",\"message\":\"$3\""
  while :; do
    if url=$(attribute hub-reports-url) && audience=$(attribute hub-audience) && generation=$(generation) &&
      token=$(identity_token "${audience}"); then
      body="{\"event\":\"$1\",\"generation\":${generation}${because}${failure}}"
      # The token goes through standard input: what is on a command line can be read by everybody.
      status=$(printf 'header = "Authorization: Bearer %s"\n' "${token}" |
        curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' --config - \
          --header 'Content-Type: application/json' --data "${body}" "${url}") || status=000
      echo "report $1${2:+ $2} of generation ${generation}: the Hub answered ${status}"
      case "${status}" in
        2??) return 0 ;;
        000 | 401 | 408 | 429 | 5??) ;; # nobody there, a clock that lags after a suspend, too often, the Hub's own trouble
        409)
          echo 'The Hub did not take it: another boot counts by now, or nothing waits for this one any more.'
          return 1
          ;;
        400)
          [ -n "${because}" ] || return 1
          because='' # a Hub older than these scripts knows no such field
          continue
          ;;
        *) return 1 ;;
      esac
    fi
    [ "${SECONDS}" -lt "${give_up}" ] || return 2
    sleep "${pause}"
    pause=$((pause < 15 ? pause * 2 : 30))
  done
}

# Report why this machine cannot be a workspace: failed CODE MESSAGE. Once, until the container has been steady again.
failed() {
  local result=0
  [ ! -e "${STATE}/failed" ] || return 0
  report failed "$1" "$2" || result=$?
  if [ "${result}" -eq 0 ]; then # what was refused may count later, when another operation is under way
    mkdir -p "${STATE}"
    echo "$1" >"${STATE}/failed"
  fi
}

# Report why this machine cannot be a workspace, and end.
fail() {
  failed "$1" "$2"
  exit 1
}
