"""Which file systems a database must not be on: those where another machine may write, too.

SQLite's write-ahead log needs shared memory and locks that all its processes see; over a network neither holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

NETWORK: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs",
    "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.rclone", "davfs", "fuse.davfs2",
})  # fmt: skip

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def network_type(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Return the name of the network file system that holds `folder`, empty if it is local or nobody knows."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return _windows_share(folder)
    place = folder.resolve()
    best, kind = -1, ""
    for line in lines:
        mount, found = _mount_of(line)
        # The later of two mounts at one place hides the earlier.
        if len(mount.parts) >= best and place.is_relative_to(mount):
            best, kind = len(mount.parts), found
    return kind if kind in NETWORK else ""


def _mount_of(line: str) -> tuple[Path, str]:
    """Return the place and the type of a line of mountinfo: fields, ` - `, then type, source and options."""
    fields, _, rest = line.partition(" - ")
    place = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
    return Path(place), rest.partition(" ")[0]


def _windows_share(folder: Path) -> str:
    return "smb" if str(folder.absolute()).startswith("\\\\") else ""
