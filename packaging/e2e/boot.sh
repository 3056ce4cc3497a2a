# boot LOWER MNT NAME CGROUP: PID 1 of a machine's PID namespace. Run by Boot.
#
# All mounts are made in this mount namespace and the changes are kept in a
# tmpfs: nothing needs to be cleaned up, whoever is killed when.
lower=$1 mnt=$2 name=$3 cgroup=$4

mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=0755,size=1g tmpfs "$mnt"
mkdir "$mnt/upper" "$mnt/work" "$mnt/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$mnt/upper,workdir=$mnt/work" "$mnt/root"

# systemd-nspawn makes its groups in the one that it finds itself in, which must
# have no other process.
mkdir "$cgroup/boot"
echo 0 >"$cgroup/boot/cgroup.procs"

# --keep-unit, --register=no: works without a systemd on the host.
# --capability, --system-call-filter: what a daemon on a real host may do, minus
# what its own unit takes away.
boot() {
	echo 0 >"$cgroup/cgroup.procs"
	exec systemd-nspawn --directory="$mnt/root" --boot --machine="$name" \
		--register=no --keep-unit --console=pipe \
		--capability=all \
		--system-call-filter="bpf perf_event_open pidfd_getfd kcmp open_by_handle_at" \
		--bind=/dev/kmsg </dev/null
}

# 133 is how systemd-nspawn with --keep-unit says that the machine has rebooted:
# it comes back on the same root file system.
status=133
while [ "$status" = 133 ]; do
	status=0
	(boot) || status=$?
done
exit "$status"
