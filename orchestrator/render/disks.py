"""What a guest does with its disks: a script for its own shell, and the words to call it with.

POSIX sh, for busybox as well; every value is an argument, none is part of the text. What it never does is to format
a disk that is not blank. A power cut during the first mkfs leaves a stamp in the disk's last MiB, which no file system
of ours reaches: a disk with the stamp has never been mounted, so nothing is lost when it is formatted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.disks import serial

if TYPE_CHECKING:
    from orchestrator.model.spec import Disk

# What works on any file, so that it can be tried on any file.
FUNCTIONS = r"""
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
STAMP='vmrole: formatting'
umask 022

# The number of 32 bits at byte $2 of $1.
number() { od -A n -t u4 -j "$2" -N 4 "$1" | tr -d ' '; }

# What is on $1, of $2 KiB: ours (ext4), blank, unfinished (the first mkfs was cut short), or foreign.
# What cannot be read is not blank: the zero bytes are counted.
content() {
    stamp=$(dd if="$1" bs=1024 skip=$(($2 - 1024)) count=1 2>/dev/null | tr -d '\0')
    if [ "$(od -A n -t x1 -j 1080 -N 2 "$1" | tr -d ' ')" = 53ef ]; then
        if [ "$stamp" = "$STAMP" ] && [ "$(number "$1" 1068)" = 0 ]; then # when it was mounted: never
            echo unfinished
        else
            echo ours
        fi
    elif [ "$stamp" = "$STAMP" ]; then
        echo unfinished
    elif [ "$(head -c 1048576 "$1" | tr -dc '\0' | wc -c)" -eq 1048576 ]; then
        echo blank
    else
        echo foreign
    fi
}

# A file system on $1, of $2 KiB, that leaves the last MiB to the stamp.
format() {
    printf %s "$STAMP" | dd of="$1" bs=1024 seek=$(($2 - 1024)) conv=notrunc,fsync 2>/dev/null &&
        mkfs.ext4 -q -F -b 4096 -m 0 "$1" $(($2 - 1024))k </dev/null && sync &&
        dd if=/dev/zero of="$1" bs=1024 seek=$(($2 - 1024)) count=1 conv=notrunc,fsync 2>/dev/null
}

# Enlarge the file system on $1, of $2 KiB, if there is room for a MiB or more.
grow() {
    have=$(($(number "$1" 1028) << $(number "$1" 1048)))
    [ $(($2 - 1024 - have)) -lt 1024 ] || resize2fs "$1" $(($2 - 1024))k
}
"""

SCRIPT = (
    FUNCTIONS
    + r"""
FAILED=/run/vmrole/disks.failed
FSTAB=noatime,nodev,nofail,x-systemd.device-timeout=30s,x-systemd.before=local-fs.target

failed() {
    echo "disk $name ($mount): $1" | tee -a $FAILED >&2
    return 1
}

uptime_s() {
    read -r up idle </proc/uptime
    echo "${up%%.*}"
}

# $device and its $kib, by the serial number; "read" fails where no newline ends the file.
look() {
    for file in /sys/block/*/serial; do
        found=''
        read -r found 2>/dev/null <"$file" || :
        [ "$found" = "$serial" ] || continue
        device=${file%/serial}
        read -r sectors <"$device/size"
        device=${device##*/} kib=$((sectors / 2))
        return 0
    done
    return 1
}

# Until it is there, and of $least KiB: the kernel may be told later than we are.
find_disk() {
    kib=0
    until look && [ "$kib" -ge "$least" ]; do
        if [ "$(uptime_s)" -ge "$deadline" ]; then
            failed "no disk of $least KiB or more has the serial number $serial (seen: $kib KiB)"
            return 1
        fi
        sleep 0.1 2>/dev/null || sleep 1
    done
}

is_mounted() {
    read -r number <"/sys/block/$device/dev"
    point=$(readlink -f "$mount")
    while read -r id parent at root on rest; do
        [ "$at $on" != "$number $point" ] || return 0
    done </proc/self/mountinfo
    return 1
}

has_systemd() { [ -d /run/systemd/system ]; }
in_fstab() { grep -q "virtio-$serial " /etc/fstab 2>/dev/null; }

# From the second boot on systemd mounts it, perhaps right now: let it end.
mount_by_systemd() {
    has_systemd && in_fstab || return 1
    systemctl start "$(systemd-escape -p --suffix=mount "$mount")" 2>/dev/null
    is_mounted
}

mount_by_hand() {
    case $(content "/dev/$device" "$kib") in
    ours)
        e2fsck -p "/dev/$device" </dev/null
        case $? in
        0 | 1) ;;
        8 | 127) ;; # older than the file system, or not there: the kernel may still know it
        *) failed 'its file system is damaged, and e2fsck does not mend it without being asked'; return 1 ;;
        esac
        ;;
    blank | unfinished)
        format "/dev/$device" "$kib" || { failed 'no file system could be made on it'; return 1; }
        ;;
    *)
        failed 'it is not blank, and what is on it is not ext4: left as it is, not mounted'
        return 1
        ;;
    esac
    mount -t ext4 -o noatime,nodev "/dev/$device" "$mount" || { failed 'it cannot be mounted'; return 1; }
}

remember() {
    has_systemd && ! in_fstab || return 0
    [ -z "$(tail -c 1 /etc/fstab 2>/dev/null)" ] || echo >>/etc/fstab
    echo "/dev/disk/by-id/virtio-$serial $mount ext4 $FSTAB 0 2" >>/etc/fstab
}

mount_disk() {
    find_disk || return 1
    mkdir -p "$mount" || { failed 'its folder cannot be made'; return 1; }
    is_mounted || mount_by_systemd || mount_by_hand || return 1
    remember
    grow "/dev/$device" "$kib" || { failed 'its file system cannot be enlarged'; return 1; }
    chmod "$mode" "$mount" || { failed "its mode cannot be $mode"; return 1; }
    chown "$owner" "$mount" 2>/dev/null || : # the user may be made later; "own" asks again
}

own_disk() {
    find_disk || return 1
    is_mounted || { failed 'it is not mounted'; return 1; }
    chown "$owner" "$mount" 2>/dev/null || failed "there is no such user or group: $owner"
}

grow_disk() {
    find_disk || return 1
    is_mounted || { failed 'it is not mounted'; return 1; }
    grow "/dev/$device" "$kib" || failed 'its file system cannot be enlarged'
}

mkdir -p /run/vmrole
verb=$1 least=$2 code=0 deadline=$(($(uptime_s) + 10))
shift 2
case $verb in
mount) rm -f $FAILED ;;
own) [ ! -s $FAILED ] || { cat $FAILED >&2; exit 1; } ;;
esac
while [ $# -ge 5 ]; do
    serial=$1 mount=$2 owner=$3 mode=$4 name=$5
    shift 5
    "${verb}_disk" || code=1
done
exit $code
"""
)


def mount_argv(disks: tuple[Disk, ...]) -> list[str]:
    """At every boot: make file systems on first use, mount and enlarge. Ends with 1 if any disk failed."""
    return _argv("mount", 1, disks)


def own_argv(disks: tuple[Disk, ...]) -> list[str]:
    """Once the users are there: give the disks' root folders to their owners, or say which disk is not as wanted."""
    return _argv("own", 1, disks)


def grow_argv(disk: Disk) -> list[str]:
    """In a running guest: enlarge the file system to the disk, as soon as the guest sees how large that is now."""
    return _argv("grow", disk.size_mib * 1024, (disk,))


def _argv(verb: str, least_kib: int, disks: tuple[Disk, ...]) -> list[str]:
    words = [word for disk in disks for word in (serial(disk), disk.mount, disk.owner, disk.mode, disk.name)]
    return ["sh", "-c", SCRIPT, "vmrole-disks", verb, str(least_kib), *words]
