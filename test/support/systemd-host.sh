#!/bin/bash
# A host for tests of units: systemd as process 1 of namespaces of its own, with the machine's files
# below it and every change in memory. Nothing of the machine is changed, and all of it is gone with
# the process that this script becomes.
#
#   systemd-host.sh STAGE        STAGE/usr-local → /usr/local, STAGE/etc → /etc, laid over what is
#                                there; STAGE/setup, if it is there, is run before systemd starts;
#                                STAGE itself is seen as it is, for images and logs
#
# To be started as root by: unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child
set -euo pipefail
stage=$1

mount --make-rprivate /
mount -t proc proc /proc
memory=/run/systemd-host
mount -t tmpfs tmpfs /run
mkdir -p "$memory" /run/lock /run/netns
mount -t tmpfs tmpfs "$memory"

# What is under a folder, with STAGE's files above it and room for more.
lay_over() {
  local folder=$1 files=$2
  mkdir -p "$memory/$files-new" "$memory/$files-work"
  if [ -d "$stage/$files" ]; then cp -a "$stage/$files/." "$memory/$files-new/"; fi
  mount -t overlay overlay \
    -o "lowerdir=$folder,upperdir=$memory/$files-new,workdir=$memory/$files-work" "$folder"
}
lay_over /etc etc
lay_over /usr/local usr-local
mkdir -p "$memory/var-lib"
mount --bind "$memory/var-lib" /var/lib

# Devices as udev makes them on a host: /dev/kvm for its group, /dev/net/tun for all.
mount -t tmpfs -o mode=755 tmpfs /dev
mkdir -p /dev/net /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts -o newinstance,ptmxmode=666
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/full c 1 7
mknod -m 666 /dev/random c 1 8
mknod -m 666 /dev/urandom c 1 9
mknod -m 666 /dev/tty c 5 0
mknod -m 600 /dev/console c 5 1
mknod -m 600 /dev/kvm c 10 232
mknod -m 666 /dev/net/tun c 10 200
ip link set lo up

if [ -x "$stage/setup" ]; then "$stage/setup"; fi
export container=other SYSTEMD_UNIT_PATH=/etc/systemd/test
exec /lib/systemd/systemd --system --unit=test.target --show-status=0 --log-target=console \
  --log-level=info
