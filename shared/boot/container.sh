#!/bin/bash
# Pulls the workspace's image with the machine's own service account and runs it in the foreground.
#
# For ready.sh it writes down what it is doing (`doing`) and why the container ended each time (`ends`), each as a code and
# a sentence: what ready.sh reports is what happened here, never a guess.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
: "${DOCKER_ROOT:=/var/lib/docker}"
MOST_QUOTED=160 # characters; the Hub keeps 300 of a message
: "${DENIED_SECONDS:=120}" # how long a machine that never had an image asks again when it may not have this one
NO_DOCKER='Docker does not run on the machine. If it stays so, the boot image is not one that the Hub can use.'
BOOT_DISK_FULL='The boot disk of the machine is full. Take a smaller image, or have the boot disk made larger.'
WRONG_PLATFORM='The container image is not for this kind of machine. Take an image of its processor architecture.'

doing() {
  echo "$1 $2" >"${STATE}/doing"
}

# Print a reason with the last line that Docker said after it, in characters that need no quoting in JSON.
quoting() {
  local line last=''
  while IFS= read -r line; do
    [ -z "${line//[[:space:]]/}" ] || last=${line}
  done <<<"$2"
  last=${last//[\"\\]/\'}
  last=${last//[![:print:]]/ }
  echo "$1${last:+ Docker said: ${last:0:${MOST_QUOTED}}}"
}

# Write down why the container ended or could not be run, and say it.
ended() {
  echo "<4>$1 $2" >&2
  echo "$(date +%s) $1 $2" >>"${STATE}/ends"
  tail --lines=20 "${STATE}/ends" >"${STATE}/ends.new"
  mv "${STATE}/ends.new" "${STATE}/ends"
}

give_up() {
  ended "$1" "$2" 2>/dev/null # `fail` says it
  fail "$1" "$2"
}

# Print what Docker said in lower case, without names and addresses: an image may be called "denied".
bare() {
  local words word
  words=${1//"$image"/}
  read -ra words <<<"${words//$'\n'/ }"
  for word in "${words[@]}"; do
    [[ ${word} == */* ]] || echo -n "${word,,} "
  done
}

# Remove the images that no container is made of: a tag that moves would leave all that it had on the boot disk. The last container
# is still there when a newer image is pulled, and with it what both have in common.
prune() {
  docker image prune --all --force >/dev/null || echo '<4>Old images could not be removed.' >&2
}

# Pull the image, or make do with the one that is here: a registry that is away must not keep anybody from their workspace.
# What is definite is reported at once, what may pass after some tries. The more particular causes come first. At a machine's
# first boot its rights may be as young as itself, and take some minutes to arrive (source: "Access change propagation" of IAM's
# documentation): it asks again when it is denied.
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
    case "$(bare "${said}")" in
      *'docker daemon'* | *'docker api'*)
        code=DOCKER_NOT_RUNNING why=${NO_DOCKER} ;;
      *'no space left on device'* | *'disk quota exceeded'*)
        give_up BOOT_DISK_FULL "$(quoting "${BOOT_DISK_FULL}" "${said}")" ;;
      *'getting credentials'* | *'docker-credential-'*)
        code=REGISTRY_LOGIN_FAILED why='The machine gets no credentials for the registry of the container images.' ;;
      *'no matching manifest'* | *'no match for platform'* | *'specified platform'* | *'this platform'*)
        give_up IMAGE_WRONG_PLATFORM "$(quoting "${WRONG_PLATFORM}" "${said}")" ;;
      *toomanyrequests* | *'too many requests'* | *'rate limit'* | *'quota exceeded'*)
        why='The registry of the container images takes no more pulls for now: too many requests.' ;;
      *'no such host'* | *'server misbehaving'* | *'name resolution'*)
        why='The name of the registry of the container images cannot be resolved: DNS does not know it or does not answer.' ;;
      *x509* | *certificate*)
        why='The certificate of the registry of the container images is not accepted, by this clock and these authorities.' ;;
      *'http status: 5'* | *'internal server error'* | *'service unavailable'* | *'bad gateway'* | *'gateway timeout'*)
        why='The registry of the container images answers with errors of its own.' ;;
      *timeout* | *'deadline exceeded'* | *'request canceled'* | *'connection refused'* | \
        *'connection reset'* | *'no route to host'* | *'network is unreachable'* | *' eof '*)
        why='The registry of the container images cannot be reached.' ;;
      *denied* | *unauthorized* | *forbidden* | *unauthenticated* | *'no pull access'* | *'no basic auth credentials'*)
        if [ "${SECONDS}" -lt "${until}" ]; then
          sleep 10
          continue
        fi
        why='The machine may not pull the container image, or there is none of this name in the registry.'
        give_up IMAGE_DENIED "$(quoting "${why}" "${said}")" ;;
      *'manifest unknown'* | *'not found'* | *'name unknown'* | *'invalid reference'*)
        why='The registry has no such container image. Take an image_tag that exists.'
        give_up IMAGE_MISSING "$(quoting "${why}" "${said}")" ;;
      *'unsupported media type'* | *'schema 1'* | *'unsupported manifest'* | *'invalid tar header'*)
        why='The container image is in a format that Docker cannot use. Take another image.'
        give_up CONTAINER_REFUSED "$(quoting "${why}" "${said}")" ;;
      *)
        why='The container image could not be pulled.' ;;
    esac
    sleep "${pause}"
    shift
  done
  give_up "${code}" "$(quoting "${why}" "${said}")"
}

# Docker could not make or start the container: say why, by what it said.
refused() {
  echo "$1" >&2
  case "${1,,}" in
    *'docker daemon'* | *'docker api'*) ended DOCKER_NOT_RUNNING "$(quoting "${NO_DOCKER}" "$1")" ;;
    *'no space left on device'* | *'disk quota exceeded'*) ended BOOT_DISK_FULL "$(quoting "${BOOT_DISK_FULL}" "$1")" ;;
    *'exec format error'*) ended IMAGE_WRONG_PLATFORM "$(quoting "${WRONG_PLATFORM}" "$1")" ;;
    *) ended CONTAINER_REFUSED "$(quoting 'Docker cannot run the container. Take another image.' "$1")" ;;
  esac
}

# Succeed if nothing more can be written below a folder.
full() {
  local blocks inodes all
  read -r blocks inodes all < <(stat --file-system --format '%a %d %c' "$1" 2>/dev/null) || return 1
  [ "${blocks}" -eq 0 ] || { [ "${inodes}" -eq 0 ] && [ "${all}" -ne 0 ]; }
}

# Succeed if the image is for another kind of machine: its program cannot be executed then, which looks like any other end.
wrong_platform() {
  local its ours
  its=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "${image}" 2>/dev/null) || return 1
  ours=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}' 2>/dev/null) || return 1
  [[ ${its} == ?*/?* ]] && [[ ${ours} == ?*/?* ]] && [ "${its}" != "${ours}" ]
}

# The container ran and ended with this status: say why, as far as can be known.
why_ended() {
  local alive oom error
  if ! read -r alive oom error < <(
    docker inspect --format '{{.State.Running}} {{.State.OOMKilled}} {{.State.Error}}' "${CONTAINER}" 2>/dev/null
  ); then
    docker version >/dev/null 2>&1 || ended DOCKER_NOT_RUNNING "${NO_DOCKER}"
    return
  fi
  [ "${alive}" != true ] || return 0 # it is Docker's client that ended
  if [ -n "${error}" ]; then
    refused "${error}"
  elif [ "${status}" -eq 137 ] && [ "${oom}" = true ]; then
    ended CONTAINER_OUT_OF_MEMORY 'The container was killed, for the machine had no memory left. Take a larger machine type.'
  elif [ "${status}" -eq 0 ]; then
    ended CONTAINER_ENDS 'The container ends by itself, without an error. Take an image that keeps running.'
  elif wrong_platform; then
    ended IMAGE_WRONG_PLATFORM "${WRONG_PLATFORM}"
  elif full "${MOUNT}"; then
    ended DISK_FULL "The home disk is full, and the container ends with status ${status}. Make the disk larger."
  elif full "${DOCKER_ROOT}"; then
    ended BOOT_DISK_FULL "${BOOT_DISK_FULL}"
  else
    case "${status}" in
      126) ended CONTAINER_ENDS 'The container ends with status 126: user 1000 cannot execute its command. Take another image.' ;;
      127) ended CONTAINER_ENDS 'The container ends with status 127: its command is not in the image. Take another image.' ;;
      137) ended CONTAINER_ENDS 'The container was killed by signal 9.' ;;
      *) ended CONTAINER_ENDS "The container ends with status ${status}. Take an image that keeps running." ;;
    esac
  fi
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

guard_metadata "${container_metadata}" ||
  give_up METADATA_NOT_GUARDED 'The container cannot be kept from the metadata server: the boot image is not one that the Hub can use.'

registry=${image%%/*}
case "${registry}" in
  *.pkg.dev | gcr.io | *.gcr.io)
    export DOCKER_CONFIG="${STATE}/docker"
    mkdir -p "${DOCKER_CONFIG}"
    docker-credential-gcr configure-docker --registries="${registry}" >/dev/null ||
      give_up REGISTRY_LOGIN_FAILED 'The machine cannot prove itself to the registry: its boot image is not one that the Hub can use.'
    ;;
esac

# What is mounted below there later is to be seen in the container.
options=()
if mkdir -p "${AGENTS}" && { mountpoint -q "${AGENTS}" || mount --bind "${AGENTS}" "${AGENTS}"; } &&
  mount --make-shared "${AGENTS}"; then
  options+=(--volume "${AGENTS}:/run/ssh-agents:rslave")
else
  echo '<4>SSH agents cannot be forwarded into the container.' >&2
fi

status=0
# Docker was started again, and has left the container alone (live-restore): so is it left here.
if [ "$(docker inspect --format '{{.State.Running}}' "${CONTAINER}" 2>/dev/null)" = true ]; then
  systemd-cat --identifier="${CONTAINER}" --level-prefix=false \
    docker attach --no-stdin --sig-proxy=false "${CONTAINER}" || status=$?
  why_ended
  exit "${status}"
fi

doing CONTAINER_NOT_RUNNING 'The container image was still being pulled when the time was over. Take a smaller image.'
prune
pull
doing CONTAINER_NOT_RUNNING 'Docker had the container image but did not start the container in time.'
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
  refused "${said}"
  exit "${status}"
fi
prune
# What the container prints goes to the journal alone, and has no say in what counts there as a warning.
systemd-cat --identifier="${CONTAINER}" --level-prefix=false docker start --attach "${CONTAINER}" || status=$?
why_ended
exit "${status}"
