#!/bin/sh
# SPDX-License-Identifier: MIT
# Fetches and unpacks a Debian release's own kernel; nothing is installed, and no right is needed.
#
# usage: tests/oldkernel/kernel.sh RELEASE FOLDER      RELEASE: bookworm (6.1), bullseye (5.10)
#
# FOLDER/boot and FOLDER/lib/modules are what the package has. apt-get is asked, with lists of its
# own below FOLDER, so that the machine's release does not matter. Done once: what is there stays.
#
# Exit status: 0, or 77 if the package cannot be had (and why).
set -eu

release=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
keys=/usr/share/keyrings/debian-archive-keyring.gpg

[ ! -e "$folder/ready" ] || exit 0
for need in apt-get apt-cache dpkg-deb; do
    command -v $need >/dev/null || { echo "no $need here"; exit 77; }
done
# The archive is that which the machine has its own packages from: as it says, or as apt knows it.
# shellcheck disable=SC2016 # the dollar is apt's
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
    sed -n 's,/debian$,,p' | head -n 1)}
[ "$mirror" ] || { echo "no archive of Debian is known here: set DEBIAN_MIRROR"; exit 77; }
[ -e $keys ] || { echo "no keys of Debian's archive here ($keys)"; exit 77; }

mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
cat >"$folder/sources.list" <<END
deb [signed-by=$keys arch=amd64] $mirror/debian $release main
deb [signed-by=$keys arch=amd64] $mirror/debian-security $release-security main
END
# What is downloaded is not handed to the user _apt, who may not reach the folder.
cat >"$folder/apt.conf" <<END
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "0";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Etc::SourceList "$folder/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$folder/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$folder/cache";
END
export APT_CONFIG="$folder/apt.conf"
apt-get -q update >"$folder/apt.log" 2>&1 || { echo "apt-get update failed for $release"; exit 77; }

meta=linux-image-cloud-amd64
package=$(apt-cache depends $meta 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
[ "$package" ] || { echo "$release has no $meta"; exit 77; }
cd "$folder"
apt-get -q download "$package" >>apt.log 2>&1 || { echo "apt-get could not download $package"; exit 77; }
dpkg-deb -x "$package"_*.deb .
rm -rf "$package"_*.deb lists cache
: >ready
