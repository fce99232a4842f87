"""A story that anyone can run: simulators of the four providers, faithful down to their odd answers."""
