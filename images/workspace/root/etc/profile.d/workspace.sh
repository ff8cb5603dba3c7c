# shellcheck shell=sh
# For each login shell: language, paths, secrets; and for people at a terminal a tmux session that
# survives their connection, and the workspace's repository.
#
# scp, sftp, rsync, commands, editors and programs that only want a shell must notice nothing of
# this: it prints nothing for them, reads nothing, and starts nothing.

# A shell that is told of a language that is not there complains at every turn.
if [ -n "$(locale 2>&1 >/dev/null)" ]; then
  unset LANGUAGE LC_ALL LC_CTYPE LC_COLLATE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME \
    LC_ADDRESS LC_IDENTIFICATION LC_MEASUREMENT LC_NAME LC_PAPER LC_TELEPHONE
  export LANG=C.UTF-8
fi

# Debian's /etc/profile has replaced the image's own.
case ":${PATH}:" in
  *":${HOME}/.local/bin:"*) ;;
  *) PATH="${HOME}/.local/bin:${PATH}" ;;
esac

# Tokens and keys: a file of the memory-only folder is the variable of its name. They are read again
# before each prompt, so that one that was brought or taken away later counts in all windows.
workspace_secrets() {
  workspace_folder=${WORKSPACE_SECRETS:-/run/secrets}
  for workspace_name in ${WORKSPACE_SECRET_NAMES:-}; do
    [ -e "${workspace_folder}/${workspace_name}" ] || unset "${workspace_name}"
  done
  WORKSPACE_SECRET_NAMES=''
  for workspace_file in "${workspace_folder}"/*; do
    workspace_name=${workspace_file##*/}
    case ${workspace_name} in
      [!A-Z]* | *[!A-Z0-9_]*) continue ;;
      *_TOKEN | *_KEY | *_SECRET | *_PASSWORD) ;;
      *) continue ;;
    esac
    if [ -f "${workspace_file}" ] && [ -r "${workspace_file}" ]; then
      export "${workspace_name}=$(cat "${workspace_file}")"
      WORKSPACE_SECRET_NAMES="${WORKSPACE_SECRET_NAMES} ${workspace_name}"
    fi
  done
  export WORKSPACE_SECRET_NAMES
  unset workspace_folder workspace_file workspace_name
}

# A person at a terminal, and no editor's. An editor may ask an interactive shell for one command.
workspace_is_person() {
  case $- in *c*) return 1 ;; *i*) ;; *) return 1 ;; esac
  [ -t 0 ] && [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${INSIDE_EMACS:-}" ] &&
    [ "${TERM_PROGRAM:-}" != vscode ] && [ -z "${VSCODE_IPC_HOOK_CLI:-}" ] &&
    [ -z "${TERMINAL_EMULATOR:-}" ] && [ -z "${ZED_TERM:-}" ]
}

# Go on in tmux: in the session that was left, or beside somebody who is in it. A second terminal
# sees the same windows, and chooses among them by itself. If there is something to clone, a new
# window does it: it goes on without the connection, too.
workspace_tmux() {
  if ! tmux has-session -t =main 2>/dev/null; then
    tmux -u new-session -s main
  elif [ -n "$(tmux list-clients -t =main 2>/dev/null)" ]; then
    tmux -u new-session -t main \; set-option destroy-unattached on "$@"
  else
    tmux -u attach-session -t =main "$@"
  fi
}

workspace_clone=/run/workspace/clone # exists if the next window has to clone
if workspace_is_person; then
  if [ -z "${TMUX:-}" ] && [ -z "${WORKSPACE_LOGIN:-}" ] && [ ! -e "${HOME}/.no-tmux" ]; then
    export WORKSPACE_LOGIN=1
    infocmp "${TERM}" >/dev/null 2>&1 || export TERM=xterm-256color
    workspace_agent=${SSH_AUTH_SOCK:-}
    [ -z "${workspace_agent}" ] || /usr/local/lib/workspace/agent "${workspace_agent}" || true
    if /usr/local/lib/workspace/clone due; then
      : >"${workspace_clone}"
      set -- \; new-window
    fi
    if SSH_AUTH_SOCK=/run/workspace/ssh-agent workspace_tmux "$@"; then
      [ -z "${workspace_agent}" ] || /usr/local/lib/workspace/agent - "${workspace_agent}" || true
      exit
    fi
    echo 'workspace: tmux does not work here, so this is a plain shell.' >&2
    unset workspace_agent
    set --
  elif [ -z "${TMUX:-}" ] && /usr/local/lib/workspace/clone due; then
    : >"${workspace_clone}"
  fi
  workspace_secrets
  if [ -n "${BASH_VERSION:-}" ]; then
    PROMPT_COMMAND="${PROMPT_COMMAND:+${PROMPT_COMMAND}; }workspace_secrets"
  fi
  if rm "${workspace_clone}" 2>/dev/null; then
    /usr/local/lib/workspace/clone || true
  fi
else
  workspace_secrets
fi
unset -f workspace_is_person workspace_tmux
unset workspace_clone
