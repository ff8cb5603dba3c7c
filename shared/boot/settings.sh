# shellcheck shell=bash
# Sourced by the other scripts: paths, the machine's metadata, and reports to the Hub.
#
# Metadata is read when it is needed. Text that a person wrote is always the value of a quoted
# variable: it is data, never shell code. The paths can be set from outside, as the tests do.

: "${DISK:=/dev/disk/by-id/google-home}"
: "${MOUNT:=/mnt/disks/home}"          # the home disk; the container gets its folder `home`
: "${SECRETS:=/run/workspace-secrets}" # in memory only
: "${AGENTS:=/run/workspace-agents}"   # SSH agents of the connected people: sockets made by sshd
: "${STATE:=/run/workspace-hub}"       # of this boot: lost at a reboot, kept by a suspend
: "${INET6:=/proc/net/if_inet6}"
: "${KERNEL_PANIC:=/proc/sys/kernel/panic}"
: "${SSHD_CONFIG:=/etc/ssh/sshd_config}"
: "${GCE_METADATA_HOST:=metadata.google.internal}"
: "${PATIENCE_SECONDS:=1800}" # how long a report is retried; the Hub's deadlines are shorter
# shellcheck disable=SC2034 # used by those who source this
CONTAINER=workspace

metadata() {
  curl --fail --silent --show-error --max-time 10 --retry 5 --retry-connrefused --get \
    --header 'Metadata-Flavor: Google' "$@"
}

# Print an attribute of this machine. It fails if the metadata server does not answer.
attribute() {
  metadata "http://${GCE_METADATA_HOST}/computeMetadata/v1/instance/attributes/$1"
}

# Close the metadata server to the container, or open it: guard_metadata ALLOWED. Anybody who can
# reach that server gets tokens of the machine's service account, and the machine's identity. Only
# the container runs as user 1000. The server also resolves names, at port 53. Its addresses are
# from Google's documentation ("About VM metadata"). This is safe to run again.
guard_metadata() {
  local rule=(--protocol tcp '!' --dport 53 --match owner --uid-owner 1000 --jump REJECT)
  local v4=(OUTPUT --destination 169.254.169.254 "${rule[@]}")
  local v6=(OUTPUT --destination fd20:ce::254 "${rule[@]}")
  if [ "$1" = true ]; then
    ! iptables --wait --check "${v4[@]}" 2>/dev/null || iptables --wait --delete "${v4[@]}"
    ! ip6tables --wait --check "${v6[@]}" 2>/dev/null || ip6tables --wait --delete "${v6[@]}"
    return
  fi
  iptables --wait --check "${v4[@]}" 2>/dev/null || iptables --wait --insert "${v4[@]}" || return 1
  [ ! -e "${INET6}" ] || # without IPv6 that address cannot be reached
    ip6tables --wait --check "${v6[@]}" 2>/dev/null || ip6tables --wait --insert "${v6[@]}"
}

identity_token() {
  metadata --data-urlencode "audience=$1" --data format=full \
    "http://${GCE_METADATA_HOST}/computeMetadata/v1/instance/service-accounts/default/identity"
}

# Print the generation of this boot: the metadata's value when it was first read.
generation() {
  if [ ! -s "${STATE}/generation" ]; then
    mkdir -p "${STATE}"
    attribute hub-generation >"${STATE}/generation.new" || return 1
    mv "${STATE}/generation.new" "${STATE}/generation"
  fi
  cat "${STATE}/generation"
}

# Report to the Hub: report ready KEY, which may be empty, report heartbeat BECAUSE, or report
# failed CODE MESSAGE. The arguments are the scripts' own texts, or checked, so they need no quoting
# in JSON. Each attempt has a fresh token. It returns 0 if the Hub accepts the report, 1 if the Hub
# refuses it, and 2 if the Hub gives no definite answer within PATIENCE_SECONDS.
report() {
  local url audience generation body token status reason='' more=''
  local give_up=$((SECONDS + PATIENCE_SECONDS))
  # The first is short: the worker that made this machine may be about to record it.
  local pauses=(0.25 0.5 1 2 4 8 15) retries=0
  case "$1" in
    ready) [ -z "$2" ] || more=",\"host_key\":\"$2\"" ;;
    heartbeat) reason=$2 more=",\"because\":\"$2\"" ;;
    failed) reason=$2 more=",\"code\":\"$2\",\"message\":\"$3\"" ;;
  esac
  while :; do
    if url=$(attribute hub-reports-url) && audience=$(attribute hub-audience) &&
      generation=$(generation) && token=$(identity_token "${audience}"); then
      body="{\"event\":\"$1\",\"generation\":${generation}${more}}"
      # The token is passed on standard input, because everybody can read command lines.
      status=$(printf 'header = "Authorization: Bearer %s"\n' "${token}" |
        curl --silent --max-time 20 --output /dev/null --write-out '%{http_code}' --config - \
          --header 'Content-Type: application/json' --data "${body}" "${url}") || status=000
      echo "report $1${reason:+ ${reason}} of generation ${generation}: the Hub answered ${status}"
      case "${status}" in
        2??) return 0 ;;
        # No answer, a clock that is late after a suspend, too many requests, a fault of the Hub.
        000 | 401 | 408 | 429 | 5??) ;;
        409)
          echo 'The Hub refused the report: another boot counts now, or no operation waits for it.'
          return 1
          ;;
        400)
          [ "$1" != failed ] || return 1
          [ -n "${more}" ] || return 1
          more='' # a Hub that is older than these scripts does not know the field
          continue
          ;;
        *) return 1 ;;
      esac
    fi
    [ "${SECONDS}" -lt "${give_up}" ] || return 2
    sleep "${pauses[retries]:-30}"
    retries=$((retries + 1))
  done
}

# Log why this machine cannot be a workspace, and report it: failed CODE MESSAGE. After one report
# there is no further one until the container has kept running again.
failed() {
  local result=0
  echo "<4>$1 $2" >&2
  [ ! -e "${STATE}/failed" ] || return 0
  report failed "$1" "$2" || result=$?
  if [ "${result}" -eq 0 ]; then # a refused report may be accepted later, for another operation
    mkdir -p "${STATE}"
    echo "$1" >"${STATE}/failed"
  fi
}

# Log why this machine cannot be a workspace, report it, and end: fail CODE MESSAGE.
fail() {
  failed "$1" "$2"
  exit 1
}
