#!/bin/bash
# Pulls the workspace's image with the machine's own service account and runs it in the foreground.
set -euo pipefail
# shellcheck source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

image=$(attribute hub-image)
id=$(attribute hub-workspace-id)
name=$(attribute hub-workspace-name)
repo=$(attribute hub-repo)
branch=$(attribute hub-branch)

registry=${image%%/*}
case "${registry}" in
  *.pkg.dev | gcr.io | *.gcr.io)
    export DOCKER_CONFIG="${STATE}/docker"
    mkdir -p "${DOCKER_CONFIG}"
    docker-credential-gcr configure-docker --registries="${registry}" >/dev/null ||
      fail REGISTRY_LOGIN_FAILED 'The machine cannot prove itself to the registry: its boot image is not one that the Hub can use.'
    ;;
esac

# Pull the image, or make do with the one that is here: a registry that is away must not keep anybody from their workspace.
pull() {
  local said pause
  for pause in 2 4 8 15 0; do
    said=$(docker pull --quiet "${image}" 2>&1) && return
    echo "${said}" >&2
    if docker image inspect "${image}" >/dev/null 2>&1; then
      return
    fi
    case "${said,,}" in
      *denied* | *unauthorized* | *forbidden*)
        fail IMAGE_DENIED 'The machine may not pull the container image, or there is none of this name in the registry.' ;;
      *'manifest unknown'* | *'not found'* | *'name unknown'* | *'invalid reference'*)
        fail IMAGE_MISSING 'The registry has no such container image. Start the workspace with an image_tag that exists.' ;;
    esac
    sleep "${pause}"
  done
  fail IMAGE_PULL_FAILED 'The registry of the container images does not answer. Start the workspace again in a while.'
}

pull
docker rm --force "${CONTAINER}" >/dev/null 2>&1 || true
status=0
docker run --rm --name "${CONTAINER}" --init --user 1000:1000 --network host \
  --security-opt no-new-privileges \
  --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 \
  --volume "${MOUNT}/home:/home/workspace" \
  --volume "${SECRETS}:/run/secrets" \
  --volume "${SECRETS}:/dev/shm/secrets" \
  --env HOME=/home/workspace \
  --env "WORKSPACE_ID=${id}" \
  --env "WORKSPACE_NAME=${name}" \
  --env "WORKSPACE_REPO=${repo}" \
  --env "WORKSPACE_BRANCH=${branch}" \
  --env WORKSPACE_SECRETS=/run/secrets \
  --workdir /home/workspace \
  "${image}" || status=$?
mkdir -p "${STATE}"
echo "${status}" >"${STATE}/container-ended"
exit "${status}"
