"""Booleans where a number is due, and the project as it is, which passes."""

from tests.odd_input.case import Case

CASES = [
    Case("nothing-odd", exit_code=0, says=("photos:",)),
]
