# Functions that both image recipes share.  Sourced, never run; POSIX sh.
# shellcheck shell=sh

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# A private folder that goes away with us, however we end.
make_work_dir() {
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/vmrole-image.XXXXXX")
    trap 'rm -rf --one-file-system "$WORK"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Run a command; keep quiet unless it fails, then show the end of what it said.
quietly() {
    if ! "$@" >"$WORK/log" 2>&1; then
        tail -n 25 "$WORK/log" >&2
        die "'$1' failed, see the lines above"
    fi
}

need() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null ||
            die "'$tool' is missing: install the packages listed in $HERE/packages"
    done
}

# This machine's own apt sources, as far as they are Debian's and of release $1.
# So no mirror is named here, and whatever the administrator set up is used.
debian_sources() {
    apt-get indextargets \
        --format "\$(CODENAME)|\$(ORIGIN)|deb \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
        'Created-By: Packages' |
        sed -n -e "s/^$1\(-updates\|-security\|\)|Debian|//p" | sort -u
}

# $1: raw image to make, $2: size in MiB, $3: root file system (image file),
# $4: kernel command line.  Kernel and initrd are /vmlinuz and /initrd.img in
# the root file system (Debian keeps these two links up to date), so neither
# grub-install nor a mount is needed here, and no grub in the guest.
make_disk() {
    truncate -s "${2}M" "$1"
    printf '%s\n' 'label: dos' 'start=2048, type=83, bootable' |
        quietly sfdisk --no-reread --no-tell-kernel "$1"
    dd if="$3" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
    printf 'linux16 /vmlinuz %s\ninitrd16 /initrd.img\nboot\n' "$4" >"$WORK/grub.cfg"
    # linux16: "linux" would copy 54 MB byte by byte before it starts the kernel,
    # which takes two seconds without KVM.
    # The configuration runs in grub's rescue parser: no menu, no time-out, no
    # modules to load.  "(,msdos1)" is the first partition of the booted disk.
    quietly grub-mkimage -O i386-pc -o "$WORK/core.img" -c "$WORK/grub.cfg" \
        -p '(,msdos1)/boot' biosdisk part_msdos ext2 linux16
    [ "$(stat -c %s "$WORK/core.img")" -le $((2047 * 512)) ] ||
        die 'the boot loader does not fit in front of the partition'
    # 440 bytes: after them come the disk's signature and the partition table.
    dd if=/usr/lib/grub/i386-pc/boot.img of="$1" bs=440 count=1 conv=notrunc status=none
    dd if="$WORK/core.img" of="$1" bs=512 seek=1 conv=notrunc status=none
}
