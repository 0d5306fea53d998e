#!/usr/bin/env bash
# The first process of a host made of namespaces: its own name, home, /tmp/ray, shared memory, sshd.
set -euo pipefail
name=$1 address=$2 keys=$3 own=$4 home=$5
hostname "$name"
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs /dev/shm
mkdir -p /tmp/ray && mount -t tmpfs -o size=1g tmpfs /tmp/ray
mount -t tmpfs -o size=256m tmpfs "$home"
sed "s#^root:\([^:]*\):0:0:[^:]*:[^:]*:#root:\1:0:0:root:$home:#" /etc/passwd > "$own/passwd"
mount --bind "$own/passwd" /etc/passwd
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" > "$own/hosts"
mount --bind "$own/hosts" /etc/hosts
touch "$home/.bashrc"
cat > "$own/sshd_config" <<CONFIG
Port 22
ListenAddress $address
HostKey $keys/hostkey
AuthorizedKeysFile $keys/id.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PidFile none
PrintMotd no
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
CONFIG
mkdir -p /run/sshd
export HOME=$home
/usr/sbin/sshd -D -e -f "$own/sshd_config" &
while :; do wait -n || sleep 0.2; done  # takes in orphans, as a first process must
