# boot LOWER MNT NAME: PID 1 of a machine's PID namespace. Run by Boot.
#
# All mounts are made in this mount namespace and the changes are kept in a
# tmpfs: nothing needs to be cleaned up, whoever is killed when.
lower=$1 mnt=$2 name=$3

mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=0755,size=1g tmpfs "$mnt"
mkdir "$mnt/upper" "$mnt/work" "$mnt/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$mnt/upper,workdir=$mnt/work" "$mnt/root"

# --keep-unit, --register=no: works without a systemd on the host.
# --capability, --system-call-filter: what a daemon on a real host may do, minus
# what its own unit takes away.
exec systemd-nspawn --directory="$mnt/root" --boot --machine="$name" \
	--register=no --keep-unit --console=pipe \
	--capability=all \
	--system-call-filter="bpf perf_event_open pidfd_getfd kcmp open_by_handle_at" \
	--bind=/dev/kmsg </dev/null
