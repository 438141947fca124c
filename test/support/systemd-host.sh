#!/bin/bash
# A host for tests of units: systemd as process 1 of namespaces of its own, in a control group of its
# own, with the machine's files below it and every change in memory. Nothing of the machine is
# changed. As root:
#
#   systemd-host.sh NAME STAGE   STAGE/etc is laid over /etc, STAGE/usr-local over /usr/local;
#                                STAGE/setup, if it is there, is run before systemd starts; STAGE
#                                itself is seen as it is, for logs. NAME is that of the control
#                                group, which the caller removes.
#
# Units are looked for in /etc/systemd/test and /usr/local/lib/systemd/system alone.
set -euo pipefail

# A control group in every hierarchy of the machine, and this process in it.
join_group() {
  local name=$1 groups number controllers path folder
  # As a whole before the first step: it changes with each.
  groups=$(</proc/self/cgroup)
  while IFS=: read -r number controllers path; do
    case $number:$controllers in
      0:) folder=/sys/fs/cgroup/unified && [ -d $folder ] || folder=/sys/fs/cgroup ;;
      *:name=*) folder=/sys/fs/cgroup/${controllers#name=} ;;
      *) folder=/sys/fs/cgroup/$controllers ;;
    esac
    mkdir -p "$folder/$name"
    if [ -e "$folder/$name/cpuset.cpus" ] && [ "$number" != 0 ]; then
      cat "$folder/cpuset.cpus" >"$folder/$name/cpuset.cpus"
      cat "$folder/cpuset.mems" >"$folder/$name/cpuset.mems"
    fi
    echo $$ >"$folder/$name/cgroup.procs"
  done <<<"$groups"
}

# The hierarchies as seen from that group: what is above it is out of sight and out of reach.
mount_groups() {
  local number controllers path folder
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  while IFS=: read -r number controllers path; do
    case $number:$controllers in
      0:)
        folder=/sys/fs/cgroup
        if [ "$(wc -l </proc/self/cgroup)" -gt 1 ]; then folder=/sys/fs/cgroup/unified; fi
        mkdir -p $folder && mount -t cgroup2 cgroup2 $folder
        ;;
      *)
        folder=/sys/fs/cgroup/${controllers#name=}
        mkdir -p "$folder" && mount -t cgroup -o "$controllers" cgroup "$folder"
        ;;
    esac
  done </proc/self/cgroup
}

# What is under a folder, with STAGE's files above it and room for more.
lay_over() {
  local folder=$1 files=$2
  mkdir -p "$memory/$files-new" "$memory/$files-work"
  if [ -d "$stage/$files" ]; then cp -a "$stage/$files/." "$memory/$files-new/"; fi
  mount -t overlay overlay \
    -o "lowerdir=$folder,upperdir=$memory/$files-new,workdir=$memory/$files-work" "$folder"
}

# Devices as udev makes them on a host: /dev/kvm for its group, /dev/net/tun for all.
make_devices() {
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
}

if [ "$1" != --inside ]; then
  join_group "$1"
  exec unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child "$0" --inside "$2"
fi

stage=$2
memory=/run/systemd-host
mount --make-rprivate /
mount -t proc proc /proc
mount_groups
mount -t tmpfs tmpfs /run
mkdir -p "$memory" /run/lock /run/netns
mount -t tmpfs tmpfs "$memory"
lay_over /etc etc
lay_over /usr/local usr-local
mkdir -p "$memory/var-lib"
mount --bind "$memory/var-lib" /var/lib
make_devices
ip link set lo up
if [ -x "$stage/setup" ]; then "$stage/setup"; fi
export container=other SYSTEMD_UNIT_PATH=/etc/systemd/test:/usr/local/lib/systemd/system
exec /lib/systemd/systemd --system --unit=test.target --show-status=0 --log-target=console \
  --log-level=info
