#!/bin/bash
# Pulls the workspace's image with the machine's own service account and runs it in the foreground.
set -euo pipefail
. /etc/workspace-hub/settings.sh

image=$(attribute hub-image)
export DOCKER_CONFIG=/run/workspace-docker
mkdir -p "${DOCKER_CONFIG}"
docker-credential-gcr configure-docker --registries="${image%%/*}" >/dev/null

if ! docker pull --quiet "${image}" && ! docker image inspect "${image}" >/dev/null 2>&1; then
  report failed IMAGE_PULL_FAILED 'The container image could not be pulled: is its tag in the registry, and may the machine read it?'
  exit 1
fi

docker rm --force "${CONTAINER}" >/dev/null 2>&1 || true
exec docker run --rm --name "${CONTAINER}" --init --user 1000:1000 \
  --log-driver=gcplogs \
  --security-opt no-new-privileges \
  --volume "${MOUNT}/home:/home/workspace" \
  --volume "${SECRETS}:/run/secrets" \
  --env "WORKSPACE_ID=$(attribute hub-workspace-id)" \
  --env "WORKSPACE_NAME=$(attribute hub-workspace-name)" \
  --env "WORKSPACE_REPO=$(attribute hub-repo)" \
  --env "WORKSPACE_BRANCH=$(attribute hub-branch)" \
  "${image}"
