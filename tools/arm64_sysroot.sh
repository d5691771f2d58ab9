#!/bin/sh
# Makes a folder with what an arm64 build of Lode needs: Debian's arm64 packages of the libraries,
# unpacked beside one another (cmake/aarch64.cmake compiles against it, qemu runs with it). The
# machine's own packages stay as they are: apt works with a state of its own, and root is not needed.
#   tools/arm64_sysroot.sh FOLDER
set -eu
[ $# -eq 1 ] || { sed -n '2,5p' "$0" | cut -c3- >&2; exit 2; }
PACKAGES="libc6-dev libstdc++-12-dev libhwy-dev libcurl4-openssl-dev libssl-dev libutf8proc-dev
  libpcre2-dev libzstd-dev libxxhash-dev libgtest-dev nlohmann-json3-dev libcli11-dev libboost-dev"

mkdir -p "$1"
folder=$(cd "$1" && pwd)
wanted=$(echo $PACKAGES)
[ "$(cat "$folder/.packages" 2>/dev/null)" != "$wanted" ] || exit 0

apt="$folder/.apt"
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: > "$apt/status"
apt_get() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$apt" \
    -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@" >&2
}
apt_get update
# shellcheck disable=SC2086
apt_get install -y --download-only --no-install-recommends $PACKAGES
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$folder"
done
rm -rf "$apt"
# Links to absolute paths would lead out of the folder.
find "$folder" -type l | while read -r link; do
  target=$(readlink "$link")
  case $target in
    /*) ln -sfn "$folder$target" "$link" ;;
  esac
done
echo "$wanted" > "$folder/.packages"
