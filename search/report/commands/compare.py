"""`python -m search.compare`: two searches side by side (`search.report.compare`)."""

import typer

from search.report.compare import main

if __name__ == "__main__":
    typer.run(main)
