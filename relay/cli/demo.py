"""How is relay tried in a minute?"""

import click


@click.command()
@click.option("--once", is_flag=True, help="End when the story is told: 0 if all came out right, else 1.")
def demo(once: bool) -> None:  # noqa: FBT001 - click's way
    """
    Play a story of things that fail, with simulated providers.

    Needs no account and no set-up, talks to this machine only, and leaves nothing behind.
    """
    from relay.demo.story import tell  # noqa: PLC0415 - slow to load

    raise SystemExit(tell(once=once))
