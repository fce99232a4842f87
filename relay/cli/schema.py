"""What may stand in the files, as editors read it?"""

from typing import cast

import click

from relay.cli import options
from relay.schema.editor import Kind, for_editors


@click.command()
@click.option("--rules", "kind", flag_value="rules", default="rules", help="Of rules.toml; so without any.")
@click.option("--provider", "kind", flag_value="provider", help="Of a provider's file.")
@click.option("--source", "kind", flag_value="source", help="Of a source's file.")
def schema(kind: str) -> None:
    """
    Print the JSON Schema of a file, for editors.

    `relay schema > rules.schema.json`, and `#:schema rules.schema.json` as the first line of rules.toml.
    """
    options.print_json(for_editors(cast(Kind, kind)))
