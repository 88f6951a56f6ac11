"""Answer file discs: ISO 9660 with Rock Ridge and Joliet, made in memory, without a program or a disk."""

from __future__ import annotations

import io


class IsoSeeds:
    """Makes a disc of a few small files in the root folder."""

    def disc(self, label: str, files: dict[str, bytes]) -> bytes:
        """The image of a disc labelled ``label``; names as given for Linux and Windows (Rock Ridge, Joliet)."""
        import pycdlib  # noqa: PLC0415 - takes long to load, and most commands make no disc

        iso = pycdlib.PyCdlib()
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
        for number, (name, content) in enumerate(sorted(files.items())):
            # The plain ISO 9660 name is read by nobody: it only has to be unique and in capitals.
            iso.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
        out = io.BytesIO()
        iso.write_fp(out)
        iso.close()
        return out.getvalue()
