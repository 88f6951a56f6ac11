"""`vmrole doctor`: what vmrole needs, checked one by one, each failure with the way to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.cli.context import Context

MARKS = {"ok": ("ok", "green"), "warn": ("warning", "yellow"), "bad": ("FAILED", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def doctor(context: Context, as_json: bool) -> int:
    """Check what the main job needs: libvirt, QEMU, accelerator, HAProxy, storage, space, permissions.

    Ends with 1 if something that is needed fails.

    \b
    Example:
      vmrole doctor
    """
    from orchestrator.cli.view import print_json
    from orchestrator.doctor import examine

    findings = []
    for finding in examine(context.home, context.connect, context.cache_dir):
        findings.append(finding)
        if not as_json:
            mark, colour = MARKS[finding.verdict]
            click.echo(f"{click.style(mark.ljust(8), fg=colour)} {finding.subject}: {finding.found}")
            if finding.mend:
                click.echo(f"         what to do: {finding.mend}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return int(any(finding.verdict == "bad" for finding in findings))
