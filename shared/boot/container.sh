#!/bin/bash
# Pulls the workspace's image with the machine's own service account, and runs it in the foreground.
#
# It writes two files for ready.sh: what it is doing (`doing`), and why the container ended each
# time (`ends`). Each reason is a code and a sentence. So ready.sh reports what happened here, and
# never has to guess.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${DOCKER_ROOT:=/var/lib/docker}"
MOST_QUOTED=160 # characters; the Hub keeps 300 of a message
# How long a machine that never had an image retries a pull that is denied.
: "${DENIED_SECONDS:=120}"
NO_DOCKER='Docker does not run on the machine. If this persists, use another boot image.'
BOOT_DISK_FULL='The boot disk is full. Use a smaller image, or ask for a larger boot disk.'
WRONG_PLATFORM='The container image is for another processor architecture. Use one for this one.'

doing() {
  echo "$1 $2" >"${STATE}/doing"
}

# Print a reason, followed by Docker's last line, in characters that need no quoting in JSON.
with_docker_line() {
  local line last=''
  while IFS= read -r line; do
    [ -z "${line//[[:space:]]/}" ] || last=${line}
  done <<<"$2"
  last=${last//[\"\\]/\'}
  last=${last//[![:print:]]/ }
  echo "$1${last:+ Docker said: ${last:0:${MOST_QUOTED}}}"
}

# Record why the container ended or could not run, and log it: record_end CODE MESSAGE.
record_end() {
  echo "<4>$1 $2" >&2
  echo "$(date +%s) $1 $2" >>"${STATE}/ends"
  tail --lines=20 "${STATE}/ends" >"${STATE}/ends.new"
  mv "${STATE}/ends.new" "${STATE}/ends"
}

give_up() {
  record_end "$1" "$2" 2>/dev/null # `fail` logs it
  fail "$1" "$2"
}

# Print Docker's text in lower case, without names and addresses: an image may be called "denied".
without_names() {
  local words word
  words=${1//"$image"/}
  read -ra words <<<"${words//$'\n'/ }"
  for word in "${words[@]}"; do
    [[ ${word} == */* ]] || echo -n "${word,,} "
  done
}

# Remove the images that no container uses. Otherwise all earlier images of a moving tag would stay
# on the boot disk. When a newer image is pulled, the last container still exists, and so do the
# layers that both images share.
remove_unused_images() {
  docker image prune --all --force >/dev/null || echo '<4>Old images could not be removed.' >&2
}

# Pull the image. If that fails, use the image that the machine has: nobody should be kept from
# their workspace because the registry is away.
# A definite failure is reported at once, a passing one after some tries. The more particular causes
# come first. At a machine's first boot its rights may be new, too, and take some minutes to take
# effect (source: "Access change propagation" in IAM's documentation). So a denied pull is retried.
pull() {
  local said pause code why until=0
  [ -n "$(docker image ls --quiet 2>/dev/null)" ] || until=$((SECONDS + DENIED_SECONDS))
  set -- 2 4 8 15 0
  while [ "$#" -gt 0 ]; do
    pause=$1
    said=$(docker pull --quiet "${image}" 2>&1) && return
    echo "${said}" >&2
    if docker image inspect "${image}" >/dev/null 2>&1; then
      return
    fi
    code=IMAGE_PULL_FAILED
    case "$(without_names "${said}")" in
      *'docker daemon'* | *'docker api'*)
        code=DOCKER_NOT_RUNNING why=${NO_DOCKER} ;;
      *'no space left on device'* | *'disk quota exceeded'*)
        give_up BOOT_DISK_FULL "$(with_docker_line "${BOOT_DISK_FULL}" "${said}")" ;;
      *'getting credentials'* | *'docker-credential-'*)
        code=REGISTRY_LOGIN_FAILED why='The machine gets no credentials for the image registry.' ;;
      *'no matching manifest'* | *'no match for platform'* | \
        *'specified platform'* | *'this platform'*)
        give_up IMAGE_WRONG_PLATFORM "$(with_docker_line "${WRONG_PLATFORM}" "${said}")" ;;
      *toomanyrequests* | *'too many requests'* | *'rate limit'* | *'quota exceeded'*)
        why='The image registry accepts no more pulls for now: too many requests.' ;;
      *'no such host'* | *'server misbehaving'* | *'name resolution'*)
        why="DNS does not know the image registry's name, or does not answer." ;;
      *x509* | *certificate*)
        why="The image registry's certificate is not valid for this clock and these authorities." ;;
      *'http status: 5'* | *'internal server error'* | *'service unavailable'* | \
        *'bad gateway'* | *'gateway timeout'*)
        why='The image registry answers with an error of its own.' ;;
      *timeout* | *'deadline exceeded'* | *'request canceled'* | *'connection refused'* | \
        *'connection reset'* | *'no route to host'* | *'network is unreachable'* | *' eof '*)
        why='The image registry cannot be reached.' ;;
      *denied* | *unauthorized* | *forbidden* | *unauthenticated* | \
        *'no pull access'* | *'no basic auth credentials'*)
        if [ "${SECONDS}" -lt "${until}" ]; then
          sleep 10
          continue
        fi
        why='The machine may not pull the container image, or the registry has none of this name.'
        give_up IMAGE_DENIED "$(with_docker_line "${why}" "${said}")" ;;
      *'manifest unknown'* | *'not found'* | *'name unknown'* | *'invalid reference'*)
        why='The registry has no such container image. Use an image_tag that exists.'
        give_up IMAGE_MISSING "$(with_docker_line "${why}" "${said}")" ;;
      *'unsupported media type'* | *'schema 1'* | *'unsupported manifest'* | *'invalid tar header'*)
        why='Docker cannot use the format of the container image. Use another image.'
        give_up CONTAINER_REFUSED "$(with_docker_line "${why}" "${said}")" ;;
      *)
        why='The container image could not be pulled.' ;;
    esac
    sleep "${pause}"
    shift
  done
  give_up "${code}" "$(with_docker_line "${why}" "${said}")"
}

# Record why Docker could not create or start the container: record_refusal TEXT.
record_refusal() {
  local code why
  echo "$1" >&2
  case "${1,,}" in
    *'docker daemon'* | *'docker api'*) code=DOCKER_NOT_RUNNING why=${NO_DOCKER} ;;
    *'no space left on device'* | *'disk quota exceeded'*)
      code=BOOT_DISK_FULL why=${BOOT_DISK_FULL} ;;
    *'exec format error'*) code=IMAGE_WRONG_PLATFORM why=${WRONG_PLATFORM} ;;
    *) code=CONTAINER_REFUSED why='Docker cannot run the container. Use another image.' ;;
  esac
  record_end "${code}" "$(with_docker_line "${why}" "$1")"
}

# Succeed if the file system of a folder is full.
is_full() {
  local blocks inodes all
  read -r blocks inodes all < <(stat --file-system --format '%a %d %c' "$1" 2>/dev/null) || return 1
  [ "${blocks}" -eq 0 ] || { [ "${inodes}" -eq 0 ] && [ "${all}" -ne 0 ]; }
}

# Succeed if the image is for another kind of machine. Then its program cannot be executed, and the
# container's status does not tell why.
is_wrong_platform() {
  local image_platform ours
  image_platform=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "${image}" \
    2>/dev/null) || return 1
  ours=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null) || return 1
  [[ ${image_platform} == ?*/?* ]] && [[ ${ours} == ?*/?* ]] &&
    [ "${image_platform}" != "${ours}" ]
}

# Record why the container ended with this status, as far as it can be known.
record_why_ended() {
  local alive oom error
  if ! read -r alive oom error < <(
    docker inspect --format '{{.State.Running}} {{.State.OOMKilled}} {{.State.Error}}' \
      "${CONTAINER}" 2>/dev/null
  ); then
    docker version >/dev/null 2>&1 || record_end DOCKER_NOT_RUNNING "${NO_DOCKER}"
    return
  fi
  [ "${alive}" != true ] || return 0 # only Docker's client has ended
  if [ -n "${error}" ]; then
    record_refusal "${error}"
  elif [ "${status}" -eq 137 ] && [ "${oom}" = true ]; then
    record_end CONTAINER_OUT_OF_MEMORY \
      'The container was killed because the machine ran out of memory. Use a larger machine type.'
  elif [ "${status}" -eq 0 ]; then
    record_end CONTAINER_ENDS \
      'The container ends by itself, without an error. Use an image that keeps running.'
  elif is_wrong_platform; then
    record_end IMAGE_WRONG_PLATFORM "${WRONG_PLATFORM}"
  elif is_full "${MOUNT}"; then
    record_end DISK_FULL \
      "The home disk is full, and the container ends with status ${status}. Make the disk larger."
  elif is_full "${DOCKER_ROOT}"; then
    record_end BOOT_DISK_FULL "${BOOT_DISK_FULL}"
  else
    record_end CONTAINER_ENDS "$(why_status)"
  fi
}

# Print what the container's status means.
why_status() {
  local ends="The container ends with status ${status}"
  case "${status}" in
    126) echo "${ends}: user 1000 cannot execute its command. Use another image." ;;
    127) echo "${ends}: its command is not in the image. Use another image." ;;
    137) echo 'The container was killed by signal 9.' ;;
    *) echo "${ends}. Use an image that keeps running." ;;
  esac
}

mkdir -p "${STATE}"
doing METADATA_AWAY 'The machine cannot read its settings from the metadata server.'
image=$(attribute hub-image)
id=$(attribute hub-workspace-id)
name=$(attribute hub-workspace-name)
repo=$(attribute hub-repo)
branch=$(attribute hub-branch)
container_metadata=$(attribute hub-container-metadata)
shared_memory_mb=$(attribute hub-container-shared-memory-mb)
most_processes=$(attribute hub-container-processes)

guard_metadata "${container_metadata}" || give_up METADATA_NOT_GUARDED \
  'The metadata server cannot be closed to the container. Use another boot image.'

registry=${image%%/*}
case "${registry}" in
  *.pkg.dev | gcr.io | *.gcr.io)
    export DOCKER_CONFIG="${STATE}/docker"
    mkdir -p "${DOCKER_CONFIG}"
    docker-credential-gcr configure-docker --registries="${registry}" >/dev/null ||
      give_up REGISTRY_LOGIN_FAILED \
        'The machine cannot log in to the image registry. Use another boot image.'
    ;;
esac

# The container sees what is mounted below this folder later.
options=()
if mkdir -p "${AGENTS}" && { mountpoint -q "${AGENTS}" || mount --bind "${AGENTS}" "${AGENTS}"; } &&
  mount --make-shared "${AGENTS}"; then
  options+=(--volume "${AGENTS}:/run/ssh-agents:rslave")
else
  echo '<4>SSH agents cannot be forwarded into the container.' >&2
fi

status=0
# After a restart of Docker the container still runs (live-restore). This script leaves it running.
if [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" = true ]; then
  systemd-cat --identifier="${CONTAINER}" --level-prefix=false \
    docker attach --no-stdin --sig-proxy=false "${CONTAINER}" || status=$?
  record_why_ended
  exit "${status}"
fi

doing CONTAINER_NOT_RUNNING \
  'The container image was still being pulled when the time was over. Use a smaller image.'
remove_unused_images
pull
doing CONTAINER_NOT_RUNNING \
  'Docker had the container image but did not start the container in time.'
docker rm --force "${CONTAINER}" >/dev/null 2>&1 || true
said=$(docker create --name "${CONTAINER}" --init --user 1000:1000 --network host \
  --security-opt no-new-privileges \
  --shm-size "${shared_memory_mb}m" --pids-limit "${most_processes}" \
  --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
  --volume "${MOUNT}/home:/home/workspace" \
  --volume "${SECRETS}:/run/secrets" \
  --volume "${SECRETS}:/dev/shm/secrets" \
  "${options[@]}" \
  --env HOME=/home/workspace \
  --env "WORKSPACE_ID=${id}" \
  --env "WORKSPACE_NAME=${name}" \
  --env "WORKSPACE_REPO=${repo}" \
  --env "WORKSPACE_BRANCH=${branch}" \
  --env WORKSPACE_SECRETS=/run/secrets \
  --workdir /home/workspace \
  "${image}" 2>&1) || status=$?
if [ "${status}" -ne 0 ]; then
  record_refusal "${said}"
  exit "${status}"
fi
remove_unused_images
# The container's output goes to the journal only, and cannot set the priority of its lines.
systemd-cat --identifier="${CONTAINER}" --level-prefix=false \
  docker start --attach "${CONTAINER}" || status=$?
record_why_ended
exit "${status}"
