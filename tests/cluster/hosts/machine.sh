#!/bin/sh
# Makes the namespaces that it is started in a machine of its own, says `ready` and becomes its init, given as arguments.
#
# The root is a file system in memory. Of the real machine it has /usr, a copy of /etc, the Python below $PYTHON and, at
# $ENVIRONMENT, the virtual environment $INSTALLED; what is written to that stays in memory. $SHARED, if set, is mounted at
# /shared, and $PROJECT at /root/likeness.
set -eu

mount --make-rprivate /
mount -t tmpfs -o mode=755 "$NAME" "$ROOT"
cd "$ROOT"
mkdir -p dev etc home old proc root run/sshd sys tmp usr
chmod 1777 tmp

mount --rbind /usr usr
mount -o remount,bind,ro usr
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -P "/$name" "$name"; fi
done

cp -a /etc/. etc
rm -rf etc/ssh etc/pip.conf etc/resolv.conf etc/hostname etc/hosts
echo "$NAME" > etc/hostname
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NAME" > etc/hosts
: > etc/resolv.conf # there is nobody to ask
hostname "$NAME"
# pip finds what it needs installed, or fails. Its `false` for this option means: yes, without isolation.
printf '[global]\nno-index = true\n[install]\nno-build-isolation = false\n' > etc/pip.conf

# The same number on all machines, as the shared folder needs it; a group of each machine's own tells who wrote a file.
echo "likeness:x:$USER_ID:$GROUP_ID::/home/likeness:/bin/bash" >> etc/passwd
echo "likeness:x:$GROUP_ID:" >> etc/group
echo 'likeness:*:20000:0:99999:7:::' >> etc/shadow # no password, yet not locked
cp -a /etc/skel home/likeness
mkdir home/likeness/likeness
chown -R "$USER_ID:$GROUP_ID" home/likeness

if [ "${PYTHON#/usr/}" = "$PYTHON" ]; then
    mkdir -p ".$PYTHON"
    mount --bind "$PYTHON" ".$PYTHON"
    mount -o remount,bind,ro ".$PYTHON"
fi
mkdir -p ".$ENVIRONMENT" changes scratch
mount -t overlay environment -o "lowerdir=$INSTALLED,upperdir=$ROOT/changes,workdir=$ROOT/scratch" ".$ENVIRONMENT"
# Its programs begin with the path that the environment was made at, and Likeness is installed from the real machine's folder.
find ".$ENVIRONMENT/bin" -type f -exec sed -i "1s|^#!.*/bin/python.*|#!$ENVIRONMENT/bin/python|" {} +
packages=$(echo ".$ENVIRONMENT"/lib/python3.*/site-packages)
rm -rf "$packages"/likeness-*.dist-info "$packages"/__editable__*likeness*
chown "$USER_ID:$GROUP_ID" ".$ENVIRONMENT/bin" "$packages"

if [ -n "${SHARED:-}" ]; then
    mkdir shared
    mount --bind "$SHARED" shared
fi
if [ -n "${PROJECT:-}" ]; then
    mkdir -p root/likeness
    mount --bind "$PROJECT" root/likeness
    mount -o remount,bind,ro root/likeness
fi

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
echo '100000 100000' > sys/fs/cgroup/cpu.max # one core, where Ray looks for a machine's share
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
for name in full null random tty urandom zero; do
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

ssh-keygen -q -t ed25519 -N '' -f etc/host_key
mkdir -m 700 root/.ssh home/likeness/.ssh
chown "$USER_ID:$GROUP_ID" home/likeness/.ssh
mkdir etc/ssh
mv etc/host_key etc/ssh/ssh_host_ed25519_key
cat > etc/ssh/sshd_config << 'END'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers likeness
END

pivot_root . old
umount -l /old
rmdir /old
echo ready
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@" < /dev/null > /dev/null 2>&1
