# shellcheck shell=bash
# Sourced by the other scripts: where things are, what this machine is told, and how it reports to the Hub.
#
# What it is told is its own metadata, read when it is needed. What a person wrote is only ever the value of a quoted
# variable: it is data, never shell. The places can be set from outside, as the tests do.

: "${DISK:=/dev/disk/by-id/google-home}"
: "${MOUNT:=/mnt/disks/home}"                # the home disk; the container has its folder `home`
: "${SECRETS:=/run/workspace-secrets}"       # in memory only
: "${AGENTS:=/run/workspace-agents}"        # SSH agents of those who are here, each a socket that sshd has made
: "${STATE:=/run/workspace-hub}"             # gone at a reboot, kept by a suspend: as long as this boot
: "${INET6:=/proc/net/if_inet6}"
: "${KERNEL_PANIC:=/proc/sys/kernel/panic}"
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

# Keep the container from the metadata server, or let it: guard_metadata ALLOWED. Whoever can ask there gets tokens of the
# machine's service account, and the machine's own identity. Only the container runs as user 1000. Names are resolved there,
# too, at port 53. The addresses are the ones that Google documents ("About VM metadata"). Safe to run again.
guard_metadata() {
  local of_the_container=(--protocol tcp '!' --dport 53 --match owner --uid-owner 1000 --jump REJECT)
  local v4=(OUTPUT --destination 169.254.169.254 "${of_the_container[@]}")
  local v6=(OUTPUT --destination fd20:ce::254 "${of_the_container[@]}")
  if [ "$1" = true ]; then
    ! iptables --wait --check "${v4[@]}" 2>/dev/null || iptables --wait --delete "${v4[@]}"
    ! ip6tables --wait --check "${v6[@]}" 2>/dev/null || ip6tables --wait --delete "${v6[@]}"
    return
  fi
  iptables --wait --check "${v4[@]}" 2>/dev/null || iptables --wait --insert "${v4[@]}" || return 1
  [ ! -e "${INET6}" ] || # no IPv6, no way there
    ip6tables --wait --check "${v6[@]}" 2>/dev/null || ip6tables --wait --insert "${v6[@]}"
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

# Say why this machine cannot be a workspace, and report it: failed CODE MESSAGE. The report goes once, until the container has been steady again.
failed() {
  local result=0
  echo "<4>$1 $2" >&2
  [ ! -e "${STATE}/failed" ] || return 0
  report failed "$1" "$2" || result=$?
  if [ "${result}" -eq 0 ]; then # what was refused may count later, when another operation is under way
    mkdir -p "${STATE}"
    echo "$1" >"${STATE}/failed"
  fi
}

# Say why this machine cannot be a workspace, report it, and end.
fail() {
  failed "$1" "$2"
  exit 1
}
