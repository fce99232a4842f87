"""What can be done from the shell?"""

from typing import Any

import click

from relay import __version__
from relay.cli import act, ask, cases, demo, look, match, replay, run, schema, send
from relay.condition import near
from relay.errors import ConfigError, RelayError
from relay.log import plain

NAMES = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Relay(click.Group):
    """The command group: relay's own errors become lines a person can act on, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Exit codes: 0 fine, 1 failed, 2 wrong input."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(plain(str(problem)), err=True)
            ctx.exit(2)
        except RelayError as error:
            click.echo(plain(f"relay: {error}"), err=True)
            ctx.exit(1)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for; what is none has a near miss, or the list."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = near(name, self.commands) or f"known: {', '.join(sorted(self.commands))}"
            ctx.fail(f"there is no command '{plain(name)}' ({hint})")
        return super().resolve_command(ctx, args)


@click.group(cls=Relay, context_settings=NAMES)
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """
    Turn "it failed" into "it recovered".

    relay hears that something failed, finds the rule for it in rules.toml, makes the provider's own retry
    call, durably, and shows what came of it. Begin with `relay demo`.
    """


COMMANDS = (
    *(run.serve, look.check, match.match, replay.replay, schema.schema, send.send, demo.demo),
    *(ask.events, ask.calls, ask.providers, ask.windows, cases.cases, cases.case, cases.watches),
    *act.COMMANDS,
)
for command in COMMANDS:
    main.add_command(command)
