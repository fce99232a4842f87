"""``python -m relay``, and the command `relay`: Ctrl-C is no bug, not even while relay is still loading."""


def main() -> None:
    """Run the shell. Exit code 130: broken off before there was a command."""
    try:
        from relay.cli import main as shell  # noqa: PLC0415 - takes a third of a second

        shell()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
