"""`chatsafe doctor`: check everything, and name the command that fixes what is wrong."""

import asyncio
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import click

from chatsafe_cli.daemon_checks import check_daemon
from chatsafe_cli.failure import ExitCode, Failure
from chatsafe_cli.finding import Finding, ok, problem
from chatsafe_cli.group import given_url, json_option, url_option
from chatsafe_cli.machine_checks import check_files, check_models, check_program, check_reach
from chatsafe_cli.render import print_json, printable
from chatsafe_cli.target import find_target
from chatsafe_config.errors import ConfigError
from chatsafe_config.loading import load_settings

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@json_option
@url_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation, the settings, the models and the daemon.

    Exit code 0 when nothing is broken (warnings do not count), 1 otherwise.
    """
    findings = examine(given_url(), os.environ, Path.cwd())
    num_problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        print_json({"problems": num_problems, "findings": findings})
    else:
        for finding in findings:
            _print(finding)
        click.echo(f"{num_problems or 'no'} problem{'' if num_problems == 1 else 's'}")
    ctx.exit(ExitCode.FAILED if num_problems else ExitCode.OK)


def examine(url: str | None, environ: Mapping[str, str], cwd: Path) -> list[Finding]:
    """All findings. What cannot be checked because something before it is broken is left out."""
    findings = [*check_program()]
    try:
        loaded = load_settings({}, environ, config_file=None, cwd=cwd)
    except ConfigError as error:
        findings.append(problem("settings", str(error), "correct it, then: chatsafe doctor"))
    else:
        changed = sum(origin != "default" for origin in loaded.origins.values())
        findings.append(ok("settings", f"valid, {changed} changed from their defaults"))
        findings += check_files(loaded, environ, cwd)
        findings += check_models(loaded.settings, environ)
        findings.append(check_reach(loaded.settings))
    try:
        target = find_target(url, environ, cwd)
        findings += asyncio.run(check_daemon(target, version("chatsafe-cli")))
    except Failure as failure:
        findings.append(problem("daemon", failure.what, failure.fix))
    except ConfigError:
        pass  # found above; without settings, nobody knows where the daemon is
    return findings


def _print(finding: Finding) -> None:
    level = click.style(finding.level.ljust(8), fg=_COLORS[finding.level], bold=True)
    click.echo(f"{level} {finding.subject}: {printable(finding.text)}")
    if finding.fix:
        click.echo(f"{' ' * 9}do: {printable(finding.fix)}")
