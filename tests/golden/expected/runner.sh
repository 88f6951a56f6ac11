#!/bin/sh

PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=${HOME:-/root}
export PATH HOME
umask 022
cd /

state() { # LINE...: whole or not at all
    printf '%s\n' "$@" >/run/vmrole/setup.new && mv -f /run/vmrole/setup.new /run/vmrole/setup
}

uptime_s() {
    read -r up _ </proc/uptime
    echo "${up%%.*}"
}

# An image may have been made of a machine that had such a script: this one is only for its own.
begin() { # INSTANCE-ID
    read -r now </var/lib/cloud/data/instance-id 2>/dev/null
    [ "$now" = "$1" ] || exit 0
    folder=/var/lib/vmrole/setup/$1
    mkdir -p /run/vmrole "$folder" && chmod 700 /var/lib/vmrole/setup || exit 1
    [ ! -s /run/vmrole/disks.failed ] || { cat /run/vmrole/disks.failed >&2; exit 1; }
}

failed() { # WHEN NAME
    said=$(tail -c 2000 "$file.out" 2>/dev/null | tail -n 5 | tr -d '\000' | sed 's/^/out /')
    read -r code <"$file.code" || code=1
    state "failed $1 $code $2" "$said"
    echo "$2: exit code $code: $(tail -n 1 "$file.out" 2>/dev/null)" >&2
    [ "$1" != first_boot ] || exit 1
    exit 0
}

# Run WORD... for LIMIT seconds at most; its output is capped once it has ended, as it may leave a service behind.
run() { # WHEN LIMIT NAME WORD...
    when=$1 limit=$2 name=$3
    shift 3
    if [ "$when" = first_boot ] && [ -e "$file.begun" ]; then
        read -r code <"$file.code" 2>/dev/null || code=0 # it rebooted the machine
        [ "$code" = 0 ] || failed "$when" "$name"
        return
    fi
    state "running $when 0 $name"
    rm -f "$file.code"
    : >"$file.begun"
    [ "$when" != first_boot ] || sync
    begun=$(uptime_s)
    timeout -k 10 "$limit" "$@" </dev/null >"$file.out" 2>&1
    code=$?
    case $code in 124 | 137 | 143) [ $(($(uptime_s) - begun)) -lt "$limit" ] || code=timeout ;; esac
    echo "$code" >"$file.code"
    if [ "$(wc -c <"$file.out")" -gt 262144 ]; then
        tail -c 262144 "$file.out" >"$file.cut" && mv -f "$file.cut" "$file.out"
    fi
    cat "$file.out"
    [ "$code" = 0 ] || failed "$when" "$name"
}

words() { # NUMBER WHEN LIMIT NAME WORD...
    file=$folder/$1
    shift
    run "$@"
}

text() { # NUMBER WHEN LIMIT NAME TEXT: a shell line, or a script that names its own interpreter
    file=$folder/$1
    printf '%s\n' "$5" >"$file.script"
    chmod 700 "$file.script"
    case $5 in
    '#!'*) run "$2" "$3" "$4" "$file.script" ;;
    *) run "$2" "$3" "$4" sh "$file.script" ;;
    esac
}

begin hello.production.web-0.g1
words 000-first_boot first_boot 600 'the disks' sh -c '
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
STAMP='"'"'vmrole: formatting'"'"'
umask 022

# The number of 32 bits at byte $2 of $1.
number() { od -A n -t u4 -j "$2" -N 4 "$1" | tr -d '"'"' '"'"'; }

# What is on $1, of $2 KiB: ours (ext4), blank, unfinished (the first mkfs was cut short), or foreign.
# What cannot be read is not blank: the zero bytes are counted.
content() {
    stamp=$(dd if="$1" bs=1024 skip=$(($2 - 1024)) count=1 2>/dev/null | tr -d '"'"'\0'"'"')
    if [ "$(od -A n -t x1 -j 1080 -N 2 "$1" | tr -d '"'"' '"'"')" = 53ef ]; then
        if [ "$stamp" = "$STAMP" ] && [ "$(number "$1" 1068)" = 0 ]; then # when it was mounted: never
            echo unfinished
        else
            echo ours
        fi
    elif [ "$stamp" = "$STAMP" ]; then
        echo unfinished
    elif [ "$(head -c 1048576 "$1" | tr -dc '"'"'\0'"'"' | wc -c)" -eq 1048576 ]; then
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
        found='"'"''"'"'
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
        *) failed '"'"'its file system is damaged, and e2fsck does not mend it without being asked'"'"'; return 1 ;;
        esac
        ;;
    blank | unfinished)
        format "/dev/$device" "$kib" || { failed '"'"'no file system could be made on it'"'"'; return 1; }
        ;;
    *)
        failed '"'"'it is not blank, and what is on it is not ext4: left as it is, not mounted'"'"'
        return 1
        ;;
    esac
    mount -t ext4 -o noatime,nodev "/dev/$device" "$mount" || { failed '"'"'it cannot be mounted'"'"'; return 1; }
}

remember() {
    has_systemd && ! in_fstab || return 0
    [ -z "$(tail -c 1 /etc/fstab 2>/dev/null)" ] || echo >>/etc/fstab
    echo "/dev/disk/by-id/virtio-$serial $mount ext4 $FSTAB 0 2" >>/etc/fstab
}

mount_disk() {
    find_disk || return 1
    mkdir -p "$mount" || { failed '"'"'its folder cannot be made'"'"'; return 1; }
    is_mounted || mount_by_systemd || mount_by_hand || return 1
    remember
    grow "/dev/$device" "$kib" || { failed '"'"'its file system cannot be enlarged'"'"'; return 1; }
    chmod "$mode" "$mount" || { failed "its mode cannot be $mode"; return 1; }
    chown "$owner" "$mount" 2>/dev/null || : # the user may be made later; "own" asks again
}

own_disk() {
    find_disk || return 1
    is_mounted || { failed '"'"'it is not mounted'"'"'; return 1; }
    chown "$owner" "$mount" 2>/dev/null || failed "there is no such user or group: $owner"
}

grow_disk() {
    find_disk || return 1
    is_mounted || { failed '"'"'it is not mounted'"'"'; return 1; }
    grow "/dev/$device" "$kib" || failed '"'"'its file system cannot be enlarged'"'"'
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
' vmrole-disks own 1 vmr-73df6da6e88c /srv/data root:root 0755 data
text 001-first_boot first_boot 600 first 'echo 0; exit 0'
words 002-every_boot every_boot 600 'touch '"'"'/tmp/a b'"'"'' touch '/tmp/a b'
text 003-start_up start_up 60 migrate '#!/usr/bin/python3
print(1)'
state finished
