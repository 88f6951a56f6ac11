"""`vmrole convert`: files of Azure, Windows and cloud-init that people have, made into a service file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import UserError
from orchestrator.model.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from orchestrator.convert.files import Converted, Given

TO_STDOUT = "-"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", default=TO_STDOUT, help="Where to write it; else to stdout.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--image", "images", multiple=True, metavar="[ROLE=]NAME", help="The image of a role, or of all.")
@click.option("--service", metavar="NAME", default="", help="The service's name, if not that of the files.")
@click.option("--role", metavar="NAME", default="", help="The role that an unattend.xml or a user-data is for.")
@click.option("--json", "as_json", is_flag=True, help="Print the service and the report as JSON.")
def convert(files: tuple[Path, ...], output: str, force: bool, images: tuple[str, ...], **said: object) -> None:
    """Make a service file of a service definition (.csdef) and its configuration (.cscfg).

    An unattend.xml or a cloud-init user-data becomes the setup of a role, alone or beside them. What a file is, is seen
    by what is in it. The report of what was dropped, what was changed and what you have to decide goes to stderr.

    \b
    Example:
      vmrole convert foo.csdef foo.cscfg -o service.yaml --image frontend=web:1.4
      vmrole convert user-data --service hello --image debian-12
    """
    from orchestrator.cli.view import print_json
    from orchestrator.convert import files as converting

    service, role, as_json = str(said["service"]), str(said["role"]), bool(said["as_json"])
    for option, name in (("--service", service), ("--role", role)):
        if name and not is_name(name):
            raise UserError(f"{option} {name!r:.60} is not a name: {NAME_RULE}")
    _refuse_to_overwrite(output, force)
    wishes = converting.Wishes(_images(images), service, role)
    made = converting.convert([_read(path) for path in files], wishes)
    if output != TO_STDOUT:
        _write(Path(output), made.text)
    if as_json:
        print_json({"service": made.value, "report": [note.as_json() for note in made.notes]})
        return
    if output == TO_STDOUT:
        click.echo(made.text, nl=False)
    _report(made, output)


def _images(said: tuple[str, ...]) -> dict[str, str]:
    pairs = (text.rpartition("=") for text in said)
    return {role: image for role, _equals, image in pairs}


def _read(path: Path) -> Given:
    from orchestrator.convert.files import MAX_BYTES, Given

    try:
        with path.open("rb") as file:
            return Given(path.name, file.read(MAX_BYTES + 1))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _refuse_to_overwrite(output: str, force: bool) -> None:
    if output != TO_STDOUT and Path(output).exists() and not force:
        raise UserError(f"{output} is there already", "give another name, or --force to write over it")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _report(made: Converted, output: str) -> None:
    for note in made.notes:
        click.echo(str(note), err=True)
    if output != TO_STDOUT:
        click.echo(f"{output} is written; `vmrole plan {output}` says what it would do", err=True)
