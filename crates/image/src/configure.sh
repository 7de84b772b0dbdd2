# Runs inside the guest's directory tree, after its files are in place (`sh -eu`).
#
# What is switched off below is what no VM needs. It is worth the lines: under software emulation a
# service costs up to half a second of boot, and what wakes up an idle VM wakes up a thousand.

# Nothing that clones must not share.
rm -f /etc/ssh/ssh_host_*
rm -f /var/lib/systemd/random-seed /var/lib/dbus/machine-id
# Empty, not absent: absent is a "first boot", which presets every unit anew. systemd fills it in.
: >/etc/machine-id

if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then
    update-ca-certificates
fi

# The host boots its copy of this kernel with an initrd of its own, so a guest has no use for one
# and need not spend minutes on a new one at every upgrade.
rm -f /boot/initrd.img* /initrd.img*
sed -i 's/^update_initramfs=.*/update_initramfs=no/' /etc/initramfs-tools/update-initramfs.conf
apt-mark hold linux-image-amd64

export SYSTEMD_OFFLINE=1
systemctl enable freestyle-agent.service freestyle-network.service ssh.socket
# sshd starts with the first connection.
systemctl disable ssh.service
# Root's user manager runs from boot, so that it is in the snapshot that VMs start from and the
# first login need not wait for it.
mkdir -p /var/lib/systemd/linger
touch /var/lib/systemd/linger/root
systemctl --global disable ssh-agent.socket
# Timers that would wake every idle clone.
systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer
systemctl mask systemd-tmpfiles-clean.timer
# No login on a console nobody sees, and no question to anyone there.
systemctl disable getty@tty1.service
systemctl mask getty-static.service getty@.service serial-getty@.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path
# /tmp on the disk: in memory it would be copied with every snapshot.
systemctl mask tmp.mount
# The journal stays in memory, and randomness comes from the host.
systemctl mask systemd-journal-flush.service systemd-random-seed.service
# Hardware, firmware and storage that a VM has not. FUSE and the like load when they are used.
systemctl disable e2scrub_reap.service systemd-pstore.service
systemctl mask modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount dev-hugepages.mount run-lock.mount systemd-udev-load-credentials.service

# Generators look for more of the same; each is a process at every boot.
mkdir -p /etc/systemd/system-generators
for generator in debug getty gpt-auto hibernate-resume run ssh system-update tpm2; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done

find /var/log -type f -delete
rm -rf /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old

# Says that /etc and /var belong to this /usr: no ldconfig, hwdb or catalogue update at boot.
touch -r /usr /etc/.updated /var/.updated
