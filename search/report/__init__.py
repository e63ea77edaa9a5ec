"""What a person reads: the result, report, figures, tables, progress, comparison."""
