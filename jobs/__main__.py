"""`python -m jobs`: the same as the `nightroute` command."""

from jobs.cli import main

if __name__ == "__main__":
    main()
