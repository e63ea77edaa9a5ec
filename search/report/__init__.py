"""What a person reads: result.json, report, figures, tables, progress, comparison."""
