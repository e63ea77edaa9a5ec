"""`python -m search.sync`: MLflow is given what it has missed (`search.tracking`)."""

import typer

from search.tracking.__main__ import main

if __name__ == "__main__":
    typer.run(main)
