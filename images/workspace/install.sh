#!/bin/bash
# Makes the image of a workspace. The Dockerfile runs it twice, as root:
#
#   install.sh        installs what the image has
#   install.sh files  puts the files of root/ into place
#
# Everything comes from a signed source: Debian's packages, two further repositories whose keys are
# known here by their fingerprints, and npm packages whose hashes are in gemini-cli/. Nothing that
# was downloaded is run before it was checked.
#
# Where you cannot reach one of the sources, take another:
#   GH_SOURCE    github (its repository, the default) or debian (an older version)
#   NODE_SOURCE  nodesource (its repository, the default), debian (an older version, which Node's
#                makers may not support any more), or a folder with Node's bin/ and lib/
set -euo pipefail
: "${GH_SOURCE:=github}"
: "${NODE_SOURCE:=nodesource}"
: "${NODE_MAJOR:=24}" # an LTS version
: "${KEYRINGS:=/etc/apt/keyrings}"
: "${SOURCES:=/etc/apt/sources.list.d}"
HERE=${BASH_SOURCE[0]%/*}
# Sources: docs/install_linux.md in cli/cli, and the key's self-description. The older key of GitHub
# ended in September 2026.
GITHUB_KEY=7F38BBB59D064DBCB3D84D725612B36462313325
NODESOURCE_KEY=6F71F525282841EEDAF851B42F59B5F99B1BE0B4

PACKAGES=(
  # The container's first process, and what a workspace is entered with.
  tini tmux openssh-client openssh-sftp-server rsync
  # Tools. The remote parts of editors need curl, ps, tar and xz.
  bash-completion bzip2 ca-certificates curl file git git-lfs gpg jq less nano patch procps ripgrep
  unzip vim-tiny xz-utils zip
  # Building.
  build-essential pkg-config
  # Python, with which people make environments in their home.
  pipx python-is-python3 python3 python3-dev python3-pip python3-venv
  # Languages and terminals that people bring with them.
  locales ncurses-term
)

die() {
  echo "$1" >&2
  exit 1
}

packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@"
}

# Keep one key of a keyring: trust URL FINGERPRINT FILE. It fails if the keyring lacks the key. Other
# keys in it are not trusted.
# A subshell, so that its folder goes however it ends. gpg fails where the folder's path has more than
# some 80 characters: the path of its socket would be too long.
trust() (
  folder=$(mktemp --directory)
  trap 'rm -rf "${folder}"' EXIT
  curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' \
    --tlsv1.2 --retry 5 --output "${folder}/downloaded" "$1"
  # Public keys need no agent, and one that is started would stay.
  gpg --homedir "${folder}" --no-autostart --batch --quiet --import "${folder}/downloaded"
  mkdir -p "${3%/*}"
  gpg --homedir "${folder}" --no-autostart --batch --export "$2" >"$3"
  [ -s "$3" ] || { rm -f "$3" && die "$1 has no key $2. Nothing was installed from there."; }
  chmod 0644 "$3"
)

# Add a repository that one key signs: add_repository NAME URL SUITE KEY_URL FINGERPRINT.
add_repository() {
  trust "$4" "$5" "${KEYRINGS}/$1.gpg"
  mkdir -p "${SOURCES}"
  printf '%s\n' 'Types: deb' "URIs: $2" "Suites: $3" 'Components: main' \
    "Signed-By: ${KEYRINGS}/$1.gpg" >"${SOURCES}/$1.sources"
}

install_gh() {
  case "${GH_SOURCE}" in
    debian) ;;
    github)
      add_repository github-cli https://cli.github.com/packages stable \
        https://cli.github.com/packages/githubcli-archive-keyring.gpg "${GITHUB_KEY}"
      apt-get update --quiet=2
      ;;
    *) die "GH_SOURCE must be github or debian, and not ${GH_SOURCE}." ;;
  esac
  packages gh
}

install_node() {
  case "${NODE_SOURCE}" in
    debian) packages nodejs npm ;;
    nodesource)
      add_repository nodesource "https://deb.nodesource.com/node_${NODE_MAJOR}.x" nodistro \
        https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key "${NODESOURCE_KEY}"
      apt-get update --quiet=2
      packages nodejs
      ;;
    /*)
      cp --recursive --no-target-directory "${NODE_SOURCE}/lib" /usr/local/lib
      install -m 0755 "${NODE_SOURCE}/bin/node" /usr/local/bin/node
      ln --symbolic --force ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
      ln --symbolic --force ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
      ;;
    *) die "NODE_SOURCE must be nodesource, debian or a folder, and not ${NODE_SOURCE}." ;;
  esac
}

# No script of an npm package is run: what it needs is in the package.
install_gemini_cli() {
  install -D --mode=0644 --target-directory=/opt/gemini-cli \
    "${HERE}/gemini-cli/package.json" "${HERE}/gemini-cli/package-lock.json"
  npm ci --prefix /opt/gemini-cli --ignore-scripts --no-audit --no-fund --no-update-notifier
  ln --symbolic --force /opt/gemini-cli/node_modules/.bin/gemini /usr/local/bin/gemini
}

# The Hub runs the container as user 1000, and mounts the home at /home/workspace. Some tools look
# for it at /home/node, which is where Node's own images have it.
add_user() {
  groupadd --gid 1000 workspace
  useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash workspace
  ln --symbolic workspace /home/node
  # What is only of this container, and not of the home.
  install --directory --owner=1000 --group=1000 --mode=0700 /run/workspace
}

# Remove what only the installation needs, and what every image would have in common: a machine's
# id, logs, caches.
clean() {
  apt-get clean
  rm -rf /root/.npm /root/.cache /tmp/node-compile-cache /var/lib/apt/lists/* \
    /var/log/apt /var/log/*.log /var/cache/debconf/*-old /var/lib/dpkg/*-old
  : >/etc/machine-id
}

# The modes are set here: those of a checkout depend on whose it is.
add_files() {
  local file mode
  while IFS= read -r file; do
    mode=0644
    [[ ${file} != usr/local/lib/workspace/* ]] || mode=0755
    install -D --mode="${mode}" "${HERE}/root/${file}" "/${file}"
  done < <(cd "${HERE}/root" && find . -type f -printf '%P\n')
}

main() {
  apt-get update --quiet=2
  DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes --quiet=2
  packages "${PACKAGES[@]}"
  install_gh
  install_node
  install_gemini_cli
  echo 'en_US.UTF-8 UTF-8' >/etc/locale.gen
  locale-gen >/dev/null
  add_user
  clean
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  case "${1:-}" in
    '') main ;;
    files) add_files ;;
    *) die "There is no step $1." ;;
  esac
fi
