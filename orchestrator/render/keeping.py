"""How a guest keeps its answer file, so that the disc with it can be taken away after setup.

Without the disc cloud-init would find no source at the next boot, or another one, and take the machine for a new
instance: new host keys, setup once more. A NoCloud source may also be a folder in the guest, with the same texts: it
is found at every boot, by ds-identify and by cloud-init itself, and goes with the overlay when a machine is made anew.
"""

from __future__ import annotations

SCRIPT = r"""
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
umask 077
kept=/var/lib/cloud/seed/nocloud
[ ! -e $kept/meta-data ] || exit 0
from=/run/cloud-init/seed # where the image tiny has read it to
if [ ! -e $from/meta-data ]; then
    disc=/dev/disk/by-label/cidata from=/run/vmrole/seed
    [ -e $disc ] || disc=$(blkid -t LABEL=cidata -o device | head -n 1)
    mkdir -p $from && mount -o ro "$disc" $from || exit
    trap 'umount $from' EXIT
fi
rm -rf $kept.new
mkdir -p $kept.new
for file in meta-data user-data vendor-data network-config; do
    [ ! -e $from/$file ] || cp $from/$file $kept.new/ || exit
done
chmod 600 $kept.new/*
sync
rm -rf $kept
mv $kept.new $kept && sync
"""


def keep_argv() -> list[str]:
    """The words to run it with, at every boot; exit code 0: it is kept."""
    return ["sh", "-c", SCRIPT, "vmrole-keep"]
