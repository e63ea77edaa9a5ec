"""`python -m search.vote`: people vote on pairs of images (`search.voting`)."""

import typer

from search.voting.__main__ import main

if __name__ == "__main__":
    typer.run(main)
