"""What training costs, beside a plain loop."""
